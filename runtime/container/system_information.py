"""sysinfo(2) as a container should hear it: its own limits and use, where the kernel tells the host's.

No mask helps: it is a call, not a file. The kernel bends its uptime alone to the time namespace.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pybench.runtime.container.cgroup.base import Limits, Usage
from pybench.runtime.container.notify import Answer, Handler, Notification

SYS_SYSINFO: Final = 99
"""Of x86-64."""
ANSWERED_CALLS: Final = frozenset({"sysinfo"})

SYSINFO: Final = struct.Struct("=q3Q6QHH4x2QI4x")
"""struct sysinfo of a 64-bit kernel: uptime; loads; total, free, shared and buffer memory, total and free
swap; processes, padding; total and free high memory; unit."""
_MOST_PROCESSES: Final = 2**16 - 1
_FRESHNESS: Final = 0.02
"""Seconds for which a reading of the control group is used again."""


@dataclass(slots=True)
class SystemInformation:
    """Answers one container's sysinfo(2).

    Memory is its limit, and what is not charged of that; where it has no limit, the host's whole memory,
    without what others use of it. Load averages are zero, since the kernel keeps none per group, and so
    is swap, which no limit of ours promises.
    """

    limits: Limits
    read_usage: Callable[[], Usage] | None
    """Of its control group; None where it has none."""
    _usage: Usage | None = None
    _read_at: float = -math.inf
    _clock_offset: int | None = None

    def handlers(self) -> Mapping[int, Handler]:
        """For `Supervisor.answering`."""
        return {SYS_SYSINFO: self.answer}

    def answer(self, call: Notification) -> Answer:
        """The structure for the caller's memory.

        Raises:
            OSError: the caller has gone.
        """
        usage = self._current_usage()
        total = self.limits.memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        charged = (usage.memory or 0) if usage else 0
        processes = (usage.pids or 1) if usage else 1
        if self._clock_offset is None:
            self._clock_offset = _boottime_offset(call.thread)
        # Rounded up, as kernel/sys.c does.
        uptime = math.ceil(time.clock_gettime(time.CLOCK_BOOTTIME) + self._clock_offset)
        free = max(0, total - charged)
        content = SYSINFO.pack(
            uptime, 0, 0, 0, total, free, 0, 0, 0, 0, min(processes, _MOST_PROCESSES), 0, 0, 0, 1
        )
        return Answer(memory=((call.arguments[0], content),))

    def _current_usage(self) -> Usage | None:
        now = time.monotonic()
        if self.read_usage is not None and now - self._read_at > _FRESHNESS:
            self._usage, self._read_at = self.read_usage(), now
        return self._usage


def _boottime_offset(thread: int) -> int:
    """Seconds that a thread's time namespace adds to CLOCK_BOOTTIME (time_namespaces(7))."""
    for line in Path(f"/proc/{thread}/timens_offsets").read_text(encoding="ascii").splitlines():
        clock, seconds, _ = line.split()
        if clock == "boottime":
            return int(seconds)
    return 0
