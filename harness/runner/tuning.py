"""What a scenario asks of the host for its run, and puts back: processors, priority, latency, cold caches."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import HostError

if TYPE_CHECKING:
    from pybench.harness.model import Schedule

HIGH_PRIORITY: Final = -10
"""Nice value; children inherit it, so harness and instances rise together above the host's other work."""
DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")
CPU_LATENCY: Final = Path("/dev/cpu_dma_latency")
"""Takes a request in microseconds as a 32-bit number."""
IDLE_DRIVER: Final = Path("/sys/devices/system/cpu/cpuidle/current_driver")
PAGES_AND_SLAB: Final = "3"
"""Page cache, directory entries and inodes (sysctl/vm.rst)."""


@contextlib.contextmanager
def tuned(schedule: Schedule) -> Iterator[dict[str, str]]:
    """Hold this process, and what it starts, to the schedule's processors and priority.

    Yields:
        The qualifiers that say beside each sample what was asked for, and what of it was refused.

    Raises:
        HostError: a processor is not there, or caches cannot be dropped here.
    """
    qualifiers: dict[str, str] = {}
    with contextlib.ExitStack() as undo:
        if schedule.caches == "cold":
            _check_dropping()
            qualifiers["caches"] = "cold"
        if schedule.cpus:
            _hold(frozenset(schedule.cpus), undo)
            qualifiers["cpus"] = ",".join(map(str, sorted(schedule.cpus)))
        if schedule.priority == "high":
            qualifiers["priority"] = "high" if _raise_priority(undo) else "refused"
        if schedule.cpu_latency is not None:
            qualifiers["cpu-latency"] = _bound_cpu_latency(schedule.cpu_latency, undo)
        yield qualifiers


def is_held(pids: Iterable[int], cpus: Collection[int]) -> bool:
    """Whether processes may run on these processors alone.

    Children inherit that, but whoever starts them may lift it, as a daemon of libvirt's might for a machine.
    """
    wanted = set(cpus)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if not os.sched_getaffinity(pid) <= wanted:
                return False
    return True


def check_processors(cpus: Collection[int]) -> None:
    """This process may run on all of them.

    Raises:
        HostError: not on one.
    """
    allowed = os.sched_getaffinity(0)
    if missing := set(cpus) - allowed:
        raise HostError(
            f"schedule.cpus: processor {min(missing)} is not available here",
            f"available are {', '.join(map(str, sorted(allowed)))}",
        )


def drop_caches() -> None:
    """Write back what is dirty, then drop the host's clean caches.

    Raises:
        HostError: the kernel refuses.
    """
    os.sync()
    try:
        DROP_CACHES.write_text(PAGES_AND_SLAB, encoding="ascii")
    except OSError as error:
        raise _not_droppable(error) from error


def _check_dropping() -> None:
    try:
        with DROP_CACHES.open("w", encoding="ascii"):
            pass
    except OSError as error:
        raise _not_droppable(error) from error


def _not_droppable(error: OSError) -> HostError:
    return HostError(
        f"{DROP_CACHES}: the host's caches cannot be dropped: {error.strerror}",
        "run as root, or leave out `schedule.caches: cold`",
    )


def _hold(cpus: frozenset[int], undo: contextlib.ExitStack) -> None:
    check_processors(cpus)
    allowed = os.sched_getaffinity(0)
    for thread in _threads():
        _move(thread, cpus)
        undo.callback(_move, thread, frozenset(allowed))


def _move(thread: int, cpus: frozenset[int]) -> None:
    # A thread may end at any moment.
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cpus)


def _raise_priority(undo: contextlib.ExitStack) -> bool:
    """Whether it was permitted; setpriority(2) is per thread on Linux, and later threads inherit."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, HIGH_PRIORITY)
    except PermissionError:
        return False
    undo.callback(_lower_priority, before)
    return True


def _lower_priority(value: int) -> None:
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread, value)


def _bound_cpu_latency(seconds: float, undo: contextlib.ExitStack) -> str:
    """Have idle processors wake up within this time; returns what became of that, for the qualifier.

    A processor that sleeps deeply wakes up late, and in a virtual machine each sleep is an exit to a host
    that may have given the processor to somebody else meanwhile. The request holds while the file is open,
    however this process ends, and the least one of all processes counts
    (Documentation/power/pm_qos_interface.rst).
    """
    try:
        request = CPU_LATENCY.open("wb", buffering=0)
    except OSError:
        return "refused"
    undo.enter_context(request)
    microseconds = round(seconds * 1e6)
    request.write(struct.pack("=i", microseconds))
    return f"{microseconds} us" if _has_idle_states() else "without effect"


def _has_idle_states() -> bool:
    """Whether the kernel chooses between ways to be idle; without a driver for them a request is void."""
    try:
        driver = IDLE_DRIVER.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return False
    return driver not in {"", "none"}


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208 - names are what is wanted
