"""What an instance uses while it is probed, by the host's count: its control group, or its monitor."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.cgroup.base import Usage

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground
    from pybench.harness.audit.subjects.base import Subject

INTERVAL: Final = 0.02
SPAN: Final = 0.4
"""Seconds over which a rate is taken."""
_USER_TIME, _SYSTEM_TIME, _THREADS, _PAGES = 11, 12, 17, 21
"""Fields 14, 15, 20 and 24 of proc_pid_stat(5), counted from the state, which is the third."""


@dataclass(slots=True)
class Watch:
    """Readings over time, the first before the payload ran and the last after it."""

    readings: list[tuple[float, float, Usage]] = field(default_factory=list)
    """What was used, and when reading that began and ended: a busy host may interrupt it."""
    packets: list[int] = field(default_factory=list)
    """Handled by the whole host: before and after."""

    def highest_rate(self, count: Callable[[Usage], float | None]) -> float | None:
        """The most of a counter per second over any span of at least `SPAN`; None where it is not kept.

        Of two readings whose moments are not known exactly, it is the rate that was reached at least.
        """
        points = [
            (began, ended, value)
            for began, ended, usage in self.readings
            if (value := count(usage)) is not None
        ]
        best = None
        for place, (began, ended, value) in enumerate(points):
            for sooner, since, before in reversed(points[:place]):
                if began - since >= SPAN:
                    best = max(best or 0.0, (value - before) / (ended - sooner))
                # A longer one is two of those, of which one has no lower rate.
                if began - since >= 2 * SPAN:
                    break
        return best

    def highest(self, figure: Callable[[Usage], int | None]) -> int | None:
        """The most that a figure came to; None where it is not kept."""
        values = [value for *_, usage in self.readings if (value := figure(usage)) is not None]
        return max(values, default=None)

    def growth(self, figure: Callable[[Usage], int | None]) -> int:
        """How much a counter grew."""
        values = [value for *_, usage in self.readings if (value := figure(usage)) is not None]
        return values[-1] - values[0] if values else 0


@contextlib.contextmanager
def watch(ground: Ground) -> Iterator[Watch]:
    """Read what the subject uses again and again while the payload runs."""
    watched, ended = Watch(), threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            began, usage = time.monotonic(), usage_of(ground.subject)
            watched.readings.append((began, time.monotonic(), usage))

    def follow() -> None:
        while not ended.wait(INTERVAL):
            read()

    thread = threading.Thread(target=follow, name="pybench-watch", daemon=True)
    watched.packets.append(handled_packets())
    read()
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
        read()
        watched.packets.append(handled_packets())


def usage_of(subject: Subject) -> Usage:
    """What an instance uses now.

    Raises:
        OSError: its monitor has ended.
    """
    if subject.group is not None:
        return subject.group.usage()
    stat = Path(f"/proc/{subject.pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = [int(word) if word.isdigit() else 0 for word in stat.rpartition(")")[2].split()]
    return Usage(
        memory=fields[_PAGES] * os.sysconf("SC_PAGE_SIZE"),
        memory_peak=None,
        cpu_seconds=(fields[_USER_TIME] + fields[_SYSTEM_TIME]) / os.sysconf("SC_CLK_TCK"),
        throttled_seconds=None,
        pids=fields[_THREADS],
        io_bytes_read=None,
        io_bytes_written=None,
        oom_kills=None,
    )


def handled_packets() -> int:
    """How many received packets the host's kernel has handled in soft interrupts, of all namespaces.

    It is the first column of each processor (net/core/net-procfs.c). /proc/softirqs would not do: a
    busy kernel handles many packets in one interrupt.
    """
    rows = Path("/proc/net/softnet_stat").read_text(encoding="ascii").splitlines()
    return sum(int(row.split()[0], 16) for row in rows)
