"""What one group may use, in one vocabulary for both versions.

Weights are on the scale of version 2 (1..10000, default 100). The conversions are those of
runc and crun (opencontainers/cgroups, utils.go; crun, cgroup-utils.c).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pybench.runtime.errors import InputError

DEFAULT_PERIOD = 100_000
"""Microseconds: the kernel's default for cpu.cfs_period_us and cpu.max."""
LONGEST_PERIOD = 1_000_000
SHORTEST_PERIOD = 1_000
SHORTEST_QUOTA = 1_000
"""Microseconds: min_cfs_quota_period and max_cfs_quota_period of kernel/sched/core.c."""

FEWEST_SHARES, MOST_SHARES = 2, 2**18
"""MIN_SHARES and MAX_SHARES of kernel/sched/sched.h."""
LARGEST_WEIGHT = 10_000
OCI_BLKIO_WEIGHTS = (10, 1000)

_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_DEVICE = re.compile(r"\d+:\d+")
_PAGE_SIZE = re.compile(r"\d+[KMG]B")
_FILE = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What one group may ask of one block device; None means no limit."""

    device: str
    """`MAJOR:MINOR` of the whole device; the kernel refuses partitions."""
    read_bytes: int | None = None
    """Per second, like the next three."""
    write_bytes: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None
    weight: int | None = None
    """1..10000; takes effect where the device's scheduler is BFQ or io.cost is switched on for it."""

    def __post_init__(self) -> None:
        _check_text("io device", self.device, _DEVICE, "give it as MAJOR:MINOR, such as 254:0")
        rates = (self.read_bytes, self.write_bytes, self.read_operations, self.write_operations)
        for rate in rates:
            _check(f"io rate of {self.device}", rate, 1, None)
        _check(f"io weight of {self.device}", self.weight, 1, LARGEST_WEIGHT)


@dataclass(frozen=True, slots=True)
class HugePageLimit:
    """How much of one size of huge pages a group may use."""

    size: str
    """As the kernel spells it: `2MB`, `1GB`."""
    maximum: int
    """Bytes."""

    def __post_init__(self) -> None:
        _check_text("hugetlb page size", self.size, _PAGE_SIZE, "give it as 2MB or 1GB")
        _check(f"hugetlb {self.size}", self.maximum, 0, None)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one group may use; None means no limit.

    Raises:
        InputError: a value no kernel accepts; the message names the limit.
    """

    memory: int | None = None
    """Bytes, with no swap beyond them unless `swap` says otherwise."""
    cpus: float | None = None
    """CPU seconds per second: the quota of each period."""
    pids: int | None = None
    swap: int | None = 0
    """Bytes of swap besides `memory`; None means no limit. Without `memory` it means nothing."""
    memory_high: int | None = None
    """Bytes above which the group is slowed down and reclaimed from; version 2 alone has it."""
    memory_reserved: int | None = None
    """Bytes left to the group as long as others can be reclaimed from: memory.low, the v1 soft limit."""
    cpu_period: int | None = None
    """Microseconds over which `cpus` is held; None means 100 ms, or 1 s for a quota too short for that."""
    cpu_weight: int | None = None
    """1..10000, default 100."""
    cpu_shares: int | None = None
    """The weight in version 1's words, 2..262144, default 1024; instead of `cpu_weight`."""
    cpuset_cpus: str | None = None
    """A list such as `0-3,8`."""
    cpuset_mems: str | None = None
    """Memory nodes, likewise."""
    io: tuple[DeviceLimits, ...] = ()
    io_weight: int | None = None
    """1..10000, default 100."""
    hugetlb: tuple[HugePageLimit, ...] = ()
    cpu_burst: int | None = None
    """Microseconds of unused quota that a later period may use up besides its own."""
    cpu_idle: bool = False
    """Run only when nothing else wants the CPU (SCHED_IDLE for the whole group)."""
    unified: tuple[tuple[str, str], ...] = ()
    """Files of version 2 and what is written to them, line by line, after all the others."""

    def __post_init__(self) -> None:
        _check("memory", self.memory, 1, None)
        _check("swap", self.swap, 0, None)
        _check("memory high", self.memory_high, 0, None)
        _check("memory reservation", self.memory_reserved, 0, None)
        _check("pids", self.pids, 1, None)
        _check("cpu period", self.cpu_period, SHORTEST_PERIOD, LONGEST_PERIOD)
        _check("cpu weight", self.cpu_weight, 1, LARGEST_WEIGHT)
        _check("cpu shares", self.cpu_shares, FEWEST_SHARES, MOST_SHARES)
        _check("io weight", self.io_weight, 1, LARGEST_WEIGHT)
        _check("cpu burst", self.cpu_burst, 0, None)
        for name, _ in self.unified:
            _check_text("unified", name, _FILE, "give the name of a file of version 2, such as memory.high")
        if self.cpu_weight is not None and self.cpu_shares is not None:
            raise InputError("cpu weight and cpu shares say the same thing twice", "give one of them")
        for name, text in (("cpuset cpus", self.cpuset_cpus), ("cpuset mems", self.cpuset_mems)):
            if text is not None:
                _check_text(name, text, _LIST, "give a list such as 0-3,8")
        if self.cpus is not None:
            least = SHORTEST_QUOTA / (self.cpu_period or LONGEST_PERIOD)
            if not (math.isfinite(self.cpus) and self.cpus >= least):
                raise InputError(f"cpus must be at least {least:g}, not {self.cpus:g}")

    def quota_and_period(self) -> tuple[int, int] | None:
        """Microseconds of CPU time, and of the period that they are for."""
        if self.cpus is None:
            return None
        period = self.cpu_period or DEFAULT_PERIOD
        if self.cpu_period is None and self.cpus * period < SHORTEST_QUOTA:
            period = LONGEST_PERIOD
        return max(SHORTEST_QUOTA, round(self.cpus * period)), period


