"""Groups at the path that a specification names, on this host's own hierarchies.

They are made, used by a second process, changed while they run, told about, and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybench.runtime.container.cgroup import bpf
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.detect import detect, mounted_hierarchies, open_group, own_directories
from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED, hold_version2
from pybench.runtime.container.cgroup.events import NO_LIMIT, exhausted, statistics_of
from pybench.runtime.container.cgroup.placement import DEFAULT_PARENT, Placement, placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import change_of, limits_of
from pybench.runtime.container.cgroup.update import update
from pybench.runtime.container.cgroup.v1 import Version1
from pybench.runtime.container.specification.resources import (
    BlockIO,
    Cpu,
    DeviceRule,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from pybench.runtime.errors import HostError, InputError, LeftoverError

MEBIBYTE = 2**20
PARENT = f"pybench-test-{os.getpid()}"
NOTHING = Resources()
DENY_ALL = DeviceRule(allow=False)
HOG = "x = bytearray(200 << 20)"
SLEEP = "import time; time.sleep(60)"
TRY_DEVICES = """
import os
os.chdir({folder!r})
for name, major, minor in (('null', 1, 3), ('zero', 1, 5), ('mem', 1, 1), ('kmsg', 1, 11)):
    os.mknod(name, 0o20600, os.makedev(major, minor))
    for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            os.close(os.open(name, mode | os.O_NONBLOCK))
            print(1, end='')
        except PermissionError:
            print(0, end='')
    print(end=' ')
"""


def seldom(*values: int) -> st.SearchStrategy[int | None]:
    """Mostly nothing, so that not every specification is refused for one of its many fields."""
    return st.sampled_from((*(None for _ in range(3 * len(values))), *values))


some_resources = st.builds(
    Resources,
    memory=st.builds(
        Memory,
        limit=st.sampled_from((None, -1, 0, 16 * MEBIBYTE, 2**63 - 1)),
        swap=seldom(-1, 0, 16 * MEBIBYTE, 32 * MEBIBYTE),
        reservation=seldom(-1, 0, 4096),
    ),
    cpu=st.builds(
        Cpu,
        shares=seldom(0, 2, 1024, 2**18, 2**40),
        quota=st.sampled_from((None, -1, 0, 999, 1000, 50_000, 80_000)),
        burst=seldom(0, 500, 60_000),
        period=seldom(0, 1000, 100_000, 10**7),
        cpus=st.sampled_from(("", "", "0", "0-1", "1,0", "4000")),
        idle=seldom(0, 1),
    ),
    pids=st.one_of(st.none(), st.builds(Pids, limit=st.sampled_from((-1, 0, 1, 50, 2**20)))),
    block_io=st.builds(BlockIO, weight=seldom(0, 10)),
    unified=st.sampled_from(({}, {}, {}, {}, {"pids.max": "5"})),
)
some_rules = st.one_of(
    st.none(),
    st.lists(
        st.builds(
            DeviceRule,
            allow=st.booleans(),
            type=st.sampled_from(("a", "b", "c")),
            major=st.sampled_from((None, 1, 8)),
            minor=st.sampled_from((None, 1, 3)),
            access=st.sampled_from(("r", "rw", "rwm")),
        ),
        max_size=5,
    ),
)


@pytest.fixture(autouse=True, scope="module")
def needs_version1() -> None:
    """Version 2 is tested in a guest."""
    if not isinstance(detect(), Version1):
        pytest.skip("this host has no hierarchies of version 1; version 2 is tested in a guest")


@contextlib.contextmanager
def placed(
    resources: Resources, path: str = f"/{PARENT}/group", devices: Sequence[DeviceRule] | None = None
) -> Iterator[Group]:
    """A group at a path, emptied and removed afterwards with what was made above it."""
    group = placement_of(path, "unused").create(limits_of(resources), devices)
    try:
        yield group
    finally:
        group.kill()
        group.remove()
        remove_placed(group.directories)
        assert not any(directory.exists() for directory in group.directories)


@contextlib.contextmanager
def python_in(group: Group, program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program started inside a group."""
    with group.spawning():
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def answer_in(group: Group, program: str) -> str:
    """What a Python program inside a group prints."""
    with python_in(group, program) as process:
        output, complaint = process.communicate(timeout=20)
        assert process.returncode == 0, complaint
        return output


