"""Waiting for the host, tuning it, holding it, and telling how it was and how late the harness is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pybench.harness import conditions
from pybench.harness.conditions import HostObserver
from pybench.harness.errors import HostError
from pybench.harness.measure import Reading
from pybench.harness.measure.error import estimated_error, rejections
from pybench.harness.model import Schedule, Settle
from pybench.harness.runner import tuning
from pybench.harness.runner.calibration import Latency, calibrate, calibration_fields
from pybench.harness.runner.lateness import SPAWNING, Lateness
from pybench.harness.runner.lock import LOCK_VARIABLE, host_lock
from pybench.harness.runner.settle import LOOK_INTERVAL, Settling


def test_the_host_is_observed_in_plain_units() -> None:
    """Shares between 0 and 1, memory as the kernel tells it, and every name is a declared one."""
    with HostObserver() as observer:
        time.sleep(0.03)
        values = observer.observe()
    assert {conditions.STEAL, conditions.BUSY, conditions.PAGE_CACHE, conditions.RUNNING} <= set(values)
    assert 0 <= values[conditions.STEAL] <= values[conditions.BUSY] <= 1
    assert 0 < values[conditions.AVAILABLE] < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if conditions.FREQUENCY in values:
        assert 1e8 < values[conditions.FREQUENCY] < 1e11


class Pretended(HostObserver):
    """A host that becomes quiet after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def running(self) -> int:
        """Nine runnable tasks, then one."""
        self.looks -= 1
        return 1 if self.looks < 0 else 9

    def pressure(self) -> None:
        """This host does not tell."""

    def temperature(self) -> None:
        """Nor this."""


def test_a_launch_waits_until_the_host_is_quiet() -> None:
    """No longer than needed, and what the host does not tell is not waited for."""
    host = Pretended(3)
    settle = Settle(running=2, pressure=0.1, temperature=50, timeout=300, in_all=300)
    assert Settling(settle, host).wait()
    assert host.looks == -1


def test_waiting_is_bounded_each_time_and_in_all() -> None:
    """A host that is never quiet delays a run by no more than the scenario allows."""
    host = Pretended(10**9)
    settling = Settling(Settle(running=2, timeout=0.1, in_all=0.15), host)
    began = time.monotonic()
    assert [settling.wait() for _ in range(200)] == [False] * 200
    assert time.monotonic() - began >= 0.15
    # Each wait has a look of its own; all others are apart by their interval within the time in all.
    assert 10**9 - host.looks <= 200 + 0.15 / LOOK_INTERVAL + 2


def test_a_launch_keeps_its_distance_from_the_last_instance() -> None:
    """On a quiet host, too, and from the moment when that was gone; the first launch has none to wait for."""
    settling = Settling(Settle(pause=0.2), Pretended(0))
    gone = time.monotonic() - 0.1
    assert settling.wait(gone)
    assert time.monotonic() - gone >= 0.2
    before = time.monotonic()
    assert Settling(Settle(pause=3600), Pretended(0)).wait()
    assert time.monotonic() - before < 1800


def test_a_run_is_held_to_its_processors_and_let_go() -> None:
    """Every thread, those that start meanwhile, and children; afterwards all is as it was."""
    before = os.sched_getaffinity(0)
    chosen = min(before)
    with tuning.tuned(Schedule(cpus=(chosen,))) as qualifiers:
        assert os.sched_getaffinity(0) == {chosen}
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert child.stdout.strip() == str({chosen})
        assert tuning.is_held([os.getpid()], [chosen])
        assert not tuning.is_held([os.getpid()], [chosen + 1])
    assert qualifiers == {"cpus": str(chosen)}
    assert os.sched_getaffinity(0) == before


def test_a_processor_that_is_not_there_is_told() -> None:
    """With those that are."""
    with (
        pytest.raises(HostError, match="processor 4000 is not available") as caught,
        tuning.tuned(Schedule(cpus=(4000,))),
    ):
        pass
    assert str(min(os.sched_getaffinity(0))) in caught.value.hint


