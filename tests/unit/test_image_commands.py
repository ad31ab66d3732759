"""Programs that a build runs: bounded, limited in time, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pybench.runtime.errors import HostError
from pybench.vm_images import commands


def test_a_program_that_is_missing_names_the_package_to_install() -> None:
    """The hint is the command that installs it."""
    with pytest.raises(HostError, match="no-such-program is missing") as caught:
        commands.run(["no-such-program"], package="some-package")
    assert caught.value.hint == "apt-get install some-package"


def test_output_beyond_the_limit_is_dropped_and_the_program_not_blocked() -> None:
    """A program that prints without measure ends normally, and only the first part is kept."""
    printed = commands.run(["head", "-c", "5000000", "/dev/zero"], package="coreutils")
    assert len(printed) == commands.OUTPUT_LIMIT


def run_beyond_its_time(script: str, sign: Path) -> None:
    """Run a shell's program, which makes the sign and then waits, for longer than it may take.

    A busy host may not get it as far as the sign in a short time: it is given ever more.
    """
    for patience in (0.5, 4, 32):
        with pytest.raises(HostError, match="did not finish within"):
            commands.run(["sh", "-c", script], package="dash", timeout=patience)
        if sign.exists():
            return
    pytest.fail(f"{script} did nothing in {patience} s")


def wait_until_it_runs_no_more(pid: str) -> None:
    """An orphan may stay a zombie until its new parent looks."""
    status = Path("/proc", pid, "stat")
    deadline = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    """After the time limit neither the program nor what it started is running."""
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    run_beyond_its_time(script, pids)
    child, shell = pids.read_text().split()
    wait_until_it_runs_no_more(child)
    assert not Path("/proc", shell).exists()


def test_a_failure_says_what_the_program_said_last_without_control_characters() -> None:
    """The message carries the last line, escaped; all of it is kept for whoever catches it."""
    with pytest.raises(commands.CommandError) as caught:
        commands.run(["sh", "-c", r"echo first; printf 'bad\033[31m news\n' >&2; exit 3"], package="dash")
    assert caught.value.message == "sh failed with code 3: bad�[31m news"
    assert caught.value.output.splitlines()[0] == "first"


def test_messages_are_in_english_and_standard_input_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's locale, output can be parsed; a program that reads gets the end at once."""
    monkeypatch.setitem(os.environ, "LC_ALL", "de_DE.UTF-8")
    assert commands.run(["sh", "-c", "cat; echo $LC_ALL"], package="dash") == "C\n"


def test_a_program_may_clean_up_before_it_is_killed(tmp_path: Path) -> None:
    """What runs too long is asked to end first."""
    trap = f"trap 'echo cleaned > {tmp_path / 'sign'}; exit 1' TERM"
    run_beyond_its_time(f"{trap}; sleep 1000 & : > {tmp_path / 'set'}; wait", tmp_path / "set")
    assert (tmp_path / "sign").read_text() == "cleaned\n"


def test_a_tied_program_goes_by_its_own_name() -> None:
    """What ties it to its builder is no part of a message."""
    with pytest.raises(commands.CommandError, match=r"^sh failed with code 3$"):
        commands.run(commands.tied(["sh", "-c", "exit 3"]), package="dash")


def test_a_tied_program_ends_with_its_builder(tmp_path: Path) -> None:
    """Killed without a chance to do anything, the builder takes the program with it."""
    pid = tmp_path / "pid"
    script = (
        "from pybench.vm_images import commands\n"
        f"program = commands.tied(['sh', '-c', 'echo $$ > {pid}; exec sleep 1000'])\n"
        "commands.run(program, package='dash', timeout=1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as builder:
        deadline = time.monotonic() + 120
        while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        builder.kill()
    wait_until_it_runs_no_more(pid.read_text().strip())
