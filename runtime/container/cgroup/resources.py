"""The object `linux.resources` of a specification as limits, and as changes of a group that runs.

Podman, Docker and containerd send many fields that ask for nothing: `cpu.shares` 0, `pids.limit` 0 or
-1, `blockIO.weight` 0, `memory.swap` -1. In a new group all of them mean "no limit". In a change, 0
means "leave it as it is" and -1 "lift it", as `runc update` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pybench.runtime.container.cgroup.base import if_vanished
from pybench.runtime.container.cgroup.limits import (
    DEFAULT_PERIOD,
    LONGEST_PERIOD,
    MOST_SHARES,
    SHORTEST_PERIOD,
    SHORTEST_QUOTA,
    DeviceLimits,
    HugePageLimit,
    Limits,
    weight_of_blkio,
)
from pybench.runtime.container.cgroup.settings import Setting
from pybench.runtime.container.specification.resource_rules import check_resources
from pybench.runtime.container.specification.resources import BlockIO, Cpu, Memory, Resources
from pybench.runtime.errors import HostError, InputError

PATH: Final = "linux.resources"
_PATHS: Final = {
    "memory": "memory.limit",
    "swap": "memory.swap",
    "memory reservation": "memory.reservation",
    "cpu": "cpu.quota",
    "cpu burst": "cpu.burst",
    "cpu idle": "cpu.idle",
    "cpu weight": "cpu.shares",
    "cpuset cpus": "cpu.cpus",
    "cpuset mems": "cpu.mems",
    "pids": "pids.limit",
    "io": "blockIO.throttle*Device",
    "io weight": "blockIO.weight",
}
_RATES: Final = ("read_bytes", "write_bytes", "read_operations", "write_operations")


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of `linux.resources` asks for: values to set, and limits to lift."""

    limits: Limits
    """Without a quota, which depends on the period that the group has."""
    quota: int | None = None
    """Microseconds."""
    lifted: frozenset[str] = frozenset()
    """In the words that `Controller.unavailable` uses."""
    lifted_rates: tuple[tuple[str, str], ...] = ()
    """(`MAJOR:MINOR`, field of `DeviceLimits`)."""
    below_usage_refused: bool = False
    """A memory limit below what is in use is refused, instead of reclaimed or killed for."""

    def complete(self, quota: int | None, period: int | None) -> Limits:
        """All limits, where the change says nothing with the quota and period that are in force."""
        if "cpu" not in self.lifted and self.quota is not None:
            quota = self.quota
        elif "cpu" in self.lifted or self.limits.cpu_period is None:
            return self.limits
        if quota is None:
            return self.limits
        period = self.limits.cpu_period or period or DEFAULT_PERIOD
        return replace(self.limits, cpus=quota / period, cpu_period=period)


def limits_of(resources: Resources) -> Limits:
    """The limits of a new group.

    `resources.devices` are rules, not limits: see `devices.py`.

    Raises:
        InputError: a value no kernel accepts; starts with its path.
    """
    return change_of(resources).complete(None, None)


def change_of(resources: Resources) -> Change:
    """What is to be set and lifted in a group that has limits already.

    Raises:
        InputError: a value no kernel accepts; starts with its path.
    """
    check_resources(resources, PATH)
    _check_cpu(resources.cpu)
    block_io, lifted_rates = _devices(resources.block_io)
    memory, cpu = resources.memory, resources.cpu
    try:
        limits = Limits(
            memory=_amount(memory.limit),
            swap=_swap(memory),
            memory_reserved=_amount(memory.reservation),
            cpu_period=cpu.period or None,
            cpu_shares=cpu.shares or None,
            cpu_burst=cpu.burst or None,
            cpu_idle=cpu.idle == 1,
            cpuset_cpus=cpu.cpus or None,
            cpuset_mems=cpu.mems or None,
            pids=_amount(resources.pids.limit) if resources.pids else None,
            io=block_io,
            io_weight=weight_of_blkio(resources.block_io.weight) if resources.block_io.weight else None,
            hugetlb=tuple(HugePageLimit(huge.page_size, huge.limit) for huge in resources.hugepage_limits),
            unified=tuple(resources.unified.items()),
        )
    except InputError as error:
        raise InputError(f"{PATH}: {error.message}", error.hint) from error
    return Change(
        limits,
        quota=_amount(cpu.quota),
        lifted=_lifted(resources),
        lifted_rates=lifted_rates,
        below_usage_refused=bool(memory.check_before_update),
    )


