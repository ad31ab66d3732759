"""The site of all runs: what it shows, what it writes again, and what it leaves alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from gate_runs import night_run, night_samples, store_night
from report_runs import HOSTILE

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]
PLACE = Path("results") / "pybench.sqlite"


class Links(HTMLParser):
    """Collects what a page links to and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - given by the parser
        """Note the address of a link or a script."""
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


def files(folder: Path) -> dict[Path, int]:
    """Every file with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of fourteen nights on one host, the last four slower, and the site of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    (tmp_path / "results").mkdir()
    with Store.open(PLACE) as store:
        for number in range(14):
            store_night(store, number, {"startup.ready": 1.3} if number > 9 else None)
        store.tags.set("main", "night-08")
    assert command_line(["report", "--site", "site"]) == 0
    return tmp_path / "site"


def test_index_shows_scenarios_verdict_and_every_run(project: Path) -> None:
    """The first page has the newest answer with its verdict, and a line for every run, the newest first."""
    page = (project / "index.html").read_text(encoding="utf-8")
    assert "a cell is worse than it may be" in page
    assert "A container is ready after 1.9" in page.replace("\u00a0", " ")
    days = re.findall(r">(2026-01-\d\d 22:00:00) UTC</a>", page)
    assert days == sorted(days, reverse=True)
    assert len(days) == 14


def test_trends_have_change_points(project: Path) -> None:
    """The scenario's page says since which run its level is another, cell by cell."""
    page = (project / "scenarios" / "startup.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert re.search(r"Start until ready of a container: worse since night-10: \+(29|3\d) %", page)
    assert "alpha, branch main" in page


def test_every_link_leads_somewhere(project: Path) -> None:
    """No page links to, or loads, what is not in the folder; nothing leaves it."""
    for path in project.rglob("*.html"):
        links = Links()
        links.feed(path.read_text(encoding="utf-8"))
        for link in links.found:
            if link.startswith(("#", "data:")):
                continue
            assert not re.match(r"[a-z]+:|/", link), link
            assert (path.parent / link.partition("#")[0]).is_file(), (path, link)


def test_a_page_of_a_run_holds_no_library(project: Path) -> None:
    """The library lies in the folder once; a run's page is small."""
    assert len(list((project / "assets").iterdir())) == 1
    assert max(path.stat().st_size for path in (project / "runs").iterdir()) < 400_000


def test_only_what_is_new_is_written_again(project: Path, capsys: Captured) -> None:
    """After one more night its page, the trends and the index are written; the other runs' pages are not."""
    before = files(project)
    with Store.open(PLACE) as store:
        store_night(store, 14)
    capsys.readouterr()
    assert command_line(["report", "--site", "site"]) == 0
    assert capsys.readouterr().out == "site/index.html: 1 run drawn, 14 up to date\n"
    changed = {path.relative_to(project) for path, time in files(project).items() if before.get(path) != time}
    assert {path.parts[0] for path in changed} == {"index.html", "site.json", "scenarios", "runs"}
    assert len([path for path in changed if path.parts[0] == "runs"]) == 1


def test_what_was_removed_from_the_record_leaves_the_site(project: Path, capsys: Captured) -> None:
    """A pruned run's page goes; the rest stays."""
    with Store.open(PLACE) as store:
        store.remove_runs(["night-03"])
    capsys.readouterr()
    assert command_line(["report", "--site", "site"]) == 0
    assert "0 runs drawn, 13 up to date, 1 removed" in capsys.readouterr().out
    assert not list((project / "runs").glob("night-03-*"))
    assert "night-03" not in (project / "site.json").read_text(encoding="utf-8")


def test_a_tag_and_a_note_are_news(project: Path, capsys: Captured) -> None:
    """A run that was tagged or noted since is shown with that."""
    assert command_line(["history", "note", "night-02", "new <kernel>"]) == 0
    capsys.readouterr()
    assert command_line(["report", "--site", "site"]) == 0
    assert "1 run drawn" in capsys.readouterr().out
    page = (project / "index.html").read_text(encoding="utf-8")
    assert "new &lt;kernel&gt;" in page
    assert ">main<" in page.replace("<bdi>", "").replace("</bdi>", "")


def test_an_interrupted_build_is_taken_up(project: Path) -> None:
    """A state that was cut short is built anew instead of failing."""
    (project / "site.json").write_text('{"format": 1, "ru', encoding="utf-8")
    assert command_line(["report", "--site", "site"]) == 0
    assert "night-13" in (project / "site.json").read_text(encoding="utf-8")


def test_hostile_names_stay_text(project: Path) -> None:
    """Whatever a run is called, its page lies in the folder, and nothing of its name becomes markup."""
    run = night_run(20, **{"host.name": HOSTILE[:300], "source.branch": HOSTILE[:300]})
    with Store.open(PLACE) as store:
        for name in ("../../../escaped", HOSTILE[:90]):
            store.begin_run(replace(run, id=name, scenario=HOSTILE[:60]))
            store.add_samples(name, night_samples(3))
            store.finish_run(name, "done", run.started)
    assert command_line(["report", "--site", "site"]) == 0
    assert {path.parent for path in project.parent.rglob("*escaped*")} == {project / "runs"}
    for path in project.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<img" not in text
        assert "<script>document.title" not in text


@pytest.mark.usefixtures("project")
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, capsys: Captured) -> None:
    """A folder with other content is refused, as are a run and an output beside --site."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "index.html").write_text("mine", encoding="utf-8")
    assert command_line(["report", "--site", "photos"]) == 2
    assert "is no site of ours" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["index.html"]
    assert command_line(["report", "night-03", "--site", "other"]) == 2
    assert command_line(["report", "--site", "results/pybench.sqlite"]) == 2


def test_an_empty_record_has_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run the site says how to make one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    Store.open(PLACE).close()
    assert command_line(["report", "--site", "site"]) == 0
    assert "pybench run startup" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
