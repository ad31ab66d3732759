"""Limits as the kernel's files: which file of a group is written with what, for either version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container.cgroup.limits import (
    DeviceLimits,
    Limits,
    blkio_of_weight,
    shares_of_weight,
    weight_of_shares,
)
from pybench.runtime.errors import HostError


@dataclass(frozen=True, slots=True)
class Setting:
    """One write into one file of a group."""

    limit: str
    """What it holds, in the words that `unavailable` uses."""
    file: str
    value: str

    @property
    def controller(self) -> str:
        """Files are named after the controller they belong to."""
        return self.file.partition(".")[0]

    def write(self, directory: Path) -> None:
        """Write it.

        Raises:
            HostError: the kernel refused; says what and why.
        """
        try:
            (directory / self.file).write_text(self.value, encoding="ascii")
        except OSError as error:
            raise HostError(
                f"cannot hold the limit {self.limit}: writing {self.value!r} to {directory / self.file}: "
                f"{error.strerror}"
            ) from error


def version1_settings(limits: Limits, files: frozenset[str]) -> tuple[Setting, ...]:
    """For version 1, in the order they must be written in; `files` chooses between spellings.

    What version 1 has no file for is named by the file of version 2, which is never there.
    """
    return tuple(_version1(limits, files))


def version2_settings(limits: Limits, files: frozenset[str]) -> tuple[Setting, ...]:
    """For version 2; `files` chooses between spellings."""
    return tuple(_version2(limits, files))


def missing(settings: Iterable[Setting], files: frozenset[str]) -> tuple[str, ...]:
    """Names of the limits that no file holds here, each once."""
    names = dict.fromkeys(setting.limit for setting in settings if setting.file not in files)
    # Swap is part of the memory limit, and without swap on the host there is nothing to hold.
    if "memory" in names or not _host_swaps():
        names.pop("swap", None)
    return tuple(names)


def _version1(limits: Limits, files: frozenset[str]) -> Iterator[Setting]:
    if limits.memory is not None:
        yield Setting("memory", "memory.limit_in_bytes", str(limits.memory))
        if limits.swap is not None:
            # After the one above: it may never be below it (memory.rst, 5.2).
            yield Setting("swap", "memory.memsw.limit_in_bytes", str(limits.memory + limits.swap))
    yield from _version1_quota(limits)
    if limits.pids is not None:
        yield Setting("pids", "pids.max", str(limits.pids))
    if limits.memory_high is not None:
        yield Setting("memory high", "memory.high", str(limits.memory_high))
    if limits.memory_reserved is not None:
        yield Setting("memory reservation", "memory.soft_limit_in_bytes", str(limits.memory_reserved))
    if limits.cpu_weight is not None:
        yield Setting("cpu weight", "cpu.shares", str(shares_of_weight(limits.cpu_weight)))
    if limits.cpu_shares is not None:
        yield Setting("cpu weight", "cpu.shares", str(limits.cpu_shares))
    yield from _cpusets(limits)
    yield from _version1_io(limits, files)
    for huge in limits.hugetlb:
        yield from _huge_pages(huge.size, "limit_in_bytes", huge.maximum, files)
    yield from _burst_and_idle(limits, "cpu.cfs_burst_us")
    for name, _ in limits.unified:
        # Some of version 2's names are version 1's as well, with another meaning: no file is the right one.
        yield Setting(f"unified {name}", "", "")


def _version1_quota(limits: Limits) -> Iterator[Setting]:
    if (quota := limits.quota_and_period()) is not None:
        yield Setting("cpu", "cpu.cfs_period_us", str(quota[1]))
        yield Setting("cpu", "cpu.cfs_quota_us", str(quota[0]))
    elif limits.cpu_period is not None:
        yield Setting("cpu", "cpu.cfs_period_us", str(limits.cpu_period))


def _version1_io(limits: Limits, files: frozenset[str]) -> Iterator[Setting]:
    for device in limits.io:
        rates = {
            "read_bps": device.read_bytes,
            "write_bps": device.write_bytes,
            "read_iops": device.read_operations,
            "write_iops": device.write_operations,
        }
        for rate, value in rates.items():
            if value is not None:
                yield Setting("io", f"blkio.throttle.{rate}_device", f"{device.device} {value}")
    # The file is named after the scheduler that holds it; CFQ, which had the short name, is gone since 5.0.
    weight = "blkio.bfq.weight" if "blkio.weight" not in files else "blkio.weight"
    if limits.io_weight is not None:
        yield Setting("io weight", weight, str(blkio_of_weight(limits.io_weight)))
    for device in limits.io:
        if device.weight is not None:
            value_there = f"{device.device} {blkio_of_weight(device.weight)}"
            yield Setting("io weight", f"{weight}_device", value_there)


def _version2(limits: Limits, files: frozenset[str]) -> Iterator[Setting]:
    yield from _version2_memory(limits)
    yield from _version2_quota(limits)
    if limits.pids is not None:
        yield Setting("pids", "pids.max", str(limits.pids))
    if limits.memory_high is not None:
        yield Setting("memory high", "memory.high", str(limits.memory_high))
    if limits.memory_reserved is not None:
        yield Setting("memory reservation", "memory.low", str(limits.memory_reserved))
    if limits.cpu_weight is not None:
        yield Setting("cpu weight", "cpu.weight", str(limits.cpu_weight))
    if limits.cpu_shares is not None:
        yield Setting("cpu weight", "cpu.weight", str(weight_of_shares(limits.cpu_shares)))
    yield from _cpusets(limits)
    yield from _version2_io(limits, files)
    for huge in limits.hugetlb:
        yield from _huge_pages(huge.size, "max", huge.maximum, files)
    yield from _burst_and_idle(limits, "cpu.max.burst")
    for name, value in limits.unified:
        # The kernel takes one key of a keyed file at a time (cgroup-v2.rst, "Format").
        for line in value.splitlines():
            yield Setting(f"unified {name}", name, line)


def _version2_memory(limits: Limits) -> Iterator[Setting]:
    if limits.memory is not None:
        yield Setting("memory", "memory.max", str(limits.memory))
        if limits.swap is not None:
            yield Setting("swap", "memory.swap.max", str(limits.swap))


def _version2_quota(limits: Limits) -> Iterator[Setting]:
    if (quota := limits.quota_and_period()) is not None:
        yield Setting("cpu", "cpu.max", f"{quota[0]} {quota[1]}")
    elif limits.cpu_period is not None:
        yield Setting("cpu", "cpu.max", f"max {limits.cpu_period}")


def _version2_io(limits: Limits, files: frozenset[str]) -> Iterator[Setting]:
    for device in limits.io:
        if rates := _io_rates(device):
            yield Setting("io", "io.max", f"{device.device} {rates}")
    # io.weight is the io.cost controller's; BFQ has a file of its own with a scale of 1..1000.
    by_bfq = "io.bfq.weight" in files and "io.weight" not in files
    file = "io.bfq.weight" if by_bfq else "io.weight"

    def scaled(weight: int) -> int:
        return blkio_of_weight(weight) if by_bfq else weight

    if limits.io_weight is not None:
        yield Setting("io weight", file, f"default {scaled(limits.io_weight)}")
    for device in limits.io:
        if device.weight is not None:
            yield Setting("io weight", file, f"{device.device} {scaled(device.weight)}")


def _io_rates(device: DeviceLimits) -> str:
    rates = {
        "rbps": device.read_bytes,
        "wbps": device.write_bytes,
        "riops": device.read_operations,
        "wiops": device.write_operations,
    }
    return " ".join(f"{name}={value}" for name, value in rates.items() if value is not None)


def _cpusets(limits: Limits) -> Iterator[Setting]:
    if limits.cpuset_cpus is not None:
        yield Setting("cpuset cpus", "cpuset.cpus", limits.cpuset_cpus)
    if limits.cpuset_mems is not None:
        yield Setting("cpuset mems", "cpuset.mems", limits.cpuset_mems)


def _burst_and_idle(limits: Limits, burst: str) -> Iterator[Setting]:
    if limits.cpu_burst is not None:
        # After the quota, which it must not exceed.
        yield Setting("cpu burst", burst, str(limits.cpu_burst))
    if limits.cpu_idle:
        # After the weight, which an idle group refuses.
        yield Setting("cpu idle", "cpu.idle", "1")


def _huge_pages(size: str, suffix: str, maximum: int, files: frozenset[str]) -> Iterator[Setting]:
    yield Setting(f"hugetlb {size}", f"hugetlb.{size}.{suffix}", str(maximum))
    # Held at reservation too, where the kernel can: mmap then fails, instead of a SIGBUS at first
    # touch (hugetlb.rst, "reservation limits").
    if (reserved := f"hugetlb.{size}.rsvd.{suffix}") in files:
        yield Setting(f"hugetlb {size}", reserved, str(maximum))


def _host_swaps() -> bool:
    try:
        return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
    except OSError:
        return False
