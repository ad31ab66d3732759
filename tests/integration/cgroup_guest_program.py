"""Runs as the first process of a guest whose control groups are version 2 alone, and tells what it saw.

Stand-alone: it is put into an initramfs beside the interpreter, the modules it imports and busybox.
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
from pathlib import Path

from pybench.runtime.container import _spawn
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
from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED
from pybench.runtime.container.cgroup.events import exhausted, statistics_of
from pybench.runtime.container.cgroup.placement import placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import change_of, limits_of
from pybench.runtime.container.cgroup.update import update
from pybench.runtime.container.cgroup.v2 import Version2
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

MARKER = "PYBENCH-RESULT "
GROUPS = Path("/sys/fs/cgroup")
MEBIBYTE = 2**20
USER = 1000
NEW_CGROUP_NAMESPACE = 0x02000000  # CLONE_NEWCGROUP, clone(2)
RESTART = 0x01234567  # reboot(2), LINUX_REBOOT_CMD_RESTART; QEMU ends on it
SPIN = "while :; do :; done"

libc = ctypes.CDLL(None, use_errno=True)
Facts = dict[str, object]


def mount(kind: str, target: str) -> None:
    """Mount a filesystem that has no source."""
    Path(target).mkdir(parents=True, exist_ok=True)
    if libc.mount(kind.encode(), target.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}")


class Child:
    """A shell command, cloned into a group."""

    def __init__(self, group: Group, script: str, flags: int = 0) -> None:
        program = _spawn.Program((), b"/bin/sh", (b"sh", b"-c", script.encode()), ())
        cancel = os.eventfd(0)
        with group.spawning():
            self.pid, self.pidfd, *_, failed, number, call = _spawn.spawn(
                program,
                flags=flags,
                descriptors=(),
                uid_map=None,
                gid_map=None,
                time_offsets=None,
                deny_setgroups=False,
                map_commands=(),
                cgroup=group.descriptor,
                watched=(),
                awaited=0,
                cancel=cancel,
                timeout=10**10,
                listener=-1,
                supervisor=-1,
            )
        os.close(cancel)
        if failed != -1:
            raise OSError(number, call)

    def wait(self) -> int:
        """Exit code, or minus the signal."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert ended is not None
        os.close(self.pidfd)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


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


def reap() -> None:
    """Collect what has ended; orphans are this process's, too."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


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


def disk() -> str:
    """The guest's disk as MAJOR:MINOR."""
    deadline = time.monotonic() + 10
    file = Path("/sys/block/nvme0n1/dev")
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return file.read_text(encoding="ascii").strip()


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
        time.sleep(0.3)
        before, begun = cpu_seconds(group), time.monotonic()
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


def forked_into(group: Group, function: Callable[[], None]) -> int:
    """A copy of this process that enters a group and runs a function; its pid."""
    pid = os.fork()
    if pid == 0:
        (group.directories[0] / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        function()
        os._exit(0)
    return pid


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
        before = cpu_seconds(group)
        time.sleep(0.3)
        frozen = cpu_seconds(group) - before
        refused = ""
        try:
            Child(group, "true")
        except HostError as error:
            refused = error.message
        group.thaw()
        time.sleep(0.3)
        return {"frozen": frozen, "thawed": cpu_seconds(group) - before, "refused": refused}


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
            deadline = time.monotonic() + 10
            while (before := len(group.processes())) < 40 and time.monotonic() < deadline:
                time.sleep(0.02)
            kill(group)
            facts[way] = [before, len(group.processes())]
            reap()
    return facts


def check_pressure() -> Facts:
    """Two spinners on one CPU wait for each other."""
    with made("pressure", Limits(cpuset_cpus="1")) as group:
        Child(group, SPIN)
        Child(group, SPIN)
        time.sleep(0.8)
        pressure = group.pressure()
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


@contextlib.contextmanager
def placed(resources: Resources, path: str, devices: tuple[DeviceRule, ...] | None = None) -> Iterator[Group]:
    """A group at the path of a specification, emptied and removed afterwards."""
    group = placement_of(path, "unused").create(limits_of(resources), devices)
    try:
        yield group
    finally:
        group.kill()
        reap()
        group.remove()
        remove_placed(group.directories)


def files_of(group: Group, *names: str) -> dict[str, str]:
    """What files of a group say."""
    return {name: (group.directories[0] / name).read_text(encoding="ascii").strip() for name in names}


def refusal(function: Callable[[], object]) -> str:
    """How it is refused."""
    try:
        function()
    except HostError as error:
        return error.message
    return ""


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


def facts_of(check: Callable[[], Facts]) -> Facts:
    """Its facts, or its error as a fact."""
    try:
        return check()
    except Exception:
        return {"error": traceback.format_exc()}


CHECKS = (
    *(check_detect, check_read_back, check_clone_into, check_quota, check_pids, check_memory, check_io),
    *(check_freeze, check_kill, check_pressure, check_refused, check_open, check_ordinary_user),
    *(check_place, check_devices, check_update, check_statistics),
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
