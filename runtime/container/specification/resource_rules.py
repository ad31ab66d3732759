"""Rules about `linux.resources`: limits that a control group can have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.resources import BlockIO, Cpu, Memory, Resources
from pybench.runtime.container.specification.value_rules import check_cpus
from pybench.runtime.errors import InputError

LOWEST_WEIGHT: Final = 10
HIGHEST_WEIGHT: Final = 1000
_PAGE_SIZE: Final = re.compile(r"[1-9][0-9]*(KB|MB|GB)")
_UNIFIED: Final = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")


def check_resources(resources: Resources, path: str = "linux.resources") -> None:
    """Check the whole object.

    Raises:
        InputError: starts with the path.
    """
    for number, rule in enumerate(resources.devices):
        if not rule.access or set(rule.access) - set("rwm"):
            raise InputError(
                f"{path}.devices[{number}].access: {show(rule.access)} is not made of r, w and m"
            )
    _check_memory(resources.memory, f"{path}.memory")
    _check_cpu(resources.cpu, f"{path}.cpu")
    _check_weights(resources.block_io, f"{path}.blockIO")
    for number, limit in enumerate(resources.hugepage_limits):
        if not _PAGE_SIZE.fullmatch(limit.page_size):
            raise InputError(
                f"{path}.hugepageLimits[{number}].pageSize: {show(limit.page_size)} is not like 2MB"
            )
    _check_unified(resources.unified, f"{path}.unified")


def _check_memory(memory: Memory, path: str) -> None:
    for name, amount in (("limit", memory.limit), ("reservation", memory.reservation), ("swap", memory.swap)):
        if amount is not None and amount < -1:
            raise InputError(f"{path}.{name}: {amount} is neither a size nor -1, unlimited")
    if memory.swap is not None and memory.swap > 0:
        if memory.limit is None or memory.limit <= 0:
            raise InputError(f"{path}.swap: needs {path}.limit, of which it is a part")
        if memory.swap < memory.limit:
            raise InputError(f"{path}.swap: {memory.swap} is memory and swap together, but below limit")


def _check_cpu(cpu: Cpu, path: str) -> None:
    if cpu.shares == 1:
        raise InputError(f"{path}.shares: must be at least 2, or 0 for the default")
    if cpu.quota is not None and cpu.quota < -1:
        raise InputError(f"{path}.quota: {cpu.quota} is neither a time nor -1, unlimited")
    if cpu.burst and (cpu.quota is None or not cpu.burst <= cpu.quota):
        raise InputError(f"{path}.burst: must not be above {path}.quota")
    if cpu.idle not in {None, 0, 1}:
        raise InputError(f"{path}.idle: {cpu.idle} is neither 0 nor 1")
    check_cpus(cpu.cpus, f"{path}.cpus")
    check_cpus(cpu.mems, f"{path}.mems")


def _check_weights(limits: BlockIO, path: str) -> None:
    weights = [("weight", limits.weight)]
    weights += [
        (f"weightDevice[{number}].weight", device.weight)
        for number, device in enumerate(limits.weight_device)
    ]
    for name, weight in weights:
        if weight and not LOWEST_WEIGHT <= weight <= HIGHEST_WEIGHT:
            raise InputError(f"{path}.{name}: {weight} is not from {LOWEST_WEIGHT} to {HIGHEST_WEIGHT}")


def _check_unified(files: Mapping[str, str], path: str) -> None:
    for name, value in files.items():
        place = f"{path}[{show(name)}]"
        if not _UNIFIED.fullmatch(name):
            raise InputError(f"{place}: is not the name of a file of a controller")
        if name.startswith("cgroup."):
            raise InputError(f"{place}: these files belong to the runtime itself")
        if not value.strip():
            raise InputError(f"{place}: has no value")
