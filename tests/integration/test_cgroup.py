"""Control groups on this host's own hierarchies: limits are read back and then seen to hold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.runtime.container.cgroup import delegation
from pybench.runtime.container.cgroup.base import (
    Controller,
    DeviceLimits,
    Group,
    HugePageLimit,
    Limits,
)
from pybench.runtime.container.cgroup.detect import NoGroups, detect, open_group
from pybench.runtime.container.cgroup.v1 import Version1
from pybench.runtime.errors import HostError

MEBIBYTE = 2**20
SPIN = "while True: pass"
BOMB = """
import os, signal, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.001)
"""


def name_of(test: str) -> str:
    """A group's name, this process's own."""
    return f"pybench-test-{os.getpid()}-{test}"


@contextlib.contextmanager
def made(controller: Controller, limits: Limits, name: str = "group") -> Iterator[Group]:
    """A group, emptied and removed afterwards."""
    group = controller.create(name_of(name), limits)
    try:
        yield group
    finally:
        group.kill()
        group.remove()
        assert not any(directory.exists() for directory in group.directories)


@contextlib.contextmanager
def python_in(group: Group, program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program started inside a group through the spawning thread."""
    with group.spawning():
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def version1() -> Version1:
    """This host's version 1 hierarchies."""
    controller = detect()
    if not isinstance(controller, Version1):
        pytest.skip(f"the groups of this host are {controller.label}; version 2 is tested in a guest")
    return controller


def needs(controller: Version1, *names: str) -> None:
    """Skip where a hierarchy is missing."""
    if absent := [name for name in names if name not in controller.parents]:
        pytest.skip(f"this host has no writable {absent[0]} hierarchy")


def disk_of(path: Path) -> str:
    """The whole block device that a file is on, as MAJOR:MINOR."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        pytest.skip(f"{path} is on no block device of its own")
    device = device.resolve()
    whole = device.parent if (device / "partition").exists() else device
    return (whole / "dev").read_text(encoding="ascii").strip()


def held(group: Group, file: str) -> str:
    """What a file of a group says."""
    for directory in group.directories:
        if (path := directory / file).exists():
            return path.read_text(encoding="ascii").strip()
    raise AssertionError(f"{file} is in none of {group.directories}")


def cpu_seconds(group: Group) -> float:
    """CPU time used so far."""
    used = group.usage().cpu_seconds
    assert used is not None
    return used


def test_limits_are_what_the_kernel_reads_back(version1: Version1) -> None:
    """Each limit arrives in its file, on its hierarchy."""
    needs(version1, "cpu", "memory", "pids")
    limits = Limits(
        memory=64 * MEBIBYTE,
        swap=8 * MEBIBYTE,
        memory_reserved=16 * MEBIBYTE,
        cpus=0.25,
        cpu_period=50_000,
        cpu_weight=100,
        pids=12,
    )
    assert set(version1.unavailable(limits)) <= {"swap"}
    with made(version1, limits) as group:
        assert held(group, "memory.limit_in_bytes") == str(64 * MEBIBYTE)
        assert held(group, "memory.soft_limit_in_bytes") == str(16 * MEBIBYTE)
        if "memory.memsw.limit_in_bytes" in version1.files:
            assert held(group, "memory.memsw.limit_in_bytes") == str(72 * MEBIBYTE)
        assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_period_us")) == ("12500", "50000")
        assert held(group, "cpu.shares") == "1024"
        assert held(group, "pids.max") == "12"


def test_cpusets_are_held(version1: Version1) -> None:
    """A process inside may run only on the CPUs given, and the memory nodes are the parent's."""
    needs(version1, "cpuset")
    cpu = min(os.sched_getaffinity(0))
    with made(version1, Limits(cpuset_cpus=str(cpu))) as group:
        assert held(group, "cpuset.cpus") == str(cpu)
        with python_in(group, "import os; print(os.sched_getaffinity(0))") as process:
            assert process.communicate(timeout=PATIENCE)[0].strip() == f"{{{cpu}}}"
    with made(version1, Limits(cpuset_mems="0")) as group:
        assert held(group, "cpuset.mems") == "0"