def test_processors_are_kept_awake_where_permitted() -> None:
    """The kernel has the request while it holds and not afterwards, or the qualifier says why not."""

    def asked() -> int:
        with tuning.CPU_LATENCY.open("rb") as least:
            return int.from_bytes(least.read(4), sys.byteorder, signed=True)

    with tuning.tuned(Schedule(cpu_latency=7e-6)) as qualifiers:
        said = qualifiers["cpu-latency"]
        during = 7 if said == "refused" else asked()
    if said == "refused":
        assert not os.access(tuning.CPU_LATENCY, os.W_OK)
        return
    assert said in {"7 us", "without effect"}
    assert during <= 7
    if during == 7:  # nobody else asks for less
        assert asked() != 7


def test_priority_is_raised_where_permitted() -> None:
    """The qualifier says which it was, and it is put back."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with tuning.tuned(Schedule(priority="high")) as qualifiers:
        raised = os.getpriority(os.PRIO_PROCESS, 0) < before
    assert qualifiers["priority"] == ("high" if raised else "refused")
    if raised:
        assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_caches_that_cannot_be_dropped_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run does not begin, rather than measure warm caches as cold ones."""
    monkeypatch.setattr(tuning, "DROP_CACHES", tmp_path / "missing" / "drop_caches")
    with pytest.raises(HostError, match="cannot be dropped") as caught, tuning.tuned(Schedule(caches="cold")):
        pass
    assert "caches: cold" in caught.value.hint


HOLDER = """
import sys
from pybench.harness.runner.lock import host_lock
with host_lock("nightly", wait=False, tell=print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_holds_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at once, or waits and then has the host; a killed owner holds nothing."""
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = rf"nightly of \S+, process {holder.pid}, since 20"
        with (
            pytest.raises(HostError, match=message) as caught,
            host_lock("mine", wait=False, tell=print),
        ):
            pass
        assert "--wait" in caught.value.hint
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            holder.kill()

        with host_lock("mine", wait=True, tell=tell):
            assert "nightly" in told[0]
    with host_lock("again", wait=False, tell=print):
        assert (tmp_path / "lock").is_file()
    assert not (tmp_path / "lock").exists()


def test_many_that_wait_have_the_host_one_after_another(tmp_path: Path) -> None:
    """Each removes the file in the end, and none of the others is left holding a file without a name."""
    program = (
        "import os, time; from pybench.harness.runner.lock import host_lock\n"
        "with host_lock('x', wait=True, tell=lambda _: None):\n"
        "    os.mkdir('inside'); time.sleep(0.02); os.rmdir('inside')"
    )
    environment = {**os.environ, LOCK_VARIABLE: str(tmp_path / "lock")}
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment) for _ in range(6)
    ]
    assert [process.wait(60) for process in running] == [0] * 6
    assert list(tmp_path.iterdir()) == []


