"""Runs as the first process of a guest whose control groups are version 2 alone, and tells what it saw.

It is put into an initramfs beside the interpreter, the modules it imports and busybox.
Each check is a function that returns facts; the facts, or the error, go to the console as one JSON line.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import sys
import termios
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cgroup_guest_placement
from cgroup_guest_helpers import (
    GROUPS,
    MEBIBYTE,
    Child,
    Facts,
    disk,
    forked_into,
    placed,
    reap,
    refusal,
    wait_until,
)

from pybench.runtime.container.cgroup import delegation
from pybench.runtime.container.cgroup.base import (
    Controller,
    DeviceLimits,
    Group,
    HugePageLimit,
    Limits,
    kill_and_wait,
)
from pybench.runtime.container.cgroup.detect import detect, open_group
from pybench.runtime.container.cgroup.placement import placement_of
from pybench.runtime.container.cgroup.v2 import Version2
from pybench.runtime.container.specification.resources import Pids, Resources
from pybench.runtime.errors import HostError

MARKER = "PYBENCH-RESULT "
USER = 1000
NEW_CGROUP_NAMESPACE = 0x02000000  # CLONE_NEWCGROUP, clone(2)
RESTART = 0x01234567  # reboot(2), LINUX_REBOOT_CMD_RESTART; QEMU ends on it
SPIN = "while :; do :; done"

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str) -> None:
    """Mount a filesystem that has no source."""
    Path(target).mkdir(parents=True, exist_ok=True)
    if libc.mount(kind.encode(), target.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}")


@contextlib.contextmanager
def made(name: str, limits: Limits, controller: Controller | None = None) -> Iterator[Group]:
    """A group, emptied and removed afterwards."""
    group = (controller or detect()).create(name, limits)
    try:
        yield group
    finally:
        group.kill()
        reap()
        group.remove()


def cpu_seconds(group: Group) -> float:
    """CPU time used so far."""
    return group.usage().cpu_seconds or 0.0


def check_detect() -> Facts:
    """What is found, and what it can hold."""
    controller = detect()
    assert isinstance(controller, Version2)
    return {
        "label": controller.label,
        "parent": str(controller.parent),
        "controllers": sorted(controller.controllers),
        "unavailable": controller.unavailable(everything()),
        "unknown": controller.unavailable(Limits(hugetlb=(HugePageLimit("3MB", 0),))),
    }


def everything() -> Limits:
    """Every limit there is."""
    return Limits(
        memory=64 * MEBIBYTE,
        swap=8 * MEBIBYTE,
        memory_high=48 * MEBIBYTE,
        memory_reserved=16 * MEBIBYTE,
        cpus=0.25,
        cpu_period=50_000,
        cpu_shares=1024,
        cpuset_cpus="1",
        cpuset_mems="0",
        pids=12,
        io=(DeviceLimits(disk(), 10 * MEBIBYTE, None, None, 500, weight=300),),
        io_weight=200,
        hugetlb=(HugePageLimit("2MB", 4 * MEBIBYTE),),
    )


def check_read_back() -> Facts:
    """Each limit as the kernel reads it back."""
    files = (
        *("memory.max", "memory.swap.max", "memory.high", "memory.low", "cpu.max", "cpu.weight"),
        *("cpuset.cpus", "cpuset.mems", "pids.max", "io.max", "io.weight", "hugetlb.2MB.max"),
        "hugetlb.2MB.rsvd.max",
    )
    # A weight per device wants io.cost to be switched on for the device (cgroup-v2.rst, io.cost.qos).
    (GROUPS / "io.cost.qos").write_text(f"{disk()} enable=1", encoding="ascii")
    with made("every", everything()) as group:
        held = {file: (group.directories[0] / file).read_text(encoding="ascii").strip() for file in files}
    return {**held, "disk": disk(), "left": (GROUPS / "every").exists()}


def check_clone_into() -> Facts:
    """A child is in its group from its first instruction, and runs where the cpuset says."""
    with made("into", Limits(cpuset_cpus="1", pids=1)) as group:
        Child(group, "read -r line < /proc/self/cgroup; echo $line > /tmp/view", NEW_CGROUP_NAMESPACE).wait()
        child = Child(group, "exec sleep 60")
        return {
            "view": Path("/tmp/view").read_text(encoding="ascii").strip(),
            "group": Path(f"/proc/{child.pid}/cgroup").read_text(encoding="ascii").strip(),
            "processes": group.processes() == (child.pid,),
            "affinity": sorted(os.sched_getaffinity(child.pid)),
            "pids": group.usage().pids,
        }


def check_quota() -> Facts:
    """A spinner's share of a CPU under a quota of a quarter."""
    with made("quota", Limits(cpus=0.25)) as group:
        Child(group, SPIN)
        share, deadline = 0.0, time.monotonic() + 60
        # Where the host is busy, an emulated processor may stand still for a while and come late.
        while abs(share - 0.25) > 0.02 and time.monotonic() < deadline:
            begun, before = time.monotonic(), cpu_seconds(group)
            time.sleep(2.0)
            share = (cpu_seconds(group) - before) / (time.monotonic() - begun)
        return {"share": share, "throttled": group.usage().throttled_seconds}


