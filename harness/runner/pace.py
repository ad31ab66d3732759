"""How fast the host works right now, whatever its own counters say of that."""

from __future__ import annotations

import os
import time
from itertools import repeat
from statistics import median
from typing import Final

CALLS: Final = 100
"""Of the cheapest system call, of which the time is taken: some 20 µs, far less than a neighbour runs for."""
LOOKS: Final = 3
"""On each processor; of several times the middle one is free of an interrupt that fell into one of them."""
PROCESSORS: Final = 2
"""That are looked at before one launch: of many, others each time, so that a run gets to know all of them."""


class PaceMaker:
    """Takes the time of a fixed piece of work on the processors that this thread may run on.

    A processor may be half of a core whose other half is somebody else's, in a virtual machine that is told
    nothing of that: neither steal nor frequency shows it. What then gets slower is what keeps the core busy:
    entering and leaving the kernel, as a launch does, slows down by up to a half, and a chain of
    multiplications, each waiting for the one before, by nothing.
    """

    def __init__(self) -> None:
        self._next = 0

    def seconds(self) -> float:
        """Of a hundred system calls now: the median over looks and processors."""
        allowed = os.sched_getaffinity(0)
        times: list[float] = []
        try:
            for processor in self._chosen(sorted(allowed)):
                os.sched_setaffinity(0, {processor})
                # The first calls bring into the caches what the others find there.
                _calls()
                times += [_calls() for _ in range(LOOKS)]
        finally:
            os.sched_setaffinity(0, allowed)
        return median(times)

    def _chosen(self, allowed: list[int]) -> list[int]:
        chosen = [allowed[(self._next + at) % len(allowed)] for at in range(min(PROCESSORS, len(allowed)))]
        self._next = (self._next + len(chosen)) % len(allowed)
        return chosen


def _calls() -> float:
    call, began = os.getppid, time.perf_counter_ns()
    for _ in repeat(None, CALLS):
        call()
    return (time.perf_counter_ns() - began) / 1e9
