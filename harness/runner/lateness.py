"""How late the harness itself was while it watched an instance, as the kernel tells it."""

from __future__ import annotations

import os
import threading
from typing import Final

SPAWNING: Final = "pybench-spawn"
"""What the names of the threads begin with that start programs and watch them."""
LANE: Final = "pybench-lane"
"""What those begin with that start machines, several at a time, in the place of the main thread."""
_TASKS: Final = "/proc/self/task"
_NANOSECOND: Final = 1e-9
_FIELDS: Final = 3


class Lateness:
    """The mean time for which the thread that watches waited for a processor, between two readings.

    A mark is taken by a thread that the arriving byte wakes. What it then waits in the run queue is error.
    The kernel counts this for each thread, with the number of times it was put on a processor
    (sched-stats.rst, /proc/<pid>/schedstat); their quotient is what one wake-up is late on average. A thread
    that spawns watches what it has spawned; where none had a turn, the main thread or a lane has watched.
    """

    def __init__(self) -> None:
        self._before = _waits()

    def seconds(self) -> float:
        """The mean since the reading before; 0 where the kernel does not tell."""
        before, self._before = self._before, _waits()
        spawners = {each.native_id for each in threading.enumerate() if each.name.startswith(SPAWNING)}
        spawning, watching = [0, 0], [0, 0]
        for thread, (wait, turns) in self._before.items():
            earlier = before.get(thread, (wait, turns))
            found = spawning if thread in spawners else watching
            found[0] += wait - earlier[0]
            found[1] += turns - earlier[1]
        waited, count = spawning if spawning[1] else watching
        return waited * _NANOSECOND / count if count else 0.0


def _waits() -> dict[int, tuple[int, int]]:
    """Thread that may watch → nanoseconds in the run queue, and turns on a processor."""
    waits = {}
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.name.startswith((SPAWNING, LANE)):
            continue
        try:
            descriptor = os.open(f"{_TASKS}/{thread.native_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has ended, or this kernel does not count
        try:
            fields = os.read(descriptor, 100).split()
        finally:
            os.close(descriptor)
        if len(fields) == _FIELDS and thread.native_id is not None:
            waits[thread.native_id] = (int(fields[1]), int(fields[2]))
    return waits