def held(group: Group, file: str) -> str:
    """What a file of a group says."""
    for directory in group.directories:
        if (path := directory / file).exists():
            return path.read_text(encoding="ascii").strip()
    raise AssertionError(f"{file} is in none of {group.directories}")


def directories_of(placement: Placement) -> set[Path]:
    """Every directory from the groups up to the mounts, the mounts not included."""
    return {
        above
        for controller, directory in placement.by_controller.items()
        for above in (directory, *directory.parents)
        if above != placement.mounts[controller] and above.is_relative_to(placement.mounts[controller])
    }


def test_an_absolute_path_is_below_every_mount() -> None:
    """The process is at that path in every hierarchy of version 1, and what was made is gone afterwards."""
    placement = placement_of(f"/{PARENT}/deep/group", "unused")
    mounts = mounted_hierarchies()
    expected = {controller for controller in own_directories(mounts) if controller}
    assert set(placement.by_controller) == expected
    assert "name=systemd" in expected or "name=systemd" not in mounts
    with placed(NOTHING, f"/{PARENT}/deep/group") as group:
        assert set(group.directories) == set(placement.directories)
        lines = answer_in(group, "print(open('/proc/self/cgroup').read())").split()
        assert {line.split(":", 2)[2] for line in lines if not line.startswith("0::")} == {
            f"/{PARENT}/deep/group"
        }
        assert Path("/proc/thread-self/cgroup").read_text(encoding="ascii").find(PARENT) == -1
    assert not any(path.exists() for path in directories_of(placement))


def test_a_relative_path_is_below_our_own_group() -> None:
    """As runc places it in version 1."""
    placement = placement_of(f"{PARENT}/group", "unused")
    own = own_directories(mounted_hierarchies())
    assert all(
        directory == own[controller] / PARENT / "group"
        for controller, directory in placement.by_controller.items()
    )
    with placed(NOTHING, f"{PARENT}/group") as group:
        assert answer_in(group, "print('inside')") == "inside\n"


def test_without_a_path_the_group_is_named_after_the_container() -> None:
    """It is below a parent that goes with the last container in it, whoever made it."""
    name = f"pybench-test-{os.getpid()}-default"
    first, second = placement_of("", f"{name}-1"), placement_of("", f"{name}-2")
    parents = {directory.parent for directory in first.directories}
    assert {parent.name for parent in parents} == {DEFAULT_PARENT}
    groups = [placement.create(limits_of(NOTHING)) for placement in (first, second)]
    for group in groups:
        assert all(parent.is_dir() for parent in parents)
        remove_placed(group.directories)
    assert not any(parent.exists() for parent in parents if not any(parent.glob("*/")))


def test_groups_above_that_were_there_stay() -> None:
    """What was not made here is not removed here, though it is empty."""
    parents = [
        directory.parent for directory in placement_of(f"/{PARENT}/group", "unused").by_controller.values()
    ]
    for parent in parents:
        parent.mkdir()
    try:
        with placed(NOTHING) as group:
            assert group.processes() == ()
        assert all(parent.is_dir() for parent in parents)
    finally:
        for parent in parents:
            parent.rmdir()


