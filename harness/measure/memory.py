"""Memory: what one instance costs the host at the moment it is ready."""

from __future__ import annotations

from typing import Final

import psutil

from pybench.harness.measure.base import Reading
from pybench.harness.targets.base import Instance

KIBIBYTE: Final = 1024.0
"""smaps_rollup counts in KiB (proc_pid_smaps(5))."""
PAGE: Final = 4096.0
HALF_PAGE: Final = 2048


def read_memory(instance: Instance) -> list[Reading]:
    """`memory.host.pss` over all processes of the instance; `memory.host.cgroup` where it has a cgroup.

    The proportional set size divides each shared page by the number of processes that map it
    (proc_pid_smaps(5)), so that the sum over an instance's processes counts no page twice.
    """
    readings = [_proportional_set_size(instance.processes)]
    if (charged := instance.cgroup_memory) is not None:
        # A count of whole pages; what the kernel has charged ahead of their use is part of it.
        readings.append(Reading("memory.host.cgroup", "B", float(charged), "cgroup", PAGE, error=0.0))
    return readings


def _proportional_set_size(pids: tuple[int, ...]) -> Reading:
    total = unshared = 0
    counted: set[int] = set()
    try:
        for pid in pids:
            named = psutil.Process(pid)
            # A child may end at any moment, which frees its memory; that a named process ended is a failure.
            family = [(named, True), *((child, False) for child in named.children(recursive=True))]
            for process, required in family:
                if process.pid not in counted:
                    counted.add(process.pid)
                    proportional, own = _sizes(process, required=required)
                    total, unshared = total + proportional, unshared + own
    except psutil.NoSuchProcess as error:
        return _failed(f"process {error.pid} of the instance vanished before its memory was read")
    except psutil.AccessDenied as error:
        return _failed(f"the kernel refuses to show the memory of process {error.pid}")
    if not counted:
        return _failed("the instance names no process")
    # Pages are counted exactly; of one that is mapped several times the share is rounded down to KiB,
    # which loses nothing where it is half a page: a page of the program's own file, mapped twice.
    rounding = 0.0 if (total - unshared) % HALF_PAGE == 0 else KIBIBYTE * len(counted)
    return Reading("memory.host.pss", "B", float(total), "smaps", KIBIBYTE, error=rounding)


def _sizes(process: psutil.Process, *, required: bool) -> tuple[int, int]:
    """Proportional and unshared set size in bytes.

    A zombie's smaps_rollup is empty, which must not pass for a process without memory.
    """
    try:
        info = process.memory_full_info()
        if info.pss == 0 and required:
            raise psutil.ZombieProcess(process.pid)
    except psutil.NoSuchProcess:
        if required:
            raise
        return 0, 0
    return int(info.pss), int(info.uss)


def _failed(reason: str) -> Reading:
    return Reading("memory.host.pss", "B", None, "smaps", KIBIBYTE, reason)
