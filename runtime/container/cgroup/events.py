"""What a group used, as `runc events --stats` tells it, and which of its limits it ran into.

The shape is that of runc's types/events.go, which containerd and cAdvisor read: times in nanoseconds,
sizes in bytes, no limit as 2^64 - 1 (of processes: 0), and for version 2 the words of version 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pybench.runtime.container.cgroup.base import Group, directories_by_file
from pybench.runtime.container.cgroup.readings import read_number, read_stall
from pybench.runtime.container.cgroup.v2 import Group2

NO_LIMIT: Final = 2**64 - 1
_LEAST_UNLIMITED: Final = 2**62
"""Version 1 tells no limit as the largest number of whole pages that fits 63 bits."""
_CPUSET_FLAGS: Final = (
    *("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_pressure"),
    *("sched_load_balance", "sched_relax_domain_level"),
)
_CPUSET_SPREAD: Final = ("memory_spread_page", "memory_spread_slab")
_NANOSECONDS_IN_MICROSECOND: Final = 1000
_NANOSECONDS_IN_SECOND: Final = 10**9

Statistics = dict[str, Any]


class _Files:
    """The files of a group, wherever they are; what is missing counts as 0."""

    def __init__(self, group: Group) -> None:
        self._where = directories_by_file(group)

    def path(self, name: str) -> Path | None:
        directory = self._where.get(name)
        return directory / name if directory else None

    def names(self) -> Mapping[str, Path]:
        return self._where

    def lines(self, name: str) -> list[str]:
        if (path := self.path(name)) is None:
            return []
        try:
            return path.read_text(encoding="ascii").splitlines()
        except OSError:
            return []

    def number(self, name: str, key: str | None = None) -> int:
        path = self.path(name)
        return (read_number(path, key) or 0) if path else 0

    def limit(self, name: str) -> int:
        """`max`, and what stands for it, as NO_LIMIT."""
        text = "".join(self.lines(name)).strip()
        if text == "max":
            return NO_LIMIT
        number = int(text) if text.isdigit() else 0
        return NO_LIMIT if number >= _LEAST_UNLIMITED else number

    def numbers(self, name: str) -> dict[str, int]:
        pairs = (line.split() for line in self.lines(name))
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - key, value

    def ids(self, name: str) -> list[int]:
        """A list such as `0-1,4`, one by one."""
        found: list[int] = []
        for part in filter(None, "".join(self.lines(name)).strip().split(",")):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return found


def statistics_of(group: Group) -> Statistics:
    """The `data` of one event of type `stats`; can be written as JSON as it is.

    Raises:
        HostError: the group vanished.
    """
    files = _Files(group)
    whole = _version2 if isinstance(group, Group2) else _version1
    return {**whole(files), "intel_rdt": {}, "network_interfaces": None}


def exhausted(group: Group) -> tuple[str, ...]:
    """A sentence for each limit that the group ran into: what ended a hog or stopped a fork bomb.

    Raises:
        HostError: the group vanished, and with it its counts.
    """
    files = _Files(group)
    sentences: list[str] = []
    version2 = isinstance(group, Group2)
    if kills := group.out_of_memory_kills():
        limit = files.limit("memory.max" if version2 else "memory.limit_in_bytes")
        why = "for want of memory on the host" if limit == NO_LIMIT else f"at the limit of {limit} bytes"
        sentences.append(f"out of memory: the kernel killed {kills} process(es) {why}")
    if refused := files.number("pids.events", "max"):
        limit = files.limit("pids.max")
        sentences.append(f"out of processes: {refused} fork(s) were refused at the limit of {limit}")
    return tuple(sentences)


def _version1(files: _Files) -> Statistics:
    usage_all = [line.split() for line in files.lines("cpuacct.usage_all")[1:]]
    tick = _NANOSECONDS_IN_SECOND // os.sysconf("SC_CLK_TCK")
    statistics = files.numbers("memory.stat")
    pids = files.limit("pids.max")
    return {
        "cpu": {
            "usage": {
                "total": files.number("cpuacct.usage"),
                "percpu": [
                    int(word) for line in files.lines("cpuacct.usage_percpu") for word in line.split()
                ],
                "percpu_kernel": [int(words[2]) for words in usage_all],
                "percpu_user": [int(words[1]) for words in usage_all],
                "kernel": files.number("cpuacct.stat", "system") * tick,
                "user": files.number("cpuacct.stat", "user") * tick,
            },
            "throttling": {
                "periods": files.number("cpu.stat", "nr_periods"),
                "throttledPeriods": files.number("cpu.stat", "nr_throttled"),
                "throttledTime": files.number("cpu.stat", "throttled_time"),
            },
        },
        "cpuset": _cpuset(files),
        "memory": {
            "cache": statistics.get("cache", 0),
            "usage": _version1_memory(files, "memory"),
            "swap": _version1_memory(files, "memory.memsw"),
            "kernel": _version1_memory(files, "memory.kmem"),
            "kernelTCP": _version1_memory(files, "memory.kmem.tcp"),
            "raw": statistics,
        },
        "pids": {"current": files.number("pids.current"), "limit": 0 if pids == NO_LIMIT else pids},
        "blkio": {
            "ioServiceBytesRecursive": _version1_io(files, "blkio.throttle.io_service_bytes_recursive"),
            "ioServicedRecursive": _version1_io(files, "blkio.throttle.io_serviced_recursive"),
        },
        "hugetlb": {
            size: {
                "usage": files.number(f"hugetlb.{size}.usage_in_bytes"),
                "max": files.number(f"hugetlb.{size}.max_usage_in_bytes"),
                "failcnt": files.number(f"hugetlb.{size}.failcnt"),
            }
            for size in _huge_page_sizes(files, ".limit_in_bytes")
        },
    }


def _version1_memory(files: _Files, prefix: str) -> dict[str, int]:
    return {
        "limit": files.limit(f"{prefix}.limit_in_bytes"),
        "usage": files.number(f"{prefix}.usage_in_bytes"),
        "max": files.number(f"{prefix}.max_usage_in_bytes"),
        "failcnt": files.number(f"{prefix}.failcnt"),
    }


def _version1_io(files: _Files, name: str) -> list[dict[str, Any]]:
    entries = []
    for line in files.lines(name):
        device, _, rest = line.partition(" ")
        major, colon, minor = device.partition(":")
        operation, _, value = rest.partition(" ")
        if colon and value:
            entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(value)})
    return entries


def _version2(files: _Files) -> Statistics:
    cpu = files.numbers("cpu.stat")
    statistics = files.numbers("memory.stat")
    pids = files.limit("pids.max")
    used, most = files.number("memory.current"), files.limit("memory.max")
    swap = files.limit("memory.swap.max")
    events = files.numbers("memory.events")
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * _NANOSECONDS_IN_MICROSECOND,
                "kernel": cpu.get("system_usec", 0) * _NANOSECONDS_IN_MICROSECOND,
                "user": cpu.get("user_usec", 0) * _NANOSECONDS_IN_MICROSECOND,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * _NANOSECONDS_IN_MICROSECOND,
            },
            **_stall(files, "cpu"),
        },
        "cpuset": _cpuset(files),
        "memory": {
            "cache": statistics.get("file", 0),
            "usage": {
                "limit": most,
                "usage": used,
                "max": files.number("memory.peak"),
                "failcnt": events.get("max", 0),
            },
            "swap": {
                # Memory and swap together, as in version 1.
                "limit": NO_LIMIT if NO_LIMIT in {most, swap} else most + swap,
                "usage": used + files.number("memory.swap.current"),
                "max": 0,
                "failcnt": files.number("memory.swap.events", "max"),
            },
            "kernel": {"limit": NO_LIMIT, "usage": statistics.get("kernel", 0), "max": 0, "failcnt": 0},
            "kernelTCP": {"limit": NO_LIMIT, "usage": statistics.get("sock", 0), "max": 0, "failcnt": 0},
            "raw": statistics,
            **_stall(files, "memory"),
        },
        "pids": {"current": files.number("pids.current"), "limit": 0 if pids == NO_LIMIT else pids},
        "blkio": {
            "ioServiceBytesRecursive": _version2_io(files, {"rbytes": "Read", "wbytes": "Write"}),
            "ioServicedRecursive": _version2_io(files, {"rios": "Read", "wios": "Write"}),
            **_stall(files, "io"),
        },
        "hugetlb": {
            size: {
                "usage": files.number(f"hugetlb.{size}.current"),
                "max": 0,
                "failcnt": files.number(f"hugetlb.{size}.events", "max"),
            }
            for size in _huge_page_sizes(files, ".max")
        },
    }


def _version2_io(files: _Files, operations: Mapping[str, str]) -> list[dict[str, Any]]:
    entries = []
    for line in files.lines("io.stat"):
        device, *fields = line.split()
        major, _, minor = device.partition(":")
        for name, _, value in (field.partition("=") for field in fields):
            if name in operations:
                entries.append(
                    {"major": int(major), "minor": int(minor), "op": operations[name], "value": int(value)}
                )
    return entries


def _stall(files: _Files, resource: str) -> dict[str, Any]:
    path = files.path(f"{resource}.pressure")
    stall = read_stall(path) if path else None
    if stall is None:
        return {}
    shown = {
        name: {
            "avg10": stalled.last_10 * 100,
            "avg60": stalled.last_60 * 100,
            "avg300": stalled.last_300 * 100,
            "total": round(stalled.total_seconds * 10**6),
        }
        for name, stalled in (("some", stall.some), ("full", stall.full))
        if stalled is not None
    }
    return {"psi": shown}


def _cpuset(files: _Files) -> Statistics:
    """Version 2 has no flags; what the group may really use is told where it says nothing itself."""
    return {
        "cpus": files.ids("cpuset.cpus") or files.ids("cpuset.cpus.effective"),
        "mems": files.ids("cpuset.mems") or files.ids("cpuset.mems.effective"),
        **{flag: int("".join(files.lines(f"cpuset.{flag}")) or 0) for flag in _CPUSET_FLAGS + _CPUSET_SPREAD},
    }


def _huge_page_sizes(files: _Files, suffix: str) -> list[str]:
    names = (
        name.removeprefix("hugetlb.").removesuffix(suffix)
        for name in files.names()
        if name.startswith("hugetlb.") and name.endswith(suffix)
    )
    return sorted(name for name in names if not name.endswith(".rsvd"))
