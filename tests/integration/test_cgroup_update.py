"""A group that runs, on this host's own hierarchies: changed, told about, run into its limits, vanished."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from patience import PATIENCE
from placed_groups import PARENT, held, placed, python_in

from pybench.runtime.container.cgroup.detect import detect, mounted_hierarchies, open_group, own_directories
from pybench.runtime.container.cgroup.events import NO_LIMIT, exhausted, statistics_of
from pybench.runtime.container.cgroup.placement import placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import change_of, limits_of
from pybench.runtime.container.cgroup.update import update
from pybench.runtime.container.cgroup.v1 import Version1
from pybench.runtime.container.specification.resources import (
    BlockIO,
    Cpu,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from pybench.runtime.errors import HostError, LeftoverError

MEBIBYTE = 2**20
NOTHING = Resources()
HOG = "x = bytearray(200 << 20)"
SLEEP = "import time; time.sleep(600)"


@pytest.fixture(autouse=True, scope="module")
def needs_version1() -> None:
    """Version 2 is tested in a guest."""
    if not isinstance(detect(), Version1):
        pytest.skip("this host has no hierarchies of version 1; version 2 is tested in a guest")


def test_limits_change_while_processes_run() -> None:
    """Up and down, together and one by one, whatever order the kernel wants; what is not named stays."""
    start = Resources(
        memory=Memory(limit=64 * MEBIBYTE, swap=64 * MEBIBYTE),
        cpu=Cpu(quota=25_000, period=50_000, shares=512),
        pids=Pids(limit=9),
    )
    with placed(start) as group, python_in(group, SLEEP):
        for size in (256, 32):
            memory = Memory(limit=size * MEBIBYTE, swap=2 * size * MEBIBYTE)
            update(group, change_of(Resources(memory=memory, cpu=Cpu(shares=0), pids=Pids(limit=0))))
            assert held(group, "memory.limit_in_bytes") == str(size * MEBIBYTE)
            assert held(group, "memory.memsw.limit_in_bytes") == str(2 * size * MEBIBYTE)
        assert (held(group, "pids.max"), held(group, "cpu.shares")) == ("9", "512")
        update(group, change_of(Resources(cpu=Cpu(quota=10_000, burst=5_000))))
        assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_period_us")) == ("10000", "50000")
        update(group, change_of(Resources(cpu=Cpu(period=100_000))))
        assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_period_us")) == ("10000", "100000")
        # The burst may not be above the quota: it has to be lowered first.
        update(group, change_of(Resources(cpu=Cpu(quota=4_000, burst=1_000, cpus="0"))))
        assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_burst_us")) == ("4000", "1000")
        assert held(group, "cpuset.cpus") == "0"
        lift = Resources(memory=Memory(limit=-1), cpu=Cpu(quota=-1), pids=Pids(limit=-1))
        update(group, change_of(lift))
        assert int(held(group, "memory.memsw.limit_in_bytes")) > 2**62
        assert (held(group, "cpu.cfs_quota_us"), held(group, "pids.max")) == ("-1", "max")


def test_rates_of_devices_change(tmp_path: Path) -> None:
    """A rate is set, changed and lifted with 0."""
    number = tmp_path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        pytest.skip(f"{tmp_path} is on no block device of its own")
    whole = device.resolve().parent if (device / "partition").exists() else device.resolve()
    major, minor = map(int, (whole / "dev").read_text(encoding="ascii").split(":"))
    with placed(NOTHING) as group:
        for rate in (MEBIBYTE, 2 * MEBIBYTE, 0):
            throttle = ThrottleDevice(major=major, minor=minor, rate=rate)
            update(group, change_of(Resources(block_io=BlockIO(throttle_read_bps_device=(throttle,)))))
            shown = f"{major}:{minor} {rate}" if rate else ""
            assert held(group, "blkio.throttle.read_bps_device") == shown


def test_a_refused_change_changes_nothing() -> None:
    """What had been written before the kernel refused is written back, and the error names the path."""
    with placed(Resources(pids=Pids(limit=9), cpu=Cpu(shares=512))) as group:
        with pytest.raises(HostError) as caught:
            update(group, change_of(Resources(pids=Pids(limit=5), cpu=Cpu(shares=300, cpus="4000"))))
        assert caught.value.message.startswith("linux.resources.cpu.cpus: ")
        assert (held(group, "pids.max"), held(group, "cpu.shares")) == ("9", "512")
        with pytest.raises(HostError, match=r"^linux.resources.unified\[pids.max\]"):
            update(group, change_of(Resources(pids=Pids(limit=5), unified={"pids.max": "3"})))
        assert held(group, "pids.max") == "9"
        with python_in(group, "x = bytearray(8 << 20); print(flush=True); " + SLEEP) as process:
            assert process.stdout is not None
            process.stdout.readline()
            checked = Memory(limit=MEBIBYTE, check_before_update=True)
            with pytest.raises(HostError, match=r"^linux.resources.memory.limit: .* in use"):
                update(group, change_of(Resources(memory=checked)))
        assert int(held(group, "memory.limit_in_bytes")) > 2**62


def test_statistics_have_the_shape_of_runc() -> None:
    """The names that containerd reads, with what was really used, and all of it JSON."""
    resources = Resources(memory=Memory(limit=64 * MEBIBYTE, swap=64 * MEBIBYTE), pids=Pids(limit=20))
    with placed(resources) as group:
        program = "x = bytearray(8 << 20)\nfor _ in range(10**6): pass\nprint(flush=True)\n" + SLEEP
        with python_in(group, program) as process:
            assert process.stdout is not None
            process.stdout.readline()
            told = json.loads(json.dumps(statistics_of(group)))
    assert set(told) == {
        *("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"),
    }
    assert told["cpu"]["usage"]["total"] > 10**7
    assert sum(told["cpu"]["usage"]["percpu"]) == pytest.approx(told["cpu"]["usage"]["total"], rel=0.2)
    assert told["memory"]["usage"]["limit"] == 64 * MEBIBYTE
    assert 8 * MEBIBYTE < told["memory"]["usage"]["usage"] <= told["memory"]["usage"]["max"]
    assert told["memory"]["kernel"]["limit"] == NO_LIMIT
    assert told["memory"]["raw"]["rss"] > 8 * MEBIBYTE
    assert told["pids"] == {"current": 1, "limit": 20}
    assert told["cpuset"]["cpus"]


def test_a_memory_hog_and_a_fork_bomb_are_told() -> None:
    """The group says which of its limits ended or stopped what ran in it."""
    with placed(Resources(memory=Memory(limit=32 * MEBIBYTE, swap=32 * MEBIBYTE))) as group:
        assert exhausted(group) == ()
        with python_in(group, HOG) as process:
            assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
        assert exhausted(group) == (
            f"out of memory: the kernel killed 1 process(es) at the limit of {32 * MEBIBYTE} bytes",
        )
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    with placed(Resources(pids=Pids(limit=8), cpu=Cpu(quota=50_000))) as group, python_in(group, bomb):
        deadline = time.monotonic() + PATIENCE
        while not (told := exhausted(group)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert told[0].startswith("out of processes: ")
        assert told[0].endswith("refused at the limit of 8")
        group.kill()
        assert group.processes() == ()


def test_a_group_that_vanished_is_told() -> None:
    """Someone moved the process out and removed the directories: every operation says so, deletion works."""
    group = placement_of(f"/{PARENT}/group", "unused").create(limits_of(Resources(pids=Pids(limit=5))))
    own = own_directories(mounted_hierarchies())
    try:
        with python_in(group, SLEEP) as process:
            with pytest.raises(LeftoverError) as left:
                remove_placed(group.directories)
            assert str(process.pid) in left.value.hint
            for controller, directory in placement_of(f"/{PARENT}/group", "unused").by_controller.items():
                (own[controller] / "cgroup.procs").write_text(str(process.pid), encoding="ascii")
                directory.rmdir()
            for operation in (
                *(group.freeze, lambda: statistics_of(group), lambda: exhausted(group)),
                *(lambda: update(group, change_of(NOTHING)), lambda: group.spawning().__enter__()),
            ):
                with pytest.raises(HostError) as caught:
                    operation()
                assert "it vanished" in caught.value.hint
            with pytest.raises(HostError, match="not there any more"):
                open_group(group.directories)
            assert group.processes() == ()
            group.kill()
            assert process.poll() is None
    finally:
        group.remove()
        remove_placed(group.directories)