def test_a_note_of_another_kind_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the file, the message is one line; a link is not followed."""
    path = tmp_path / "lock"
    monkeypatch.setenv(LOCK_VARIABLE, str(path))
    with host_lock("mine", wait=False, tell=print):
        path.write_text('{"scenario": "a\\nb\\u001b[31m", "user": [], "pid": {}, "since": 1}')
        with pytest.raises(HostError) as caught, host_lock("other", wait=False, tell=print):
            pass
        assert "\n" not in caught.value.message
        assert "\x1b" not in caught.value.message
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="cannot open the lock"), host_lock("mine", wait=False, tell=print):
        pass


def test_calibration_tells_how_late_marks_are_seen() -> None:
    """For each channel that the targets use, positive and ordered, as fields of the environment."""
    found = calibrate(["process", "vm", "mock"])
    assert set(found) == {"execve-pipe", "mark-pipe", "stdout-pipe", "isa-serial"}
    for latency in found.values():
        assert 0 < latency.median <= latency.high
        assert latency.probable_error >= 0
    assert found["mark-pipe"].is_whole
    assert not found["isa-serial"].is_whole
    assert calibrate(["mock"]) == {}
    assert calibration_fields({"mark-pipe": Latency(7e-6, 2e-7, 9e-6)}) == {
        "calibration.mark-pipe.p50": "7e-06",
        "calibration.mark-pipe.p95": "9e-06",
        "calibration.mark-pipe.error": "2e-07",
    }


def test_lateness_is_that_of_the_thread_that_watches() -> None:
    """A spawning thread that competes with a busy program for its one processor waits for it."""
    lateness = Lateness()
    cpu = min(os.sched_getaffinity(0))
    begin, enough = threading.Barrier(2), threading.Event()

    def watch() -> None:
        os.sched_setaffinity(0, {cpu})
        begin.wait()
        # A thread that sleeps and wakes gets its processor at once, too soon for a coarse clock to tell.
        while not enough.is_set():
            pass

    watcher = threading.Thread(target=watch, name=f"{SPAWNING}_0")
    busy = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as spinner:
        try:
            watcher.start()
            lateness.seconds()
            began = time.monotonic()
            begin.wait()
            waited, deadline = 0.0, time.monotonic() + 120
            while not waited and time.monotonic() < deadline:
                time.sleep(0.02)
                waited = lateness.seconds()
            passed = time.monotonic() - began
        finally:
            enough.set()
            spinner.kill()
    watcher.join()
    assert 0 < waited <= passed
    began, fresh = time.monotonic(), Lateness()
    assert fresh.seconds() <= time.monotonic() - began


SIZE = Reading("memory.host.pss", "B", 1e6, "smaps", 1024.0, error=0.0)


def reading(metric: str, value: float | None, channel: str = "mark-pipe") -> Reading:
    """A span from a request to a mark."""
    ends = (("call", 1e-9), (channel, 2e-4))
    return Reading(metric, "s", value, channel, 2e-4, ends=ends)


def test_the_error_is_that_of_both_marks_and_of_whoever_watched() -> None:
    """A calibrated channel errs by its spread, another by its resolution; no wake-up ends a teardown."""
    calibration = {
        "mark-pipe": Latency(7e-6, 1e-6, 9e-6),
        "isa-serial": Latency(9e-6, 1e-6, 2e-5, is_whole=False),
    }
    ready = reading("startup.ready", 1.0)
    assert estimated_error(ready, calibration, 0.0) == pytest.approx(1.001e-6)
    assert estimated_error(ready, calibration, 6e-6) == pytest.approx(1.001e-6)  # not later than usual
    assert estimated_error(ready, calibration, 9e-6) == pytest.approx(3.001e-6)
    assert estimated_error(reading("startup.ready", 1.0, "x"), calibration, 0.0) == pytest.approx(2.00001e-4)
    serial = reading("startup.ready", 1.0, "isa-serial")
    assert estimated_error(serial, calibration, 1e-5) == pytest.approx(2.01001e-4)
    assert estimated_error(replace(ready, by_requester=True), calibration, 1.0) == pytest.approx(2e-9)
    told = reading("startup.ready", 1.0, "workload-clock")
    assert estimated_error(told, calibration, 1.0) == pytest.approx(2.00001e-4)  # nobody had to wake up
    ended = Reading("teardown", "s", 1.0, "call", 2e-9, ends=(("call", 1e-9), ("call", 1e-9)))
    assert estimated_error(ended, calibration, 1.0) == pytest.approx(2e-9)
    assert estimated_error(replace(SIZE, error=None), calibration, 1.0) == 1024.0
    assert estimated_error(SIZE, calibration, 1.0) == 0


def test_a_value_counts_unless_its_error_exceeds_one_percent() -> None:
    """The phases are judged with the start that they are a part of, and what has no value is not judged."""
    readings = [
        reading("startup.ready", 1e-3),
        reading("startup.phase.exec", 1e-6),
        reading("startup.exec", 5e-4),
        reading("teardown", None),
    ]
    assert rejections(readings, [1e-5, 1e-5, 1e-5, 1.0])[:2] == ["", ""]
    judged = rejections(readings, [1.1e-5, 1e-9, 1e-6, 1.0])
    assert judged[0] == judged[1] == "its estimated error of 11.0 µs exceeds 1 % of 1.00 ms"
    assert judged[2:] == ["", ""]