def test_rates_of_devices_are_held(version1: Version1, tmp_path: Path) -> None:
    """Rates arrive per device, and a reader past the cache gets no more than its rate."""
    needs(version1, "blkio")
    device = disk_of(tmp_path)
    rates = DeviceLimits(device, 10 * MEBIBYTE, 5 * MEBIBYTE, 1000, 500)
    with made(version1, Limits(io=(rates,))) as group:
        assert held(group, "blkio.throttle.read_bps_device") == f"{device} {10 * MEBIBYTE}"
        assert held(group, "blkio.throttle.write_bps_device") == f"{device} {5 * MEBIBYTE}"
        assert held(group, "blkio.throttle.read_iops_device") == f"{device} 1000"
        assert held(group, "blkio.throttle.write_iops_device") == f"{device} 500"
    file = tmp_path / "data"
    with file.open("wb") as output:
        output.write(os.urandom(2 * MEBIBYTE))
        output.flush()
        os.fsync(output.fileno())
    reader = f"""
import mmap, os, time
descriptor = os.open({str(file)!r}, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, {MEBIBYTE // 4})
begun = time.monotonic()
for _ in range(8):
    os.readv(descriptor, [buffer])
print(time.monotonic() - begun)
"""
    with (
        made(version1, Limits(io=(DeviceLimits(device, read_bytes=2 * MEBIBYTE),))) as group,
        python_in(group, reader) as process,
    ):
        # 2 MiB at 2 MiB/s; what comes first is granted in advance.
        assert float(process.communicate(timeout=PATIENCE)[0]) > 0.5
        usage = group.usage()
        assert usage.io_bytes_read is not None
        assert usage.io_bytes_read >= 2 * MEBIBYTE
        assert usage.io_bytes_written is not None


def test_a_quota_holds_a_spinner(version1: Version1) -> None:
    """A spinner gets a quarter of a CPU, and the throttling is counted."""
    needs(version1, "cpu", "cpuacct")
    with made(version1, Limits(cpus=0.25)) as group, python_in(group, SPIN):
        share, throttled, deadline = 0.0, 0.0, time.monotonic() + PATIENCE
        # Never more; on a busy host it may get less at times, and then is not throttled.
        while (share < 0.25 * 0.9 or throttled <= 0.5) and time.monotonic() < deadline:
            begun, before = time.monotonic(), cpu_seconds(group)
            time.sleep(1.5)
            share = (cpu_seconds(group) - before) / (time.monotonic() - begun)
            assert share < 0.25 * 1.1
            throttled = group.usage().throttled_seconds or 0.0
        assert share >= 0.25 * 0.9
        assert throttled > 0.5


def test_weights_divide_a_busy_cpu(version1: Version1) -> None:
    """Two spinners on one CPU share it as their weights say."""
    needs(version1, "cpu", "cpuset", "cpuacct")
    cpu = str(min(os.sched_getaffinity(0)))
    with (
        made(version1, Limits(cpu_shares=3072, cpuset_cpus=cpu), "heavy") as heavy,
        made(version1, Limits(cpu_shares=1024, cpuset_cpus=cpu), "light") as light,
        python_in(heavy, SPIN),
        python_in(light, SPIN),
    ):
        deadline = time.monotonic() + PATIENCE
        # Both have begun; of then on both must have had their turns, on a busy host, too.
        while not (cpu_seconds(heavy) and cpu_seconds(light)) and time.monotonic() < deadline:
            time.sleep(0.01)
        before, used = (cpu_seconds(heavy), cpu_seconds(light)), (0.0, 0.0)
        while sum(used) < 1.2 and time.monotonic() < deadline:
            time.sleep(0.2)
            used = cpu_seconds(heavy) - before[0], cpu_seconds(light) - before[1]
        assert 2 < used[0] / used[1] < 4.5


def test_forks_beyond_the_limit_fail(version1: Version1) -> None:
    """The spawning thread takes none of the group's places: exactly as many processes as were allowed run."""
    needs(version1, "pids")
    forks = """
import os, time
made = 1
try:
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    print(made, flush=True)
time.sleep(60)
"""
    with made(version1, Limits(pids=5)) as group, python_in(group, forks) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "5\n"
        assert len(group.processes()) == 5
        assert group.usage().pids == 5
    with made(version1, Limits(pids=1)) as group, python_in(group, "print('alone')") as process:
        assert process.communicate(timeout=PATIENCE)[0] == "alone\n"
        assert held(group, "pids.max") == "1"


