"""Change the limits of a group while processes run in it: all of a change, or none of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pybench.runtime.container.cgroup.base import Group, directories_by_file
from pybench.runtime.container.cgroup.readings import read_number
from pybench.runtime.container.cgroup.resources import PATH, Change, hold, refuse_unavailable
from pybench.runtime.container.cgroup.settings import Setting, missing, version1_settings, version2_settings
from pybench.runtime.container.cgroup.v2 import Group2
from pybench.runtime.errors import HostError

_LIFT_VERSION1: Final = {
    "memory": ("memory.limit_in_bytes", "-1"),
    "swap": ("memory.memsw.limit_in_bytes", "-1"),
    "memory reservation": ("memory.soft_limit_in_bytes", "-1"),
    "cpu": ("cpu.cfs_quota_us", "-1"),
    "cpu burst": ("cpu.cfs_burst_us", "0"),
    "cpu idle": ("cpu.idle", "0"),
    "pids": ("pids.max", "max"),
}
_LIFT_VERSION2: Final = {
    "memory": ("memory.max", "max"),
    "swap": ("memory.swap.max", "max"),
    "memory reservation": ("memory.low", "0"),
    "cpu": ("cpu.max", "max"),
    "cpu burst": ("cpu.max.burst", "0"),
    "cpu idle": ("cpu.idle", "0"),
    "pids": ("pids.max", "max"),
}
_RATES_VERSION1: Final = {
    "read_bytes": "blkio.throttle.read_bps_device",
    "write_bytes": "blkio.throttle.write_bps_device",
    "read_operations": "blkio.throttle.read_iops_device",
    "write_operations": "blkio.throttle.write_iops_device",
}
_RATES_VERSION2: Final = {
    "read_bytes": "rbps",
    "write_bytes": "wbps",
    "read_operations": "riops",
    "write_operations": "wiops",
}
_NO_ENTRY: Final = {"io.max": "rbps=max wbps=max riops=max wiops=max", "io.weight": "default"}
"""What stands for a device without an entry of its own; in version 1's files it is 0."""


@dataclass(frozen=True, slots=True)
class _Write:
    """One write, and the one that takes it back."""

    setting: Setting
    directory: Path
    undo: str | None


def update(group: Group, change: Change) -> None:
    """Apply a change to a group, which may be full of processes.

    A memory limit below what is in use makes the kernel reclaim: version 1 refuses it if that does not
    suffice, version 2 ends processes, unless the change is to be checked before.

    Raises:
        HostError: a limit cannot be held or was refused (starts with its path), or the group vanished. What
            had been written is written back.
    """
    where = directories_by_file(group)
    limits = change.complete(*_quota_and_period(where))
    is_version2 = isinstance(group, Group2)
    files = frozenset(where)
    settings = [
        *_lifting(change, files, is_version2=is_version2),
        *(version2_settings(limits, files) if is_version2 else version1_settings(limits, files)),
    ]
    refuse_unavailable(missing(settings, files), group.directories[0])
    if change.below_usage_refused and limits.memory is not None:
        _refuse_below_usage(limits.memory, group)
    writes = [
        _Write(setting, where[setting.file], _undo(setting, where[setting.file]))
        for setting in settings
        if setting.file in files
    ]
    _write_all(writes)


def _quota_and_period(where: Mapping[str, Path]) -> tuple[int | None, int | None]:
    """What is in force; a quota of None is none."""
    if directory := where.get("cpu.max"):
        quota, _, period = (directory / "cpu.max").read_text(encoding="ascii").strip().partition(" ")
        return (int(quota) if quota.isdigit() else None), int(period)
    if directory := where.get("cpu.cfs_period_us"):
        return read_number(directory / "cpu.cfs_quota_us"), read_number(directory / "cpu.cfs_period_us")
    return None, None


def _lifting(change: Change, files: frozenset[str], *, is_version2: bool) -> Iterator[Setting]:
    table = _LIFT_VERSION2 if is_version2 else _LIFT_VERSION1
    for limit, (file, value) in table.items():
        # Where there is no file, there is no limit either.
        if limit in change.lifted and file in files:
            yield Setting(limit, file, value)
    for device, rate in change.lifted_rates:
        if is_version2:
            yield Setting("io", "io.max", f"{device} {_RATES_VERSION2[rate]}=max")
        else:
            yield Setting("io", _RATES_VERSION1[rate], f"{device} 0")


def _refuse_below_usage(limit: int, group: Group) -> None:
    used = group.memory_charged()
    if used is not None and used > limit:
        raise HostError(
            f"{PATH}.memory.limit: {limit} is below the {used} bytes in use",
            f"give more, or leave out {PATH}.memory.checkBeforeUpdate",
        )


def _undo(setting: Setting, directory: Path) -> str | None:
    """What to write to have it as it is now; None where that cannot be told."""
    try:
        lines = (directory / setting.file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    key = setting.value.partition(" ")[0]
    if ":" in key:
        nothing = f"{key} {_NO_ENTRY.get(setting.file, '0')}"
        return next((line for line in lines if line.startswith(f"{key} ")), nothing)
    return lines[0] if len(lines) == 1 or key == "default" else None


def _write_all(writes: Sequence[_Write]) -> None:
    """Write in the order given, and again what was refused as long as something else succeeds.

    The kernel checks values against one another: memory against memory and swap, quota against burst
    and period, a weight against idleness. Which has to come first depends on the present values.
    """
    done: list[_Write] = []
    pending = list(writes)
    while pending:
        refused: list[_Write] = []
        failure: HostError | None = None
        for write in pending:
            try:
                hold(write.setting, write.directory)
                done.append(write)
            except HostError as error:
                refused.append(write)
                failure = failure or error
        if failure is not None and len(refused) == len(pending):
            _take_back(done)
            raise HostError(failure.message, failure.hint or "nothing was changed") from failure
        pending = refused


def _take_back(done: Sequence[_Write]) -> None:
    """Again in whatever order the kernel accepts."""
    pending = [write for write in reversed(done) if write.undo is not None]
    for _ in range(2):
        refused: list[_Write] = []
        for write in pending:
            with contextlib.suppress(HostError):
                Setting(write.setting.limit, write.setting.file, write.undo or "").write(write.directory)
                continue
            refused.append(write)
        pending = refused
