"""`pybench report`, from the command line to files and exit codes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from gate_runs import night_run, store_night
from report_runs import failed_sample

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]
PLACE = Path("results") / "pybench.sqlite"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of fourteen nights, the last four of them slower, being the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    (tmp_path / "results").mkdir()
    with Store.open(PLACE) as store:
        for number in range(14):
            store_night(store, number, {"startup.ready": 1.3} if number > 9 else None)
        store.tags.set("main", "night-08")
    return tmp_path


def text_of(path: Path) -> str:
    """What stands in a page, without scripts, styles and tags."""
    page = re.sub(r"<(script|style).*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_newest_run_is_reported_beside_its_results(project: Path, capsys: Captured) -> None:
    """Without arguments the newest run is reported, where `pybench run` would, and the path is told."""
    assert command_line(["report"]) == 0
    path = project / "results" / "night-13" / "report.html"
    assert capsys.readouterr().out.strip() == str(path.relative_to(project))
    text = text_of(path)
    assert "Run night-13" in text
    assert "At least one cell is worse than it may be. Baseline: night-08" in text
    assert re.search(r"Start until ready of a container: worse since night-10: \+(29|3\d) %", text)


def test_a_baseline_is_chosen_by_name(project: Path) -> None:
    """`--baseline` holds the run against that one; a run like it has no cell that is worse."""
    assert command_line(["report", "night-05", "--baseline", "night-04", "-o", "out.html"]) == 0
    text = text_of(project / "out.html")
    assert "Baseline: night-04" in text
    assert "At least one cell is worse" not in text


def test_another_kernel_forbids_the_comparison_and_is_named(project: Path) -> None:
    """Runs that are not alike are not judged; the fields are told, with both values."""
    with Store.open(PLACE) as store:
        store_night(store, 20, None, **{"host.kernel": "6.18"})
    assert command_line(["report", "night-20", "-o", "out.html"]) == 0
    text = text_of(project / "out.html")
    assert "not held against its baseline" in text
    assert re.search(r"! host.kernel 6\.1 6\.18", text)


def test_the_first_run_has_no_history(project: Path) -> None:
    """Without any earlier run there is no section on history, and nothing is said to be worse."""
    assert command_line(["report", "night-00", "-o", "out.html"]) == 0
    assert "Against its past" not in text_of(project / "out.html")


def test_an_exported_file_is_reported_without_a_record(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that comes from a file needs no record."""
    assert command_line(["export", "night-03", "--output", str(project / "one.jsonl")]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command_line(["report", "../one.jsonl", "-o", "one.html"]) == 0
    assert "Run night-03" in text_of(Path("one.html"))


@pytest.mark.usefixtures("project")
def test_an_interrupted_run_of_failures_has_a_report() -> None:
    """What failed and why is on the page, and that the run did not end."""
    with Store.open(PLACE) as store:
        store.begin_run(replace(night_run(30), status="interrupted"))
        store.add_samples("night-30", [failed_sample("vm", "no <b>kernel</b>")])
        store.finish_run("night-30", "interrupted", "2026-02-01T00:00:00.000Z")
    assert command_line(["report", "night-30", "-o", "out.html"]) == 0
    text = text_of(Path("out.html"))
    assert "interrupted before its plan ended" in text
    assert "no &lt;b&gt;kernel&lt;/b&gt;" in text


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["night-99"], "there is no run, tag or branch 'night-99'", id="unknown-run"),
        pytest.param(["latest", "--baseline", "nope"], "no run, tag or branch 'nope'", id="unknown-baseline"),
        pytest.param(["none.parquet"], "there is no such file", id="unknown-file"),
        pytest.param(["latest", "-o", "no/such/folder.html"], "cannot write the report", id="unwritable"),
        pytest.param(["latest", "--results", "elsewhere"], "elsewhere", id="no-record"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(arguments: list[str], words: str, capsys: Captured) -> None:
    """What cannot be done exits 2 with a line that names it, and writes nothing."""
    assert command_line(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_several_runs_are_set_side_by_side(project: Path, capsys: Captured) -> None:
    """Two names give one page in which the second is held against the first."""
    assert command_line(["report", "night-05", "night-12"]) == 0
    path = project / capsys.readouterr().out.strip()
    assert path.parent == project / "results"
    assert "night-12 against night-05: of 2 cells 1 worse" in text_of(path).replace("\u00a0", " ")


def test_runs_side_by_side_are_written_as_text_too(project: Path) -> None:
    """`--format markdown` of several runs holds each against the first."""
    assert command_line(["report", "night-05", "night-12", "--format", "markdown", "-o", "two.md"]) == 0
    text = (project / "two.md").read_text(encoding="utf-8")
    assert "night-12 against night-05: of 2 cells 1 worse" in text.replace("\u00a0", " ")


@pytest.mark.usefixtures("project")
def test_markdown_goes_where_it_is_wanted(capsys: Captured) -> None:
    """`--format markdown` writes the same report as text."""
    assert command_line(["report", "--format", "markdown", "--output", "out.md"]) == 0
    assert capsys.readouterr().out == "out.md\n"
    text = Path("out.md").read_text(encoding="utf-8")
    assert text.startswith("# startup\n")
    assert "At least one cell is worse than it may be." in text


@pytest.mark.usefixtures("project")
def test_a_pdf_without_chromium_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """What is missing and the command that installs it are told, with exit code 3."""
    monkeypatch.setenv("PYBENCH_CHROMIUM", "/no/such/browser")
    assert command_line(["report", "--format", "pdf"]) == 3
    assert "apt-get install chromium" in capsys.readouterr().err
