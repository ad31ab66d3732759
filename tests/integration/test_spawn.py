"""The C extension on the real kernel: steps, failures and the memory it shares with its child."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from pybench.runtime.container.instance import Readiness, launch
from pybench.runtime.container.sandbox import NAMESPACES, stdio_steps
from pybench.runtime.container.spawn import _spawn
from pybench.runtime.container.spawn.spawner import Program, Spawner, pipe_resolution
from pybench.runtime.container.spawn.steps import (
    CloseFrom,
    Duplicate,
    FileModeMask,
    HostName,
    MakeFilesystem,
    Pivot,
    ResourceLimit,
    Step,
    WorkingDirectory,
)
from pybench.runtime.errors import InstanceError
from pybench.runtime.journal import Journal

AT_ONCE = Readiness(marking=False, line=None)
SHELL = "/bin/sh"


@pytest.fixture
def spawner(journal: Journal) -> Iterator[Spawner]:
    """A spawner of the test's own."""
    with Spawner(journal) as opened:
        yield opened


def run(spawner: Spawner, script: str, *steps: Step, namespaces: int = 0) -> tuple[int | None, str]:
    """Exit status and output of a shell script after some steps."""
    program = Program.compile(
        (*steps, *stdio_steps(marking=False)), (SHELL, "-c", script), {"PATH": os.environ["PATH"]}, namespaces
    )
    instance = spawner.call(lambda: launch(spawner, program, AT_ONCE, PATIENCE))
    try:
        assert instance.wait(PATIENCE)
    finally:
        instance.kill()
        instance.release()
    return instance.status, instance.tail.text


def test_output_and_exit_code_come_back(spawner: Spawner) -> None:
    """Output, errors and the exit code of the program are the instance's."""
    assert run(spawner, "echo out; echo err >&2; exit 7") == (7, "out\nerr\n")


def test_a_signals_number_comes_back(spawner: Spawner) -> None:
    """A program that a signal ended has minus that signal as its status."""
    assert run(spawner, "kill -USR1 $$")[0] == -signal.SIGUSR1


def test_signals_are_as_a_new_program_expects(spawner: Spawner) -> None:
    """Python ignores SIGPIPE; the program must not inherit that, nor a blocked signal."""
    _, text = run(spawner, "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert [int(line.split()[1], 16) for line in text.splitlines()] == [0, 0]


def test_steps_take_effect(spawner: Spawner) -> None:
    """Limits, umask and working directory are those the steps ask for."""
    steps = (ResourceLimit(resource.RLIMIT_NOFILE, 64, 64), FileModeMask(0o077), WorkingDirectory("/proc"))
    assert run(spawner, "ulimit -n; umask; pwd", *steps)[1].split() == ["64", "0077", "/proc"]


def test_a_failing_step_is_named(spawner: Spawner) -> None:
    """The message names the system call of the step that failed; the child is gone."""
    with pytest.raises(InstanceError, match="chdir /nowhere failed: No such file"):
        run(spawner, "true", WorkingDirectory("/nowhere"))


def test_a_filesystem_the_kernel_lacks_is_named(spawner: Spawner) -> None:
    """The refusal of fsopen is reported with the file system's name."""
    with pytest.raises(InstanceError, match="fsopen and fsmount of nosuchfs"):
        run(spawner, "true", MakeFilesystem(5, "nosuchfs"))


def test_an_unfilled_slot_is_an_error_not_a_crash(spawner: Spawner) -> None:
    """A step that uses a slot nobody filled fails with EBADF."""
    with pytest.raises(InstanceError, match="pivot_root failed: Bad file descriptor"):
        run(spawner, "true", Pivot(9))


def test_stdio_survives_low_descriptors(spawner: Spawner) -> None:
    """Pipes that happen to be numbered 0 to 3 are not overwritten while they are being passed."""
    steps = (Duplicate(1, 0), Duplicate(0, 1), CloseFrom(3))
    program = Program.compile(steps, (SHELL, "-c", "echo swapped >&0"), {}, 0)
    instance = spawner.call(lambda: launch(spawner, program, AT_ONCE, PATIENCE))
    assert instance.wait(PATIENCE)
    instance.release()
    assert instance.tail.text == "swapped\n"


def test_our_own_memory_is_untouched(spawner: Spawner) -> None:
    """errno, the signal mask and the dumpable flag of this process are as before, after 50 spawns."""
    libc = ctypes.CDLL(None, use_errno=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    dumpable = libc.prctl(3, 0, 0, 0, 0)
    ctypes.set_errno(errno.EXDEV)
    for _ in range(50):
        run(spawner, "true", HostName("x"), namespaces=NAMESPACES)
    assert ctypes.get_errno() == errno.EXDEV
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert libc.prctl(3, 0, 0, 0, 0) == dumpable == 1


def test_a_program_outlives_its_python_arguments(spawner: Spawner) -> None:
    """The compiled program keeps what its C strings point into."""
    program = Program.compile(
        stdio_steps(marking=False), (SHELL, "-c", "echo " + "word " * 1000), {"KEY": "value" * 100}, 0
    )
    gc.collect()
    instance = spawner.call(lambda: launch(spawner, program, AT_ONCE, PATIENCE))
    assert instance.wait(PATIENCE)
    instance.release()
    assert instance.tail.text.split() == ["word"] * 1000


def test_an_interrupted_wait_ends_at_once_and_leaves_nothing(spawner: Spawner) -> None:
    """Ctrl-C while waiting for readiness ends the program instead of waiting for the timeout."""
    program = Program.compile(stdio_steps(marking=False), ("/bin/sleep", "600"), {}, 0)
    readiness = Readiness(marking=False, line="never")
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    # Its timeout, or the program's end, would be told as another error.
    with pytest.raises(KeyboardInterrupt):
        spawner.call(lambda: launch(spawner, program, readiness, PATIENCE))
    children = Path(f"/proc/self/task/{main}/children")
    assert not children.exists() or children.read_text(encoding="ascii").strip() == ""


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-2, 40),
            st.lists(st.one_of(st.integers(-(2**63), 2**64 - 1), st.binary(max_size=20)), max_size=10),
        ),
        max_size=6,
    )
)
def test_nonsense_steps_are_refused_not_obeyed(nonsense: list[tuple[int, list[int | bytes]]]) -> None:
    """Whatever tuples come, building a program either works or raises; it never crashes."""
    steps = tuple((code, *values) for code, values in nonsense)
    try:
        _spawn.Program(steps, b"/bin/true", (b"true",), ())
    except (ValueError, TypeError, OverflowError):
        return


def test_the_pipes_resolution_is_measured() -> None:
    """The resolution of a pushed mark is positive and well below a millisecond's hundredfold."""
    assert 0 < pipe_resolution() < 0.1
