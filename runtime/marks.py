"""The mark: a named instant on the host's monotonic clock, and the span between two of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A named instant, observed on the host's CLOCK_MONOTONIC.

    `at` is in nanoseconds. `channel` says how the instant reached the host (`call` for an
    instant of the harness itself, `execve-pipe`, `mark-pipe`, `stdout-pipe`, `isa-serial`, …), or, as
    `workload-clock`, that the workload has read it off the same clock of the same kernel.
    `resolution` is in seconds: an upper bound of how finely this channel tells two instants apart.
    `arrived` is how the host has seen it, where the workload has told the instant; else None.
    """

    name: str
    at: int
    channel: str
    resolution: float
    arrived: Mark | None = None