def test_limits_of_a_specification_are_held() -> None:
    """Each arrives in its file, the CPUs and nodes of the groups above are passed on."""
    resources = Resources(
        memory=Memory(limit=64 * MEBIBYTE, swap=96 * MEBIBYTE, reservation=16 * MEBIBYTE),
        cpu=Cpu(shares=512, quota=20_000, period=50_000, burst=10_000, cpus="0"),
        pids=Pids(limit=12),
    )
    with placed(resources, f"/{PARENT}/deep/group") as group:
        assert held(group, "memory.limit_in_bytes") == str(64 * MEBIBYTE)
        assert held(group, "memory.soft_limit_in_bytes") == str(16 * MEBIBYTE)
        assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_period_us")) == ("20000", "50000")
        assert held(group, "cpu.cfs_burst_us") == "10000"
        assert held(group, "cpu.shares") == "512"
        assert held(group, "pids.max") == "12"
        assert held(group, "cpuset.cpus") == "0"
        assert held(group, "cpuset.mems")
        assert answer_in(group, "import os; print(os.sched_getaffinity(0))") == "{0}\n"
    with placed(Resources(cpu=Cpu(idle=1))) as group:
        assert held(group, "cpu.idle") == "1"


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (Resources(unified={"memory.high": "5"}), "linux.resources.unified[memory.high]: cannot be held"),
        (Resources(unified={"pids.max": "5"}), "linux.resources.unified[pids.max]: cannot be held"),
        (Resources(cpu=Cpu(cpus="4000")), "linux.resources.cpu.cpus: cannot hold the limit"),
    ],
)
def test_what_cannot_be_held_leaves_nothing(resources: Resources, said: str) -> None:
    """The error names it, and neither the group nor those above it are left."""
    placement = placement_of(f"/{PARENT}/deep/refused", "unused")
    with pytest.raises(HostError) as caught:
        placement.create(limits_of(resources))
    assert said in caught.value.message
    assert not any(path.exists() for path in directories_of(placement))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(resources=some_resources, devices=some_rules)
def test_whatever_is_asked_for_is_held_or_refused(
    resources: Resources, devices: list[DeviceRule] | None
) -> None:
    """A group has every limit, or the error starts with a path of the specification and nothing is left."""
    placement = placement_of(f"/{PARENT}/deep/any", "unused")
    refused = ""
    try:
        limits = limits_of(resources)
        group = placement.create(limits, devices)
    except (InputError, HostError) as error:
        refused = error.message
    else:
        try:
            if limits.pids is not None:
                assert held(group, "pids.max") == str(limits.pids)
            if limits.cpu_shares is not None:
                assert held(group, "cpu.shares") == str(limits.cpu_shares)
            if (quota := limits.quota_and_period()) is not None:
                assert (held(group, "cpu.cfs_quota_us"), held(group, "cpu.cfs_period_us")) == (
                    *map(str, quota),
                )
        finally:
            remove_placed(group.directories)
    assert not refused or refused.startswith("linux.resources")
    assert not any(path.exists() for path in directories_of(placement))


def test_a_group_in_use_is_refused() -> None:
    """Whose processes are in it is said, and nothing is changed; an empty one is taken."""
    with placed(Resources(pids=Pids(limit=9))) as group:
        with python_in(group, SLEEP) as process:
            placement = placement_of(f"/{PARENT}/group", "unused")
            with pytest.raises(HostError) as caught:
                placement.create(limits_of(Resources(pids=Pids(limit=5))))
            assert "linux.cgroupsPath" in caught.value.message
            assert str(process.pid) in caught.value.message
            assert held(group, "pids.max") == "9"
        group.kill()
        placement.create(limits_of(Resources(pids=Pids(limit=5))))
        assert held(group, "pids.max") == "5"
        group.freeze()
        with pytest.raises(HostError, match="frozen"):
            placement.create(limits_of(NOTHING))
        group.thaw()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("system.slice:docker:abc", "unit of systemd's"),
        ("/", "group of the container's own"),
        ("/../x", "group of the container's own"),
    ],
)
def test_paths_that_are_none_are_refused(path: str, said: str) -> None:
    """A unit of systemd's, the root, and what leads out of it."""
    with pytest.raises(InputError, match=said):
        placement_of(path, "unused")


def test_an_ordinary_user_is_told_what_is_forbidden() -> None:
    """Without a path that no hierarchy can be written, with one the directory that cannot be made."""
    probe = (
        "import os\n"
        "from pybench.runtime.container.cgroup.base import Limits\n"
        "from pybench.runtime.container.cgroup.placement import placement_of\n"
        "from pybench.runtime.errors import HostError\n"
        "os.setgroups(()); os.setgid(65534); os.setuid(65534)\n"
        f"for path in ('', '/{PARENT}/group'):\n"
        "    try: placement_of(path, 'x').create(Limits())\n"
        "    except HostError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=False
    )
    without, with_path = done.stdout.splitlines()
    assert "no hierarchy can be written by this user" in without
    assert with_path.startswith("linux.cgroupsPath: cannot make ")
    assert with_path.endswith(f"{PARENT}: Permission denied")


