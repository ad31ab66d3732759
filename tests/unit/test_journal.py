"""The journal: what was made is known to the next process, however this one ended."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pybench.runtime import journal as journal_module
from pybench.runtime.journal import journals, open_journal, remove_unfinished, take_abandoned


def test_nothing_is_left_of_a_journal_whose_entries_are_gone(tmp_path: Path) -> None:
    """A journal in which everything was forgotten is removed with its directory."""
    directory = tmp_path / "state"
    directory.mkdir()
    with open_journal(directory) as journal:
        journal.forget(journal.record("cgroup", path="/x"))
        assert len(journals(directory)) == 1
    assert not directory.exists()


def test_a_living_owners_journal_cannot_be_taken(tmp_path: Path) -> None:
    """The cleaner leaves alone what a living process has made."""
    with open_journal(tmp_path) as journal:
        journal.record("cgroup", path="/x")
        with take_abandoned(journal.path) as entries:
            assert entries is None
        assert journal.path.exists()


def test_entries_of_a_dead_owner_come_newest_first(tmp_path: Path) -> None:
    """What was made last is removed first, and what was forgotten is not named."""
    with open_journal(tmp_path) as journal:
        journal.record("cgroup", path="/first")
        journal.forget(journal.record("cgroup", path="/forgotten"))
        journal.record("domain", name="last")
    (path,) = journals(tmp_path)
    with take_abandoned(path) as entries:
        assert entries is not None
        assert [(entry.kind, dict(entry.details)) for entry in entries] == [
            ("domain", {"name": "last"}),
            ("cgroup", {"path": "/first"}),
        ]
    assert not path.exists()


def test_a_failed_clean_up_keeps_the_journal(tmp_path: Path) -> None:
    """If removing fails, the journal is there for the next attempt."""
    with open_journal(tmp_path) as journal:
        journal.record("cgroup", path="/x")
    (path,) = journals(tmp_path)
    with pytest.raises(RuntimeError), take_abandoned(path):
        raise RuntimeError
    assert path.exists()


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    """A line that was being written when the owner died announces nothing."""
    with open_journal(tmp_path) as journal:
        journal.record("cgroup", path="/x")
    (path,) = journals(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"made": 1, "kind": "cgr')
    with take_abandoned(path) as entries:
        assert entries is not None
        assert [entry.kind for entry in entries] == ["cgroup"]


def test_a_killed_owner_leaves_a_journal_that_can_be_taken(tmp_path: Path) -> None:
    """SIGKILL drops the lock and keeps the entries."""
    program = """
        import sys, time
        from pathlib import Path
        from pybench.runtime.journal import open_journal
        with open_journal(Path(sys.argv[1])) as journal:
            journal.record("cgroup", path="/x")
            print("ready", flush=True)
            time.sleep(60)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        owner.kill()
    (path,) = journals(tmp_path)
    with take_abandoned(path) as entries:
        assert entries is not None
        assert len(entries) == 1


def test_what_an_owner_leaves_that_dies_before_it_has_a_journal_is_removed(tmp_path: Path) -> None:
    """SIGKILL between making the file and giving it its name leaves a file that means nothing."""
    program = """
        import os, signal, sys
        from pathlib import Path
        from pybench.runtime.journal import open_journal
        Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with open_journal(Path(sys.argv[1])):
            pass
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert journals(tmp_path) == []
    assert list(remove_unfinished(tmp_path)) == [left]
    assert list(tmp_path.iterdir()) == []


def test_a_living_owner_gets_its_journal_beside_a_cleaner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its file is taken for a dead owner's before it is locked, the owner makes another."""
    flock = fcntl.flock
    removed: list[Path] = []

    def clean_before(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not removed:
            removed.extend(remove_unfinished(tmp_path))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", clean_before)
    with open_journal(tmp_path) as journal:
        assert len(removed) == 1
        assert list(tmp_path.iterdir()) == [journal.path]
        assert list(remove_unfinished(tmp_path)) == []
        with take_abandoned(journal.path) as entries:
            assert entries is None


def test_a_directory_that_the_last_user_removes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journals are opened and closed side by side, and each may be the last one."""

    def place() -> Path:
        path = tmp_path / "state"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        return path

    def open_often() -> None:
        for _ in range(300):
            with open_journal():
                pass

    monkeypatch.setattr(journal_module, "state_directory", place)
    with ThreadPoolExecutor(4) as threads:
        for running in [threads.submit(open_often) for _ in range(4)]:
            running.result()
    assert not (tmp_path / "state").exists()
