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

    readings: list[tuple[float, Usage]] = field(default_factory=list)
    soft_interrupts: list[int] = field(default_factory=list)
    """Of the whole host, for received packets: before and after."""

    def highest_rate(self, count: Callable[[Usage], float | None]) -> float | None:
        """The most of a counter per second over any span of at least `SPAN`; None where it is not kept."""
        points = [(at, value) for at, usage in self.readings if (value := count(usage)) is not None]
        best = None
        for place, (at, value) in enumerate(points):
            for sooner, before in reversed(points[:place]):
                if at - sooner >= SPAN:
                    best = max(best or 0.0, (value - before) / (at - sooner))
                # A longer one is two of those, of which one has no lower rate.
                if at - sooner >= 2 * SPAN:
                    break
        return best

    def highest(self, figure: Callable[[Usage], int | None]) -> int | None:
        """The most that a figure came to; None where it is not kept."""
        values = [value for _, usage in self.readings if (value := figure(usage)) is not None]
        return max(values, default=None)

    def growth(self, figure: Callable[[Usage], int | None]) -> int:
        """How much a counter grew."""
        values = [value for _, usage in self.readings if (value := figure(usage)) is not None]
        return values[-1] - values[0] if values else 0


@contextlib.contextmanager
def watch(ground: Ground) -> Iterator[Watch]:
    """Read what the subject uses again and again while the payload runs."""
    watched, ended = Watch(), threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            watched.readings.append((time.monotonic(), usage_of(ground.subject)))

    def follow() -> None:
        while not ended.wait(INTERVAL):
            read()

    thread = threading.Thread(target=follow, name="pybench-watch", daemon=True)
    watched.soft_interrupts.append(received())
    read()
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
        read()
        watched.soft_interrupts.append(received())


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


def received() -> int:
    """How often the host's kernel handled received packets in soft interrupts (proc_softirqs(5))."""
    for line in Path("/proc/softirqs").read_text(encoding="ascii").splitlines():
        name, _, counts = line.strip().partition(":")
        if name == "NET_RX":
            return sum(int(count) for count in counts.split())
    return 0