def test_groups_beside_one_another_may_come_and_go() -> None:
    """The group above is made and removed by whoever needs it, while others do the same."""
    failures: list[BaseException] = []

    def come_and_go(number: int) -> None:
        try:
            for turn in range(8):
                group = placement_of(f"/{PARENT}/many/{number}-{turn}", "unused").create(limits_of(NOTHING))
                remove_placed(group.directories)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    remaining = directories_of(placement_of(f"/{PARENT}/many/any", "unused"))
    assert not any(path.exists() for path in remaining)


def test_another_process_execs_into_it() -> None:
    """Knowing only the directories, it starts a process inside, pauses, ends and removes the group."""
    later = """
import json, subprocess, sys
from pathlib import Path
from pybench.runtime.container.cgroup.detect import open_group
from pybench.runtime.container.cgroup.placement import remove_placed
directories = [Path(name) for name in json.loads(sys.argv[1])]
group = open_group(directories)
with group.spawning():
    child = subprocess.Popen(['cat', '/proc/self/cgroup'], stdout=subprocess.PIPE)
print(child.communicate()[0].decode().count(sys.argv[2]))
group.freeze()
group.thaw()
group.kill()
group.remove()
remove_placed(directories)
"""
    with placed(NOTHING) as group, python_in(group, SLEEP) as process:
        directories = json.dumps([str(directory) for directory in group.directories])
        done = subprocess.run(
            [sys.executable, "-c", later, directories, PARENT],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{len(group.directories)}\n"
        assert process.wait(timeout=5) == -signal.SIGKILL


def test_device_rules_hold(tmp_path: Path) -> None:
    """Nodes of any device can be made; only those allowed can be opened, and only as allowed."""
    rules = (DENY_ALL, DeviceRule(allow=True, type="c", major=1, minor=11, access="r"), *ALWAYS_ALLOWED)
    with placed(NOTHING, devices=rules) as group:
        assert "a *:* rwm" not in held(group, "devices.list")
        assert answer_in(group, TRY_DEVICES.format(folder=str(tmp_path))) == "111 111 000 100 "


def test_device_rules_hold_in_version_2(tmp_path: Path) -> None:
    """The program decides in the version 2 hierarchy of this host what the list does in version 1's.

    It also says what version 1 cannot: a hole in a wider rule.
    """
    hierarchy = mounted_hierarchies().get("")
    if hierarchy is None:
        pytest.skip("this host has no version 2 hierarchy besides")
    directory = hierarchy.mount / PARENT
    directory.mkdir()
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rules = (
            *(DENY_ALL, *ALWAYS_ALLOWED),
            DeviceRule(allow=True, type="c", major=1),
            DeviceRule(allow=False, type="c", major=1, minor=1, access="rw"),
            DeviceRule(allow=False, type="c", major=1, minor=11, access="w"),
        )
        hold_version2(descriptor, rules)
        enter = f"import os; open({str(directory / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", enter + TRY_DEVICES.format(folder=str(tmp_path))],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.stderr == ""
    finally:
        os.close(descriptor)
        directory.rmdir()
    assert done.stdout == "111 111 000 100 "


def test_a_program_that_the_kernel_refuses_is_explained() -> None:
    """The verifier's last words are in the hint."""
    with pytest.raises(HostError, match="cannot load the device filter") as caught:
        bpf.attach_device_filter(bpf.jump(5), -1)
    assert caught.value.hint


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
            assert process.wait(timeout=20) == -signal.SIGKILL
        assert exhausted(group) == (
            f"out of memory: the kernel killed 1 process(es) at the limit of {32 * MEBIBYTE} bytes",
        )
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    with placed(Resources(pids=Pids(limit=8), cpu=Cpu(quota=50_000))) as group, python_in(group, bomb):
        deadline = time.monotonic() + 20
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