def path_of(limit: str) -> str:
    """Where the specification says a limit, given in the words that `Controller.unavailable` uses."""
    first, _, rest = limit.partition(" ")
    if first == "hugetlb":
        return f"{PATH}.hugepageLimits[{rest}]"
    if first == "unified":
        return f"{PATH}.unified[{rest}]"
    return f"{PATH}.{_PATHS[limit]}"


def refuse_unavailable(limits: Iterable[str], directory: object) -> None:
    """Refuse the first of the limits that cannot be held.

    Raises:
        HostError: starts with its path.
    """
    for limit in limits:
        path = path_of(limit)
        needed = "version 2 of control groups" if limit.startswith("unified ") else "its controller"
        raise HostError(
            f"{path}: cannot be held: {directory} has no file for it",
            f"remove {path}, or enable {needed} there",
        )


def hold(setting: Setting, directory: Path) -> None:
    """Write a setting that a specification asks for.

    Raises:
        HostError: the kernel refused; starts with the path of the limit.
    """
    try:
        setting.write(directory)
    except HostError as error:
        raise HostError(
            f"{path_of(setting.limit)}: {error.message}", error.hint or if_vanished(directory)
        ) from error


def _amount(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def _swap(memory: Memory) -> int | None:
    """The specification counts memory and swap together; no limit of swap unless it says so."""
    if memory.swap is None or memory.swap <= 0 or memory.limit is None:
        return None
    return memory.swap - memory.limit


def _check_cpu(cpu: Cpu) -> None:
    if cpu.quota is not None and 0 < cpu.quota < SHORTEST_QUOTA:
        raise InputError(f"{PATH}.cpu.quota: {cpu.quota} is below the kernel's least, {SHORTEST_QUOTA} µs")
    if cpu.period and not SHORTEST_PERIOD <= cpu.period <= LONGEST_PERIOD:
        raise InputError(
            f"{PATH}.cpu.period: {cpu.period} is not from {SHORTEST_PERIOD} to {LONGEST_PERIOD} µs"
        )
    if cpu.shares and cpu.shares > MOST_SHARES:
        raise InputError(f"{PATH}.cpu.shares: {cpu.shares} is above the kernel's most, {MOST_SHARES}")
    if cpu.idle == 1 and cpu.shares:
        raise InputError(
            f"{PATH}.cpu.shares: {cpu.shares} has no meaning with {PATH}.cpu.idle", "give one of them"
        )


def _devices(block_io: BlockIO) -> tuple[tuple[DeviceLimits, ...], tuple[tuple[str, str], ...]]:
    """Five lists by limit as one by device, and the rates that are 0: none."""
    fields: dict[str, dict[str, int]] = {}
    lifted: list[tuple[str, str]] = []
    throttles = (
        block_io.throttle_read_bps_device,
        block_io.throttle_write_bps_device,
        block_io.throttle_read_iops_device,
        block_io.throttle_write_iops_device,
    )
    for rate, throttled in zip(_RATES, throttles, strict=True):
        for throttle in throttled:
            device = _number(throttle.major, throttle.minor)
            if throttle.rate:
                fields.setdefault(device, {})[rate] = throttle.rate
            else:
                lifted.append((device, rate))
    for weighted in block_io.weight_device:
        if weighted.weight:
            device = _number(weighted.major, weighted.minor)
            fields.setdefault(device, {})["weight"] = weight_of_blkio(weighted.weight)
    return tuple(DeviceLimits(device, **limits) for device, limits in fields.items()), tuple(lifted)


def _number(major: int, minor: int) -> str:
    number = f"{major}:{minor}"
    if not re.fullmatch(r"\d+:\d+", number):
        raise InputError(f"{PATH}.blockIO: {number} is not the number of a device")
    return number


def _lifted(resources: Resources) -> frozenset[str]:
    memory, cpu = resources.memory, resources.cpu
    asked = {
        "memory": memory.limit == -1,
        # Together with the memory limit, which may not be above it in version 1.
        "swap": memory.swap == -1 or (memory.limit == -1 and not memory.swap),
        "memory reservation": memory.reservation == -1,
        "cpu": cpu.quota == -1,
        "cpu burst": cpu.burst == 0,
        "cpu idle": cpu.idle == 0,
        "pids": resources.pids is not None and (resources.pids.limit or 0) < 0,
    }
    return frozenset(name for name, lift in asked.items() if lift)