def check_pids() -> Facts:
    """How many processes a group of five holds."""
    with made("pids", Limits(pids=5)) as group:
        status = Child(group, "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done 2>/dev/null").wait()
        return {"status": status, "processes": len(group.processes()), "counted": group.usage().pids}


def check_memory() -> Facts:
    """A hog, its end and the count of it."""
    with made("memory", Limits(memory=32 * MEBIBYTE)) as group:
        status = Child(group, "exec tail -c 200m /dev/zero > /dev/null").wait()
        usage = group.usage()
        return {
            "status": status,
            "kills": usage.oom_kills,
            "same": usage.oom_kills == group.out_of_memory_kills(),
            "peak": usage.memory_peak,
        }


def read_directly() -> None:
    """Read 2 MiB of the disk past the cache."""
    descriptor = os.open("/dev/nvme0n1", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, MEBIBYTE // 4)
    for _ in range(8):
        os.readv(descriptor, [buffer])


def bomb() -> None:
    """Fork for ever."""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def check_io() -> Facts:
    """How long a direct read of 2 MiB takes at 2 MiB/s."""
    limits = Limits(io=(DeviceLimits(disk(), read_bytes=2 * MEBIBYTE),))
    with made("io", limits) as group:
        reader = forked_into(group, read_directly)
        begun = time.monotonic()
        _, status = os.waitpid(reader, 0)
        seconds = time.monotonic() - begun
        usage = group.usage()
        return {
            "status": status,
            "seconds": seconds,
            "read": usage.io_bytes_read,
            "written": usage.io_bytes_written,
        }


def check_freeze() -> Facts:
    """What a spinner uses while it is frozen, and after."""
    with made("freeze", Limits()) as group:
        Child(group, SPIN)
        time.sleep(0.2)
        group.freeze()
        group.freeze()
        # What a task used last is charged when it leaves its processor, and here that is an emulated one,
        # which may stand still for a while.
        wait_until(lambda: _is_steady(group))
        before = cpu_seconds(group)
        time.sleep(0.3)
        frozen = cpu_seconds(group) - before
        refused = ""
        try:
            Child(group, "true")
        except HostError as error:
            refused = error.message
        group.thaw()
        wait_until(lambda: cpu_seconds(group) > before)
        return {"frozen": frozen, "thawed": cpu_seconds(group) - before, "refused": refused}


def _is_steady(group: Group) -> bool:
    """Whether it uses nothing during half a second."""
    before = cpu_seconds(group)
    time.sleep(0.5)
    return cpu_seconds(group) == before


def _holds(group: Group, number: int) -> bool:
    return len(group.processes()) == number


def check_kill() -> Facts:
    """A fork bomb's end by cgroup.kill, frozen and not, and by a sweep while it is frozen."""
    facts: Facts = {}

    @contextlib.contextmanager
    def still(group: Group) -> Iterator[None]:
        group.freeze()
        try:
            yield
        finally:
            group.thaw()

    def sweep(group: Group) -> None:
        kill_and_wait(group.processes, lambda: still(group))

    def frozen(group: Group) -> None:
        group.freeze()
        group.kill()

    def plain(group: Group) -> None:
        group.kill()

    ways: dict[str, Callable[[Group], None]] = {"kill": plain, "frozen": frozen, "sweep": sweep}
    for way, kill in ways.items():
        with made(way, Limits(pids=40)) as group:
            forked_into(group, bomb)
            wait_until(partial(_holds, group, 40))
            before = len(group.processes())
            kill(group)
            facts[way] = [before, len(group.processes())]
            reap()
    return facts


def check_pressure() -> Facts:
    """Two spinners on one CPU wait for each other."""
    with made("pressure", Limits(cpuset_cpus="1")) as group:
        Child(group, SPIN)
        Child(group, SPIN)
        pressure, deadline = group.pressure(), time.monotonic() + 60
        while pressure and pressure.cpu and pressure.cpu.some.total_seconds <= 0.3:
            time.sleep(0.1)
            pressure = group.pressure()
            if time.monotonic() > deadline:
                break
        if pressure is None:
            return {"there": False}
        return {
            "there": True,
            "cpu": pressure.cpu.some.total_seconds if pressure.cpu else None,
            "memory": pressure.memory.some.total_seconds if pressure.memory else None,
            "io": pressure.io is not None,
        }


def check_refused() -> Facts:
    """A limit the kernel refuses, a name that is taken, and what is left of both."""
    messages = []
    with made("taken", Limits(pids=5)):
        for name, limits in (("refused", Limits(cpuset_cpus="4000")), ("taken", Limits())):
            try:
                detect().create(name, limits)
            except HostError as error:
                messages.append(error.message)
        return {
            "messages": messages,
            "refused": (GROUPS / "refused").exists(),
            "taken": (GROUPS / "taken").exists(),
        }


def check_open() -> Facts:
    """A group found again by its directory, with groups beneath it."""
    with made("again", Limits(pids=9)) as group:
        again = open_group(group.directories)
        (again.directories[0] / "inner" / "innermost").mkdir(parents=True)
        child = Child(again, SPIN)
        innermost = again.directories[0] / "inner" / "innermost" / "cgroup.procs"
        innermost.write_text(str(child.pid), encoding="ascii")
        seen = group.processes() == (child.pid,)
        again.kill()
        status = child.wait()
        os.close(again.descriptor)
    vanished = ""
    try:
        open_group(group.directories)
    except HostError as error:
        vanished = error.message
    group.kill()
    group.thaw()
    return {"seen": seen, "status": status, "vanished": vanished, "processes": group.processes()}


def check_ordinary_user() -> Facts:
    """What a user without any privilege can do, before and after a subtree is delegated to it."""
    scope = GROUPS / "user.scope"
    scope.mkdir()
    (scope / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    try:
        before = as_user(lambda: {"reason": getattr(detect(), "reason", "")})
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(scope / name, USER, USER)
    finally:
        (GROUPS / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    after = as_user(lambda: delegated(scope), inside=scope)
    left = sorted(path.name for path in scope.iterdir() if path.is_dir())
    for inner in left:
        (scope / inner).rmdir()
    scope.rmdir()
    return {**before, **after, "left": left}


def delegated(scope: Path) -> Facts:
    """As systemd's scope is used once this process is in it."""
    delegation.settle(scope)
    controller = detect()
    assert isinstance(controller, Version2)
    with made("mine", Limits(pids=3, memory=16 * MEBIBYTE, cpus=0.5), controller) as group:
        child = Child(group, "exec sleep 60")
        with placed(Resources(pids=Pids(limit=2)), "") as own_place:
            place = str(own_place.directories[0])
        return {
            "place": place,
            "asked": refusal(lambda: placement_of("/some/where", "x").create(Limits())),
            "parent": str(controller.parent),
            "essential": controller.unavailable(Limits(pids=3, memory=16 * MEBIBYTE, cpus=0.5)),
            "processes": group.processes() == (child.pid,),
        }


def as_user(function: Callable[[], Facts], inside: Path | None = None) -> Facts:
    """A function's facts, from a process without privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if inside is not None:
            (inside / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        os.setgroups(())
        os.setgid(USER)
        os.setuid(USER)
        os.write(writer, json.dumps(facts_of(function)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    facts: Facts = json.loads(text)
    return facts


def facts_of(check: Callable[[], Facts]) -> Facts:
    """Its facts, or its error as a fact."""
    try:
        return check()
    except Exception:
        return {"error": traceback.format_exc()}


CHECKS = (
    *(check_detect, check_read_back, check_clone_into, check_quota, check_pids, check_memory, check_io),
    *(check_freeze, check_kill, check_pressure, check_refused, check_open, check_ordinary_user),
    *cgroup_guest_placement.CHECKS,
)


def main() -> None:
    """Mount what is needed, run every check, tell, and end the guest."""
    for kind, target in (
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("cgroup2", str(GROUPS)),
    ):
        mount(kind, target)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    results: dict[str, Facts] = {}
    for check in CHECKS:
        begun = time.monotonic()
        results[check.__name__] = facts_of(check)
        results[check.__name__]["took"] = round(time.monotonic() - begun, 2)
    results["left"] = {"groups": sorted(path.name for path in GROUPS.iterdir() if path.is_dir())}
    sys.stdout.write(f"\n{MARKER}{json.dumps(results)}\n")
    sys.stdout.flush()
    termios.tcdrain(1)


if __name__ == "__main__":
    try:
        main()
    finally:
        libc.reboot(RESTART)