def test_memory_beyond_the_limit_is_an_oom_kill(version1: Version1) -> None:
    """The hog is killed and the kill is counted; what it had used is the peak."""
    needs(version1, "memory")
    with made(version1, Limits(memory=32 * MEBIBYTE)) as group:
        with python_in(group, "x = bytearray(200 << 20)") as process:
            assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
        usage = group.usage()
        assert usage.oom_kills == group.out_of_memory_kills() == 1
        assert usage.memory_peak is not None
        assert 24 * MEBIBYTE < usage.memory_peak <= 32 * MEBIBYTE
        assert usage.memory == group.memory_charged()


def test_a_frozen_group_stands_still(version1: Version1) -> None:
    """Frozen, a spinner uses no CPU time; thawed, it goes on; and both may be said twice."""
    needs(version1, "freezer", "cpuacct")
    with made(version1, Limits()) as group, python_in(group, SPIN):
        time.sleep(0.2)
        group.freeze()
        group.freeze()
        before = cpu_seconds(group)
        time.sleep(0.3)
        assert cpu_seconds(group) == before
        with pytest.raises(HostError, match="frozen"), group.spawning():
            pass
        group.thaw()
        group.thaw()
        deadline = time.monotonic() + PATIENCE
        while cpu_seconds(group) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert cpu_seconds(group) > before


def test_kill_beats_a_fork_bomb(version1: Version1) -> None:
    """A bomb at its pids limit is gone after one kill, frozen or not."""
    needs(version1, "freezer", "pids")
    with made(version1, Limits(pids=100)) as group, python_in(group, BOMB) as process:
        deadline = time.monotonic() + PATIENCE
        while len(group.processes()) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(group.processes()) == 100
        group.freeze()
        group.kill()
        assert group.processes() == ()
        process.wait(timeout=PATIENCE)


def test_kill_beats_a_fork_bomb_without_a_freezer(version1: Version1) -> None:
    """Where nothing can be frozen, taking away the right to fork does as well."""
    needs(version1, "pids")
    partial = Version1({"pids": version1.parents["pids"]}, version1.files)
    with made(partial, Limits(pids=60)) as group, python_in(group, BOMB) as process:
        deadline = time.monotonic() + PATIENCE
        while len(group.processes()) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        group.kill()
        assert group.processes() == ()
        process.wait(timeout=PATIENCE)
        with pytest.raises(HostError, match="freezer"):
            group.freeze()


def test_only_what_is_asked_for_is_joined(version1: Version1) -> None:
    """A hierarchy that few need has a directory only if one of its limits is asked for."""
    needs(version1, "cpu", "cpuset")
    name = name_of("joined")
    few = version1.directories(name, Limits(cpus=1.0))
    more = version1.directories(name, Limits(cpus=1.0, cpuset_mems="0"))
    assert set(more) - set(few) == {version1.parents["cpuset"] / name}
    assert set(more) <= set(version1.directories(name))
    with made(version1, Limits(cpus=1.0), "joined") as group:
        assert group.directories == few


