"""Instants that a workload reads off the clock itself: it shares the kernel, and so the clock, with the host.

A marking command finds in $PYBENCH_MARK_CLOCK what it may tell: `exec`, its first instruction, or `line`,
that and the instant before it prints its line of readiness. It pushes each as a line, `exec 123` or
`line 456`, in nanoseconds of CLOCK_MONOTONIC, to the descriptor in $PYBENCH_MARK_FD. One that cannot tell
pushes `exec` alone.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pybench.runtime.marks import Mark

CHANNEL: Final = "workload-clock"
VARIABLE: Final = "PYBENCH_MARK_CLOCK"
EXEC, LINE = "exec", "line"
_LONGEST: Final = 256
_INSTANT: Final = re.compile(rb"^(exec|line) ([0-9]{1,19})\n", re.MULTILINE)
_ROUNDS: Final = 64


@functools.cache
def clock_resolution() -> float:
    """Seconds that an instant may be off: what reading the clock and pushing it takes.

    Measured once per process. The push lies between the reading and what it is the instant of. This is the
    90th percentile, taken from Python, where both take longer than in the workload.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    line = b"line 1234567890123456789\n"
    spans = []
    try:
        for _ in range(_ROUNDS):
            began = time.monotonic_ns()
            os.write(writer, line)
            spans.append(time.monotonic_ns() - began)
    finally:
        os.close(reader)
        os.close(writer)
    return sorted(spans)[_ROUNDS * 9 // 10] / 1e9


@dataclass(frozen=True, slots=True)
class WorkloadClock:
    """What one workload has told of its clock."""

    told: Mapping[str, int]
    """In ns of the host's CLOCK_MONOTONIC; as hostile as anything that a workload says."""

    @classmethod
    def read(cls, descriptor: int, offset: int) -> WorkloadClock:
        """Take what was pushed so far.

        Args:
            descriptor: the end of the pipe that is read, which is non-blocking.
            offset: what its time namespace adds to the host's clock, in ns (time_namespaces(7)).
        """
        try:
            pushed = os.read(descriptor, _LONGEST)
        except BlockingIOError:
            pushed = b""
        return cls({name.decode(): int(number) - offset for name, number in _INSTANT.findall(pushed)})

    def mark(self, told: str, after: int, arrived: Mark) -> Mark:
        """The mark by the workload's clock, or as it arrived where that tells nothing that can be.

        Args:
            told: which instant it is.
            after: it cannot have been before this, in ns.
            arrived: as the host has seen it.
        """
        at = self.told.get(told)
        if at is None or not after <= at <= arrived.at:
            return arrived
        return Mark(arrived.name, at, CHANNEL, clock_resolution(), arrived)
