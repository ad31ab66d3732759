"""`pybench history` and `pybench export`, from the command line to lines and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from store_behaviour import SAMPLE, run_of

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a record of three runs that get slower, being the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    (tmp_path / "results").mkdir()
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        for number in (1, 2, 3):
            fields = {"host.name": "alpha", "source.branch": "main", "source.commit": "0123456789abcdef"}
            store.begin_run(run_of(number, **fields))
            sample = replace(SAMPLE, metric="startup.ready", target="container", value=number * 1e-3)
            store.add_samples(f"startup-{number}", [replace(sample, order=order) for order in range(4)])
    return tmp_path


@pytest.mark.usefixtures("project")
def test_runs_are_listed_with_their_trend(capsys: Captured) -> None:
    """One line per run, the oldest first, then a sparkline with both ends and the change."""
    assert command_line(["history", "tag", "startup-2", "main"]) == 0
    assert command_line(["history", "note", "main", "new kernel"]) == 0
    capsys.readouterr()
    assert command_line(["history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["startup-1", "startup-2", "startup-3"]
    assert lines[2].endswith("main · new kernel")
    assert "▁▄█" in lines[-1].replace("▅", "▄")
    assert "+200.0 %" in lines[-1]


@pytest.mark.usefixtures("project")
def test_the_list_is_data_on_request(capsys: Captured) -> None:
    """JSON has runs and trends, filtered alike."""
    assert command_line(["history", "--format", "json", "--since", "2025-11-02", "--host", "alpha"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in content["runs"]] == ["startup-2", "startup-3"]
    assert content["runs"][0]["samples"] == 4
    assert content["trends"][0]["medians"] == [0.002, 0.003]
    assert command_line(["history", "--branch", "nobody"]) == 0
    assert "no run is like this" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_names_that_no_run_has_are_told_with_the_nearest(capsys: Captured) -> None:
    """A filter by a misspelt name must not look like a record without runs."""
    command_line(["history", "tag", "startup-1", "good"])
    capsys.readouterr()
    for option, name, meant in (
        ("--scenario", "statrup", "startup"),
        ("--branch", "mian", "main"),
        ("--host", "alhpa", "alpha"),
    ):
        assert command_line(["history", option, name]) == 0
        assert f"'{name}'; did you mean {meant}?" in capsys.readouterr().out
    assert command_line(["history", "--branch", "main", "--until", "2000-01-01"]) == 0
    assert capsys.readouterr().out == "no run is like this\n"
    assert command_line(["history", "--tag", "goood"]) == 2
    assert command_line(["history", "untag", "goood"]) == 2
    assert command_line(["compare", "startup-1", "lateest"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("did you mean good?") == 2
    assert "did you mean latest" in errors


@pytest.mark.usefixtures("project")
def test_a_tag_moves_and_ends(capsys: Captured) -> None:
    """The command says what the tag named before; an unknown run or tag is bad input."""
    command_line(["history", "tag", "startup-1", "main"])
    command_line(["history", "tag", "latest", "main"])
    assert "main is startup-3, before startup-1" in capsys.readouterr().out
    assert command_line(["history", "untag", "main"]) == 0
    assert command_line(["history", "untag", "main"]) == 2
    assert command_line(["history", "tag", "startup-9", "main"]) == 2
    assert "did you mean startup-" in capsys.readouterr().err


def test_pruning_is_told_before_it_is_done(project: Path, capsys: Captured) -> None:
    """Without --yes nothing is removed; tagged runs stay; without a rule it is bad usage."""
    assert command_line(["history", "prune"]) == 2
    command_line(["history", "tag", "startup-1", "main"])
    assert command_line(["history", "prune", "--keep-last", "1"]) == 0
    assert "would remove startup-2" in capsys.readouterr().out
    assert command_line(["history", "prune", "--keep-last", "1", "--yes"]) == 0
    with Store.open(project / "results" / "pybench.sqlite") as store:
        assert [run.id for run in store.runs()] == ["startup-1", "startup-3"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_an_export_is_imported_elsewhere(project: Path, capsys: Captured, ending: str) -> None:
    """Runs go through a file into another record, with tags and notes; importing twice adds nothing."""
    for words in (
        ["tag", "startup-1", "main"],
        ["tag", "latest", "main"],
        ["note", "main", "Größe ½"],
    ):
        assert command_line(["history", *words]) == 0
    capsys.readouterr()
    file = f"out.{ending}"
    assert command_line(["export", "main", "startup-1", "--output", file]) == 0
    assert "2 runs with 8 samples" in capsys.readouterr().out
    other = ["--store", str(project / "other.sqlite")]
    assert command_line(["history", "import", file, *other]) == 0
    assert command_line(["history", "import", file, *other]) == 0
    out = capsys.readouterr().out
    assert out.count("4 samples added") == 2
    assert out.count("0 samples added") == 2
    places = [project / "other.sqlite", project / "results" / "pybench.sqlite"]
    with Store.open(places[0]) as one, Store.open(places[1]) as two:
        for name in ("startup-1", "startup-3"):
            assert one.run(name) == two.run(name)
            assert one.samples(name) == two.samples(name)
            assert one.tags.of_run(name) == two.tags.of_run(name)
            assert one.tags.notes([name]) == two.tags.notes([name])
        assert one.tags.earlier("main") == ["startup-1"]
        one.tags.set("main", "startup-1")
    assert command_line(["history", "import", file, *other]) == 0
    assert "main is startup-1 here, and stays that" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_bad_usage_is_one_line(capsys: Captured) -> None:
    """No record, no server, a date that is none: exit code 2 and no traceback."""
    assert command_line(["history", "--store", "absent.sqlite"]) == 2
    assert command_line(["history", "sync"]) == 2
    assert command_line(["history", "--since", "yesterday"]) == 2
    assert command_line(["history", "import", "absent.parquet"]) == 2
    assert "Traceback" not in capsys.readouterr().err
