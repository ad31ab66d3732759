"""Commands and files in a live instance of each target, through the one protocol, on the real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE, has_ended

from pybench.harness.errors import InstanceError
from pybench.harness.model import Readiness, Resources, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import HasCommands, Instance
from pybench.runtime.journal import open_journal
from pybench.runtime.leftovers import remove_leftovers
from pybench.vm_images import Image

READY = Workload(
    "hello",
    "minimal",
    ("/bin/workload", "ready"),
    readiness=Readiness("line", "ready"),
    resources=Resources(memory=64 * 2**20, pids=32),
)
OPTIONS: dict[str, dict[str, str | int | float | bool]] = {
    "process": {},
    "chroot": {},
    "container": {"writable": 8 * 2**20},
    "vm": {"accel": "tcg"},
}
SHELL = ("/bin/busybox", "sh", "-c")


class Both(HasCommands, Instance):
    """An instance that can run commands."""


@contextmanager
def running(kind: str, folder: Path, image: Image) -> Iterator[Both]:
    """One instance of a target; in the end nothing is left of it."""
    with open_journal() as journal:
        target = open_target(TargetChoice(kind, kind, 1, OPTIONS[kind]), TargetContext(journal, folder))
        try:
            target.prepare(READY, image)
            instance = target.launch(PATIENCE)
            assert isinstance(instance, HasCommands)
            yield instance  # type: ignore[misc]
            instance.stop(PATIENCE)
            assert instance.ended
        finally:
            target.cleanup()
        assert journal.entries == ()


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Iterator[Both]:
    """One virtual machine for all tests."""
    with running("vm", tmp_path_factory.mktemp("vm"), image) as instance:
        yield instance


@pytest.fixture(params=list(OPTIONS))
def instance(request: pytest.FixtureRequest, tmp_path: Path, image: Image) -> Iterator[Both]:
    """An instance of each target."""
    if request.param == "vm":
        yield request.getfixturevalue("guest")
        return
    with running(request.param, tmp_path, image) as started:
        yield started


def test_a_command_is_given_input_and_gives_output_and_status(instance: Both) -> None:
    """Both streams apart, the exit code or the signal, and no environment but what is asked for."""
    assert instance.ended == ""
    done = instance.execute([*SHELL, "cat; echo err >&2; exit 7"], PATIENCE, stdin=b"some input\n")
    assert (done.status, done.stdout, done.stderr) == (7, b"some input\n", b"err\n")
    assert instance.execute([*SHELL, "kill -9 $$"], PATIENCE).status == -signal.SIGKILL
    named = instance.execute(["/bin/busybox", "env"], PATIENCE, environment={"A": "b"})
    assert named.stdout == b"A=b\n"
    usual = instance.execute(["/bin/busybox", "env"], PATIENCE).stdout.split()
    assert b"HOME=/root" in usual
    assert instance.execute(["/bin/busybox", "pwd"], PATIENCE).stdout == b"/\n"


def test_a_command_that_cannot_be_run_says_so(instance: Both) -> None:
    """It is an error of the instance, which goes on."""
    with pytest.raises(InstanceError, match="nothing"):
        instance.execute(["/bin/nothing"], PATIENCE)
    assert instance.execute(["/bin/busybox", "true"], PATIENCE).status == 0


def test_a_flood_is_refused(instance: Both) -> None:
    """Output beyond the limit is an error, not a truncated answer."""
    with pytest.raises(InstanceError, match="more than 1000 bytes"):
        instance.execute([*SHELL, "yes | head -c 300000"], PATIENCE, output_limit=1000)
    assert instance.ended == ""


def test_when_the_time_is_over_everything_it_started_is_gone(instance: Both) -> None:
    """Its children as well, whether they hold its output or not; the next command finds none of them."""
    # The host's processes are those of other tests, too.
    number = 1_000_000 + os.getpid()
    script = f"sleep {number} & sleep {number} >/dev/null 2>&1 & wait"
    with pytest.raises(InstanceError):
        instance.execute([*SHELL, script], 1.0)
    # One that was killed may still have to be reaped, and has no command line any more.
    count = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'slee[p] {number}'"
    assert instance.execute([*SHELL, count], PATIENCE).stdout.strip() == b"0"


def test_a_file_is_copied_in(instance: Both) -> None:
    """With content and mode; a place that is not there is an error."""
    content = os.urandom(70_000)
    path = f"/tmp/pybench-test-{os.urandom(4).hex()}"
    instance.copy_in(path, content, 0o750)
    done = instance.execute(["/bin/busybox", "cat", path], PATIENCE)
    assert done.stdout == content
    assert instance.execute(["/bin/busybox", "stat", "-c", "%a", path], PATIENCE).stdout == b"750\n"
    with pytest.raises(InstanceError):
        instance.copy_in("/nowhere/at/all", b"x")


def test_what_a_bare_command_leaves_behind_is_ended_with_it(image: Image, tmp_path: Path) -> None:
    """A daemon that it starts, and its file, are gone, and the file was in nobody's way."""
    path = tmp_path / "payload"
    with open_journal() as journal:
        target = open_target(TargetChoice("process", "process", 1, {}), TargetContext(journal, tmp_path))
        target.prepare(READY, image)
        instance = target.launch(PATIENCE)
        assert isinstance(instance, HasCommands)
        started = instance.execute([*SHELL, "sleep 4712 >/dev/null 2>&1 & echo $!"], PATIENCE)
        assert has_ended(int(started.stdout))
        instance.copy_in(str(path), b"content")
        with pytest.raises(InstanceError, match="File exists"):
            instance.copy_in(str(path), b"other")
        assert path.read_bytes() == b"content"
        target.cleanup()
        assert not path.exists()
        assert journal.entries == ()


KILLED = """
import os, signal, sys
from pathlib import Path
from pybench.runtime.files import TemporaryFile
from pybench.runtime.journal import open_journal
with open_journal() as journal:
    TemporaryFile.make(journal, Path(sys.argv[1]), b"x", 0o600)
    TemporaryFile.make(journal, Path(sys.argv[2]), b"x", 0o600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_of_a_killed_run_is_removed_unless_it_is_anothers(tmp_path: Path) -> None:
    """The journal knows the file itself, not just its name."""
    first, second = tmp_path / "first", tmp_path / "second"
    subprocess.run([sys.executable, "-c", KILLED, str(first), str(second)], check=False, timeout=300)
    assert first.exists()
    # Renamed and not removed: a new file might get the number of the old one.
    second.rename(tmp_path / "elsewhere")
    second.write_text("somebody else's", encoding="utf-8")
    list(remove_leftovers())
    assert not first.exists()
    assert second.read_text(encoding="utf-8") == "somebody else's"
