"""Memory: what one instance costs the host at the moment it is ready, and what a guest says of its own.

Beside its processes' pages the kernel keeps things for an instance: page tables, the kernel's stacks of its
threads, slabs. No view has all of them. The tables and stacks of its processes can be told for every target;
slabs only where a control group counts them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from pybench.harness.errors import InstanceError
from pybench.harness.measure.base import Reading
from pybench.harness.targets.base import HasGroup, HasGuest, Instance

KIBIBYTE: Final = 1024.0
"""smaps_rollup counts in KiB (proc_pid_smaps(5))."""
PAGE: Final = 4096.0
HALF_PAGE: Final = 2048
STACK: Final = 16384
"""Bytes of a thread's kernel stack on x86-64 (THREAD_SIZE, Documentation/arch/x86/kernel-stacks.rst)."""
_SIZES: Final = {"pss": "pss", "rss": "rss", "uss": "uss", "mapped": "vms"}
"""Metric → what psutil calls it."""


def read_memory(instance: Instance) -> list[Reading]:
    """`memory.host.*` over all processes of the instance, and for a guest its two sides.

    `pss` divides each shared page by the number of processes that map it (proc_pid_smaps(5)), so that the sum
    over an instance's processes counts no page twice; `rss` counts it in each; `uss` counts only pages of
    a single process; `mapped` is address space. `cgroup` is there where the instance has a group of its own.

    `memory.kernel.tables` and `memory.kernel.stacks` are what the kernel has for its processes;
    `memory.kernel.charged` is all that is charged to its group for the kernel, those two included.

    For a guest: `memory.host.guest` and `memory.vmm` split what QEMU holds (see `HostMemory`), and
    `memory.guest.*` is what the guest counts. Asking it comes last, since it costs the guest memory.
    """
    readings = process_memory(instance.processes)
    readings += _kernel_memory(instance)
    if (charged := instance.cgroup_memory) is not None:
        # What the kernel has charged ahead of the use of its pages is part of the figure.
        readings.append(_pages("memory.host.cgroup", charged, "cgroup", PAGE))
    if isinstance(instance, HasGuest):
        readings += _monitor_memory(instance)
        readings += _guest_memory(instance)
    return readings


def _pages(metric: str, size: int, channel: str = "smaps", resolution: float = KIBIBYTE) -> Reading:
    """A count of whole pages, which is exact, however coarse its unit."""
    return Reading(metric, "B", float(size), channel, resolution, error=0.0)


def _monitor_memory(instance: HasGuest) -> list[Reading]:
    try:
        memory = instance.read_host_memory()
    except InstanceError as error:
        return [Reading("memory.vmm", "B", None, "smaps", KIBIBYTE, error.message)]
    return [
        _pages("memory.host.guest", memory.guest),
        _pages("memory.vmm", memory.monitor),
        _pages("memory.vmm.files", memory.monitor_files),
        _pages("memory.vmm.code", memory.monitor_code),
        _pages("memory.host.merged", memory.merged),
    ]


def _guest_memory(instance: HasGuest) -> list[Reading]:
    try:
        memory = instance.read_guest_memory()
    except InstanceError as error:
        return [Reading("memory.guest.used", "B", None, "guest", KIBIBYTE, error.message)]
    if memory is None:
        return []
    return [
        _pages("memory.guest.total", memory.total, "guest"),
        _pages("memory.guest.used", memory.used, "guest"),
        _pages("memory.guest.kernel", memory.kernel, "guest"),
    ]


def _kernel_memory(instance: Instance) -> list[Reading]:
    """Page tables and stacks of every process, and what its group is charged."""
    tables = stacks = 0
    for pid in instance.processes:
        found = _status(pid)
        if "VmPTE" not in found:
            continue  # it has ended, and is only still to be reaped
        # Of the kernel's 4-level tables only the pages of the lowest level (proc_pid_status(5), VmPTE).
        tables += int(KIBIBYTE) * found["VmPTE"]
        stacks += STACK * found["Threads"]
    readings = []
    if stacks:
        readings = [
            _pages("memory.kernel.tables", tables, "status"),
            _pages("memory.kernel.stacks", stacks, "status", STACK),
        ]
    if isinstance(instance, HasGroup) and (kernel := instance.kernel_memory) is not None:
        readings.append(_pages("memory.kernel.charged", kernel.total, "cgroup", PAGE))
        if kernel.slab is not None:
            readings.append(_pages("memory.kernel.slab", kernel.slab, "cgroup", PAGE))
    return readings


def kernel_bytes(instance: Instance) -> float:
    """What the kernel keeps for an instance: all that is charged to its group, else tables and stacks."""
    found = {reading.metric: reading.value or 0.0 for reading in _kernel_memory(instance)}
    apart = found.get("memory.kernel.tables", 0.0) + found.get("memory.kernel.stacks", 0.0)
    return found.get("memory.kernel.charged", apart)


def _status(pid: int) -> dict[str, int]:
    """The numbers of /proc/PID/status; none of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {first[:-1]: int(rest[0]) for first, *rest in words if rest and rest[0].isdigit()}


def process_memory(pids: tuple[int, ...]) -> list[Reading]:
    """`memory.host.pss`, `rss`, `uss` and `mapped`; one without a value where they cannot be read."""
    totals = dict.fromkeys(_SIZES, 0)
    counted: set[int] = set()
    try:
        for pid in pids:
            for process in _family(pid):
                # Any of them may end at any moment, which frees its memory; but not all of them.
                if process.pid not in counted and (sizes := _sizes(process)):
                    counted.add(process.pid)
                    for name, size in sizes.items():
                        totals[name] += size
    except psutil.AccessDenied as error:
        return [_failed(f"the kernel refuses to show the memory of process {error.pid}")]
    if not pids:
        return [_failed("the instance names no process")]
    if not counted:
        return [_failed(f"process {pids[0]} of the instance vanished before its memory was read")]
    pss, uss = totals.pop("pss"), totals["uss"]
    # Of a page that is mapped several times the share is rounded down to KiB, which loses nothing where it
    # is half a page: a page of the program's own file, mapped twice.
    rounding = 0.0 if (pss - uss) % HALF_PAGE == 0 else KIBIBYTE * len(counted)
    proportional = Reading("memory.host.pss", "B", float(pss), "smaps", KIBIBYTE, error=rounding)
    return [proportional, *(_pages(f"memory.host.{name}", size) for name, size in totals.items())]


def _family(pid: int) -> list[psutil.Process]:
    """A process, its children, theirs, and so on, as the kernel lists them (proc_tid_children(5)).

    psutil looks at each process of the host, which takes longer than everything else that is read here.
    """
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        found.append(psutil.Process(pid))
        try:
            children = list(_listed_children(pid))
        except OSError:  # one has just ended, or the kernel keeps no such lists
            return found + found[0].children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(child))
    return found


def _listed_children(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text(encoding="ascii").split()):
            yield child
            yield from _listed_children(child)


def _sizes(process: psutil.Process) -> dict[str, int]:
    """Bytes; none of one that has ended. A zombie has no pages, and is no process without memory."""
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return {}
    if memory.pss == 0:
        return {}
    return {name: int(getattr(memory, attribute)) for name, attribute in _SIZES.items()}


def _failed(reason: str) -> Reading:
    return Reading("memory.host.pss", "B", None, "smaps", KIBIBYTE, reason)