def weight_of_shares(shares: int) -> int:
    """Version 1's cpu.shares as cpu.weight: a parabola through (2, 1), (1024, 100) and (262144, 10000).

    In the logarithms of both, so that the smallest, default and largest values correspond.
    """
    if shares <= FEWEST_SHARES:
        return 1
    if shares >= MOST_SHARES:
        return LARGEST_WEIGHT
    octaves = math.log2(shares)
    return math.ceil(10 ** ((octaves**2 + 125 * octaves) / 612 - 7 / 34))


def shares_of_weight(weight: int) -> int:
    """The inverse of `weight_of_shares`, to the nearest share."""
    decades = math.log10(weight) + 7 / 34
    octaves = (math.sqrt(125**2 + 4 * 612 * decades) - 125) / 2
    return min(MOST_SHARES, max(FEWEST_SHARES, round(2**octaves)))


def weight_of_blkio(weight: int) -> int:
    """OCI's blkio weight (10..1000) on the scale of io.weight: linear."""
    lowest, highest = OCI_BLKIO_WEIGHTS
    return 1 + (weight - lowest) * (LARGEST_WEIGHT - 1) // (highest - lowest)


def blkio_of_weight(weight: int) -> int:
    """The inverse of `weight_of_blkio`, exact for every value that it yields."""
    lowest, highest = OCI_BLKIO_WEIGHTS
    return lowest + round((weight - 1) * (highest - lowest) / (LARGEST_WEIGHT - 1))


def _check(name: str, value: int | None, least: int, most: int | None) -> None:
    if value is None or (value >= least and (most is None or value <= most)):
        return
    span = f"at least {least}" if most is None else f"between {least} and {most}"
    raise InputError(f"{name} must be {span}, not {value}")


def _check_text(name: str, text: str, form: re.Pattern[str], hint: str) -> None:
    if not form.fullmatch(text):
        raise InputError(f"{name}: {text!r} is not one", hint)
