"""Readings tell a value, or why there is none; never a value that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.measure.memory import read_memory
from pybench.harness.measure.startup import read_startup
from pybench.harness.measure.teardown import read_teardown
from pybench.harness.model import Mark
from pybench.harness.targets.mock import MockInstance


def instance(*instants: tuple[str, int]) -> MockInstance:
    """An instance with marks at the given nanoseconds."""
    return MockInstance(tuple(Mark(name, at, f"{name}-pipe", 1e-6) for name, at in instants))


class Processes(MockInstance):
    """An instance of the given processes."""

    pids: tuple[int, ...] = ()

    @property
    def processes(self) -> tuple[int, ...]:
        """The given ones."""
        return self.pids


def of_processes(*pids: int, cgroup: int | None = None) -> Processes:
    """An instance of the given processes."""
    made = Processes((), cgroup_memory=cgroup)
    made.pids = pids
    return made


def test_start_up_is_read_off_the_marks() -> None:
    """Exec, ready and one phase per neighbouring pair, with the later mark's channel and both resolutions."""
    readings = read_startup(instance(("request", 1000), ("sandbox", 4000), ("exec", 9000), ("ready", 10_000)))
    assert {reading.metric: reading.value for reading in readings} == {
        "startup.exec": pytest.approx(8e-6),
        "startup.ready": pytest.approx(9e-6),
        "startup.phase.sandbox": pytest.approx(3e-6),
        "startup.phase.exec": pytest.approx(5e-6),
        "startup.phase.ready": pytest.approx(1e-6),
    }
    assert readings[0].channel == "exec-pipe"
    assert readings[0].resolution == pytest.approx(2e-6)


def test_what_was_prepared_ahead_is_told_and_not_counted() -> None:
    """The time before the request is a reading of its own and no part of the start."""
    readings = read_startup(instance(("preparing", 0), ("request", 700), ("ready", 1000)))
    assert {reading.metric: reading.value for reading in readings} == {
        "startup.ahead": pytest.approx(7e-7),
        "startup.ready": pytest.approx(3e-7),
        "startup.phase.ready": pytest.approx(3e-7),
    }


def test_a_workload_that_does_not_mark_its_first_instruction_has_no_exec() -> None:
    """There is no failed sample for something that was never promised."""
    readings = read_startup(instance(("request", 0), ("ready", 10)))
    assert [reading.metric for reading in readings] == ["startup.ready", "startup.phase.ready"]


def test_a_missing_mark_is_a_reading_without_a_value() -> None:
    """The reason names the mark."""
    (reading,) = read_startup(instance(("request", 0)))
    assert reading.value is None
    assert "'ready'" in reading.reason


def test_time_never_runs_backwards() -> None:
    """Marks in the wrong order give a reason instead of a negative duration."""
    (reading,) = read_teardown(instance(("stopping", 100), ("stopped", 40)))
    assert reading.value is None
    assert "precedes 'stopping' by 60 ns" in reading.reason


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=12))
def test_phases_always_add_up(gaps: list[int]) -> None:
    """Whatever the marks, the phases add up to the total to the nanosecond."""
    names = [f"m{number}" for number in range(len(gaps) - 1)] + ["ready"]
    at, instants = 12345, [("request", 12345)]
    for name, gap in zip(names, gaps, strict=True):
        at += gap
        instants.append((name, at))
    values = {reading.metric: reading.value or 0.0 for reading in read_startup(instance(*instants))}
    total = values.pop("startup.ready")
    assert sum(round(value * 1e9) for value in values.values()) == round(total * 1e9) == sum(gaps)


def test_memory_covers_the_children() -> None:
    """A child's memory is counted with its parent's, and a process named twice is counted once."""
    program = (
        "import subprocess, sys\n"
        "hold = bytearray(b'x' * 20_000_000)\n"
        "if len(sys.argv) == 2:\n"
        "    child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE, stdout=1)\n"
        "    sys.stdin.read(); child.communicate()\n"
        "else:\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        reading, *others = read_memory(of_processes(parent.pid, parent.pid))
        parent.communicate()
    assert reading.metric == "memory.host.pss"
    assert (reading.unit, reading.channel) == ("B", "smaps")
    assert 40e6 < (reading.value or 0) < 90e6
    values = {other.metric: other.value or 0.0 for other in others}
    # More than 40 MB are nobody else's; a shared page is in pss in part, and in rss once for each of the two.
    assert 40e6 < values["memory.host.uss"] <= (reading.value or 0) <= values["memory.host.rss"]
    assert values["memory.host.rss"] < values["memory.host.mapped"]


def test_the_cgroups_figure_is_read_where_there_is_one() -> None:
    """It comes beside the processes' own."""
    readings = read_memory(of_processes(os.getpid(), cgroup=12345))
    assert (readings[-1].metric, readings[-1].value) == ("memory.host.cgroup", 12345.0)


def test_a_process_that_vanished_is_a_reason() -> None:
    """An instance that died before it was measured has no memory figure, and says why."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (reading,) = read_memory(of_processes(gone.pid))
    assert reading.value is None
    assert f"process {gone.pid} of the instance vanished" in reading.reason


def test_a_process_that_came_and_went_is_not_missed() -> None:
    """Of an instance that forks all the time some end while the others are read; these count."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    readings = read_memory(of_processes(gone.pid, os.getpid()))
    values = {reading.metric: reading.value or 0.0 for reading in readings}
    assert values["memory.host.rss"] > 1e6


def test_a_zombie_is_a_reason() -> None:
    """A process that ended but was not reaped has no memory to read."""
    with subprocess.Popen([sys.executable, "-c", ""]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        (reading,) = read_memory(of_processes(zombie.pid))
    assert reading.value is None
    assert "vanished" in reading.reason


def test_an_instance_without_processes_is_a_reason() -> None:
    """Nothing is not zero bytes."""
    (reading,) = read_memory(of_processes())
    assert reading.value is None
    assert "no process" in reading.reason
