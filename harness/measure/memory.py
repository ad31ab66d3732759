"""Memory: what one instance costs the host at the moment it is ready."""

from __future__ import annotations

from typing import Final

import psutil

from pybench.harness.measure.base import Reading
from pybench.harness.targets.base import Instance

KIBIBYTE: Final = 1024.0
"""smaps_rollup counts in KiB (proc_pid_smaps(5))."""
PAGE: Final = 4096.0


def read_memory(instance: Instance) -> list[Reading]:
    """`memory.host.pss` over all processes of the instance; `memory.host.cgroup` where it has a cgroup.

    The proportional set size divides each shared page by the number of processes that map it
    (proc_pid_smaps(5)), so that the sum over an instance's processes counts no page twice.
    """
    readings = [_proportional_set_size(instance.processes)]
    if (charged := instance.cgroup_memory) is not None:
        readings.append(Reading("memory.host.cgroup", "B", float(charged), "cgroup", PAGE))
    return readings


def _proportional_set_size(pids: tuple[int, ...]) -> Reading:
    total = 0
    counted: set[int] = set()
    try:
        for pid in pids:
            named = psutil.Process(pid)
            # A child may end at any moment, which frees its memory; that a named process ended is a failure.
            family = [(named, True), *((child, False) for child in named.children(recursive=True))]
            for process, required in family:
                if process.pid not in counted:
                    counted.add(process.pid)
                    total += _pss(process, required=required)
    except psutil.NoSuchProcess as error:
        return _failed(f"process {error.pid} of the instance vanished before its memory was read")
    except psutil.AccessDenied as error:
        return _failed(f"the kernel refuses to show the memory of process {error.pid}")
    if not counted:
        return _failed("the instance names no process")
    return Reading("memory.host.pss", "B", float(total), "smaps", KIBIBYTE)


def _pss(process: psutil.Process, *, required: bool) -> int:
    """Bytes; a zombie's smaps_rollup is empty, which must not pass for a process without memory."""
    try:
        size = int(process.memory_full_info().pss)
        if size == 0 and required:
            raise psutil.ZombieProcess(process.pid)
    except psutil.NoSuchProcess:
        if required:
            raise
        return 0
    return size


def _failed(reason: str) -> Reading:
    return Reading("memory.host.pss", "B", None, "smaps", KIBIBYTE, reason)
