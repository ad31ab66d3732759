"""What a group has used and how hard it was pressed, as read back from the kernel's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MICROSECOND = 1e-6
NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True)
class Usage:
    """What one group uses and has used; None where this host does not count it."""

    memory: int | None
    """Bytes charged now, page cache and kernel memory included."""
    memory_peak: int | None
    """Bytes."""
    cpu_seconds: float | None
    throttled_seconds: float | None
    """How long its runnable threads were held back by the quota, summed over CPUs."""
    pids: int | None
    """Processes and threads."""
    io_bytes_read: int | None
    io_bytes_written: int | None
    oom_kills: int | None


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """What the kernel keeps for one group and charges to it, in bytes; part of what is charged in all."""

    total: int
    slab: int | None
    """None, as the others, where this version of control groups does not divide the total."""
    page_tables: int | None
    stacks: int | None


@dataclass(frozen=True, slots=True)
class Stalled:
    """Shares of the last 10, 60 and 300 seconds (0..1) in which it waited, and seconds in all."""

    last_10: float
    last_60: float
    last_300: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Waiting for one resource (Documentation/accounting/psi.rst)."""

    some: Stalled
    """At least one thread waited."""
    full: Stalled | None
    """All of them did; kernels before 5.13 do not say so of the CPU."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Stall information of one group; a resource is None where the kernel does not track it."""

    cpu: Stall | None
    memory: Stall | None
    io: Stall | None


def read_pids(file: Path) -> tuple[int, ...]:
    """Pids of a cgroup.procs file; none if the group is gone."""
    try:
        return tuple(int(line) for line in file.read_text(encoding="ascii").split())
    except OSError:
        # ENOENT, or ENODEV for a group that was removed after it was opened.
        return ()


def read_number(file: Path, key: str | None = None) -> int | None:
    """A single number, or the value of a key in a flat keyed file; None if it is not there."""
    try:
        text = file.read_text(encoding="ascii")
    except OSError:
        return None
    if key is None:
        return int(text) if text.strip().isdigit() else None
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def read_kernel_memory(file: Path) -> KernelMemory | None:
    """From version 2's memory.stat; None where the kernel (before 5.18) does not say it there."""
    total = read_number(file, "kernel")
    if total is None:
        return None
    slab, page_tables, stacks = (read_number(file, key) for key in ("slab", "pagetables", "kernel_stack"))
    return KernelMemory(total, slab, page_tables, stacks)


def read_words(file: Path) -> frozenset[str]:
    """The words of a file such as cgroup.controllers; none if it cannot be read."""
    try:
        return frozenset(file.read_text(encoding="ascii").split())
    except OSError:
        return frozenset()


def scaled(number: int | None, unit: float) -> float | None:
    """A count of units in seconds."""
    return None if number is None else number * unit


def read_blkio(file: Path) -> tuple[int | None, int | None]:
    """Bytes read and written: version 1's lines `MAJOR:MINOR Read N` and `… Write N`."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None

    def total(operation: str) -> int:
        return sum(int(line.rpartition(" ")[2]) for line in lines if f" {operation} " in line)

    return total("Read"), total("Write")


def read_io_stat(file: Path) -> tuple[int | None, int | None]:
    """Bytes read and written: version 2's lines `MAJOR:MINOR rbytes=N wbytes=N …`."""
    try:
        words = file.read_text(encoding="ascii").split()
    except OSError:
        return None, None

    def total(key: str) -> int:
        return sum(int(word.removeprefix(key)) for word in words if word.startswith(key))

    return total("rbytes="), total("wbytes=")


def read_stall(file: Path) -> Stall | None:
    """One *.pressure file; None where there is none, or pressure is switched off."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    stalled: dict[str, Stalled] = {}
    for line in lines:
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields)
        ten, sixty, three_hundred = (float(values[name]) / 100 for name in ("avg10", "avg60", "avg300"))
        stalled[kind] = Stalled(ten, sixty, three_hundred, int(values["total"]) * MICROSECOND)
    return Stall(stalled["some"], stalled.get("full")) if "some" in stalled else None
