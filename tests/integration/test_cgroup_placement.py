"""Groups at the path that a specification names, on this host's own hierarchies.

They are made, limited, used by a second process, and removed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE, wait_until
from placed_groups import PARENT, answer_in, held, placed, python_in

from pybench.runtime.container.cgroup import bpf
from pybench.runtime.container.cgroup.detect import detect, mounted_hierarchies, own_directories
from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED, hold_version2
from pybench.runtime.container.cgroup.placement import DEFAULT_PARENT, Placement, placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import limits_of
from pybench.runtime.container.cgroup.v1 import Version1
from pybench.runtime.container.specification.resources import (
    BlockIO,
    Cpu,
    DeviceRule,
    Memory,
    Pids,
    Resources,
)
from pybench.runtime.errors import HostError, InputError

MEBIBYTE = 2**20
NOTHING = Resources()
DENY_ALL = DeviceRule(allow=False)
SLEEP = "import time; time.sleep(600)"
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
    # Another test may have a group of its own there, or be about to remove it.
    wait_until(lambda: not any(parent.exists() and not any(parent.glob("*/")) for parent in parents))


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
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=PATIENCE, check=False
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
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{len(group.directories)}\n"
        assert process.wait(timeout=PATIENCE) == -signal.SIGKILL


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
            timeout=PATIENCE,
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