def test_what_cannot_be_held_is_named(version1: Version1) -> None:
    """Missing hierarchies, missing files and what version 1 never had are all named; the rest is held."""
    asked = Limits(
        memory=64 * MEBIBYTE,
        cpus=0.5,
        pids=10,
        memory_high=32 * MEBIBYTE,
        io=(DeviceLimits("8:0", read_bytes=1),),
        io_weight=200,
        hugetlb=(HugePageLimit("3MB", 0),),
        cpuset_cpus="0",
    )
    assert "memory high" in version1.unavailable(asked)
    assert "hugetlb 3MB" in version1.unavailable(asked)
    only_pids = Version1(
        {"pids": version1.parents["pids"]},
        frozenset(name for name in version1.files if name.startswith("pids.")),
    )
    assert only_pids.unavailable(asked) == (
        *("memory", "cpu", "memory high", "cpuset cpus", "io", "io weight", "hugetlb 3MB"),
    )
    with made(only_pids, asked) as group, python_in(group, "print('ran')") as process:
        assert held(group, "pids.max") == "10"
        assert process.communicate(timeout=PATIENCE)[0] == "ran\n"
        usage = group.usage()
        assert (usage.memory, usage.cpu_seconds, usage.oom_kills) == (None, None, None)
        assert usage.pids is not None
        assert group.pressure() is None


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(pids=5, cpuset_cpus="4000-4001"), "cpuset cpus"),
        (Limits(pids=5, io=(DeviceLimits("4000:1", read_bytes=1),)), "io"),
    ],
)
def test_a_refused_limit_leaves_nothing(version1: Version1, limits: Limits, said: str) -> None:
    """When the kernel refuses a limit half-way, the error names it and every directory is gone."""
    needs(version1, "cpuset", "blkio")
    name = name_of("refused")
    with pytest.raises(HostError, match=f"cannot hold the limit {said}: "):
        version1.create(name, limits)
    assert not any(directory.exists() for directory in version1.directories(name))


def test_a_group_of_that_name_is_left_alone(version1: Version1) -> None:
    """Creating over an existing group fails and does not remove it."""
    with made(version1, Limits(pids=5), "twice") as group:
        with pytest.raises(HostError, match="File exists"):
            version1.create(name_of("twice"), Limits(pids=7))
        assert all(directory.is_dir() for directory in group.directories)
        assert held(group, "pids.max") == "5"


def test_a_group_is_found_again(version1: Version1) -> None:
    """Another process can open a group by its directories, put something inside, pause it and end it."""
    with made(version1, Limits(pids=9), "again") as group:
        again = open_group(group.directories)
        assert set(again.directories) == set(group.directories)
        with python_in(again, SPIN) as process:
            assert group.processes() == (process.pid,)
            again.freeze()
            again.kill()
            assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
    with pytest.raises(HostError, match="not there any more"):
        open_group(group.directories)


def test_a_vanished_group_is_a_clear_error(version1: Version1) -> None:
    """Whoever removes a group under us gets an error from the next start, and the rest stays quiet."""
    group = version1.create(name_of("vanished"), Limits(pids=5))
    for directory in group.directories:
        directory.rmdir()
    with pytest.raises((HostError, FileNotFoundError)), group.spawning():
        pass
    assert Path("/proc/thread-self/cgroup").read_text(encoding="utf-8").find("vanished") == -1
    assert group.processes() == ()
    group.thaw()
    group.kill()
    group.remove()


def test_what_was_made_beneath_goes_too(version1: Version1) -> None:
    """Groups that the workload made inside its own are counted, killed and removed with it."""
    with made(version1, Limits(pids=20), "nested") as group:
        for directory in group.directories:
            (directory / "inner" / "innermost").mkdir(parents=True)
        with python_in(group, SPIN) as process:
            for directory in group.directories:
                inner = directory / "inner" / "innermost" / "cgroup.procs"
                inner.write_text(str(process.pid), encoding="ascii")
            assert group.processes() == (process.pid,)
            group.kill()
            assert process.wait(timeout=PATIENCE) == -signal.SIGKILL


def test_without_groups_everything_is_unavailable() -> None:
    """Where nothing can be made every limit is named, and the reason given."""
    nothing = NoGroups("for this test")
    limits = Limits(memory=1, cpus=1.0, pids=1, cpu_weight=5, cpuset_cpus="0")
    assert nothing.unavailable(limits) == ("memory", "cpu", "pids", "cpu weight", "cpuset cpus")
    with pytest.raises(HostError, match="for this test"):
        nothing.create("name", limits)


def test_an_ordinary_user_is_told_why() -> None:
    """Without a writable hierarchy and without systemd, both are said."""
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here and may delegate")
    with pytest.raises(HostError, match="systemd is not running"):
        delegation.enter_scope()
    probe = (
        "import os\n"
        "from pybench.runtime.container.cgroup.detect import detect\n"
        # Once before, for this Python may be where another user cannot import from.
        "detect()\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print(detect().reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout == ("no hierarchy can be written by this user, and systemd is not running here\n"), (
        done.stderr
    )
