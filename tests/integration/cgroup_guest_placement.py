"""Checks of what a specification asks of version 2, run by `cgroup_guest_program.py` in a guest."""

from __future__ import annotations

import os
from pathlib import Path

from cgroup_guest_helpers import GROUPS, MEBIBYTE, Child, Facts, disk, forked_into, placed, reap, refusal

from pybench.runtime.container.cgroup.base import Group, Limits
from pybench.runtime.container.cgroup.detect import open_group
from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED
from pybench.runtime.container.cgroup.events import exhausted, statistics_of
from pybench.runtime.container.cgroup.placement import placement_of
from pybench.runtime.container.cgroup.resources import change_of, limits_of
from pybench.runtime.container.cgroup.update import update
from pybench.runtime.container.specification.resources import (
    BlockIO,
    Cpu,
    DeviceRule,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from pybench.runtime.errors import HostError


def files_of(group: Group, *names: str) -> dict[str, str]:
    """What files of a group say."""
    return {name: (group.directories[0] / name).read_text(encoding="ascii").strip() for name in names}


def check_place() -> Facts:
    """Groups at absolute and relative paths and without one, what they hold, and what is left above them."""
    everything_said = Resources(
        memory=Memory(limit=64 * MEBIBYTE, swap=96 * MEBIBYTE, reservation=16 * MEBIBYTE),
        cpu=Cpu(shares=512, quota=20_000, period=50_000, burst=10_000, cpus="1"),
        pids=Pids(limit=12),
        unified={"memory.high": str(48 * MEBIBYTE), "io.max": f"{disk()} rbps=max wiops=7"},
    )
    with placed(everything_said, "/some/where/deep") as group:
        child = Child(open_group(group.directories), "exec sleep 60")
        facts: Facts = {
            "held": files_of(
                group,
                *("memory.max", "memory.swap.max", "memory.low", "memory.high", "cpu.weight", "cpu.max"),
                *("cpu.max.burst", "cpuset.cpus", "pids.max", "io.max"),
            ),
            "group": Path(f"/proc/{child.pid}/cgroup").read_text(encoding="ascii").strip(),
            "affinity": sorted(os.sched_getaffinity(child.pid)),
            "used": refusal(lambda: placement_of("/some/where/deep", "x").create(Limits())),
            "inside": refusal(
                lambda: placement_of("/some/where/deep/er", "x").create(Limits(memory=MEBIBYTE))
            ),
        }
        facts["untouched"] = files_of(group, "cgroup.subtree_control", "cgroup.type")
        with placed(Resources(), "/some/beside") as beside:
            facts["beside"] = beside.directories[0].is_dir()
    with placed(Resources(cpu=Cpu(idle=1)), "") as group:
        facts["default"] = str(group.directories[0])
        facts["idle"] = files_of(group, "cpu.idle")["cpu.idle"]
    with placed(Resources(), "relative") as group:
        facts["relative"] = str(group.directories[0])
    facts["refused"] = refusal(
        lambda: placement_of("/some/refused", "x").create(
            limits_of(Resources(unified={"no_such.file": "5"}, pids=Pids(limit=5)))
        )
    )
    facts["left"] = sorted(path.name for path in GROUPS.iterdir() if path.is_dir())
    return facts


def check_devices() -> Facts:
    """Which accesses a program lets through, for a process and for one that joins it later."""
    rules = (
        *(DeviceRule(allow=False), *ALWAYS_ALLOWED),
        DeviceRule(allow=True, type="c", major=1),
        DeviceRule(allow=False, type="c", major=1, minor=1, access="rw"),
        DeviceRule(allow=False, type="c", major=1, minor=11, access="w"),
    )
    with placed(Resources(), "/devices/rules", rules) as group:
        forked = forked_into(group, try_devices)
        os.waitpid(forked, 0)
        Child(open_group(group.directories), "{ : < /dev/nvme0n1; } 2> /tmp/later; : > /dev/null").wait()
        return {
            "opened": Path("/tmp/opened").read_text(encoding="ascii"),
            "later": Path("/tmp/later").read_text(encoding="ascii"),
        }


def try_devices() -> None:
    """Note which of some devices can be made and opened."""
    letters: list[str] = []
    nodes = (("null", 0o20600, 1, 3), ("mem", 0o20600, 1, 1), ("kmsg", 0o20600, 1, 11))
    major, minor = map(int, disk().split(":"))
    for name, mode, *number in (*nodes, ("disk", 0o60600, major, minor)):
        path = f"/tmp/node-{name}"
        os.mknod(path, mode, os.makedev(*number))
        for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.close(os.open(path, access | os.O_NONBLOCK))
                letters.append("1")
            except PermissionError:
                letters.append("0")
        letters.append(" ")
    Path("/tmp/opened").write_text("".join(letters), encoding="ascii")


def check_update() -> Facts:
    """Limits changed under a running process, each step's files."""
    start = Resources(
        memory=Memory(limit=64 * MEBIBYTE, swap=64 * MEBIBYTE),
        cpu=Cpu(quota=25_000, period=50_000, shares=512),
        pids=Pids(limit=9),
    )
    names = ("memory.max", "memory.swap.max", "cpu.max", "cpu.max.burst", "cpu.weight", "pids.max", "io.max")
    major, minor = map(int, disk().split(":"))

    def throttled(rate: int) -> BlockIO:
        return BlockIO(throttle_read_bps_device=(ThrottleDevice(major=major, minor=minor, rate=rate),))

    steps = (
        Resources(memory=Memory(limit=32 * MEBIBYTE, swap=48 * MEBIBYTE), block_io=throttled(MEBIBYTE)),
        Resources(cpu=Cpu(quota=10_000, burst=5_000)),
        Resources(cpu=Cpu(period=100_000), block_io=throttled(0)),
        Resources(memory=Memory(limit=-1), cpu=Cpu(quota=-1, shares=1024), pids=Pids(limit=-1)),
    )
    with placed(start, "/update") as group:
        Child(group, "exec sleep 60")
        before = files_of(group, *names)
        seen: list[dict[str, str]] = []
        for step in steps:
            update(group, change_of(step))
            after = files_of(group, *names)
            seen.append({name: after[name] for name in names if after[name] != before[name]})
            before = after
        facts: Facts = {
            "seen": seen,
            "refused": refusal(lambda: update(group, change_of(Resources(cpu=Cpu(shares=2, cpus="40"))))),
            "unchanged": files_of(group, *names) == before,
            "checked": refusal(
                lambda: update(group, change_of(Resources(memory=Memory(limit=1, check_before_update=True))))
            ),
        }
        update(group, change_of(Resources(cpu=Cpu(idle=1))))
        update(group, change_of(Resources(cpu=Cpu(idle=0, shares=512))))
        return {**facts, "idle": files_of(group, "cpu.idle", "cpu.weight")}


def check_statistics() -> Facts:
    """What is told of a group with a limit, a hog and a bomb, and of one that vanished."""
    resources = Resources(memory=Memory(limit=32 * MEBIBYTE, swap=32 * MEBIBYTE), pids=Pids(limit=5))
    with placed(resources, "/told/of") as group:
        Child(group, "exec tail -c 200m /dev/zero > /dev/null").wait()
        Child(group, "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done 2>/dev/null").wait()
        told = statistics_of(group)
        sentences = exhausted(group)
        group.kill()
        reap()
        group.directories[0].rmdir()
        hints: list[str] = []
        for operation in (
            *(group.freeze, lambda: statistics_of(group), lambda: update(group, change_of(Resources()))),
            lambda: Child(group, "true"),
        ):
            try:
                operation()
            except HostError as error:
                hints.append(error.hint)
    return {"told": told, "sentences": sentences, "hints": hints}


CHECKS = (check_place, check_devices, check_update, check_statistics)
