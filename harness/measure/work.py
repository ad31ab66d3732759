"""Work that is done in an instance for a while, and timed by the host's clock.

A program on the host's kernel reads that clock itself; a guest is timed from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, cast

from pybench.harness.errors import InstanceError
from pybench.harness.measure.base import Reading
from pybench.harness.measure.program import Work, parse_printed, work_command
from pybench.harness.targets.base import PIPE, Completed, HasCommands, HasDisk, Instance
from pybench.harness.units import format_seconds
from pybench.runtime.container.workload_clock import CHANNEL, clock_resolution

AGREEMENT: Final = 0.01
"""Share by which two clocks may differ over a span. Beyond it one runs wrong, or was looked at too late."""
LEAST_SECONDS: Final = 0.01
PATIENCE: Final = 60.0
"""Seconds beyond the measured ones that a command may take, with its warm-up, on a busy host."""
FACTOR: Final = 10
"""Under emulation preparing a file or a buffer takes many times as long."""


class Worker(HasCommands, Instance, Protocol):
    """An instance that can run commands."""


def worker(instance: Instance, target: str) -> Worker:
    """The same instance, for its commands.

    Raises:
        InstanceError: its target can run none.
    """
    if not isinstance(instance, HasCommands):
        raise InstanceError(f"the target {target} cannot run commands in its instances")
    return cast("Worker", instance)


def check_clocks(inside: int, host: int) -> tuple[float, str]:
    """Hold two clocks' spans (nanoseconds) against each other.

    Returns:
        By which share of the host's the other differs, and why that is too much, or nothing.
    """
    disagreement = abs(inside - host) / host
    if disagreement <= AGREEMENT:
        return disagreement, ""
    spans = [format_seconds(span / 1e9, 4) for span in (inside, host)]
    return disagreement, f"the clock inside tells {spans[0]} where the host's tells {spans[1]}"


def host_span(kind: str, done: Completed) -> int:
    """Nanoseconds between the arrivals of `begin` and of the result, on the host's clock.

    Raises:
        InstanceError: both came at once.
    """
    first, last = done.printing or (0, 0)
    if last <= first:
        raise InstanceError(f"the result of {kind} came at once with its beginning, so it cannot be timed")
    return last - first


def disk_of(instance: Instance) -> str:
    """Where an instance has room on the host's disk; empty if it has none."""
    return instance.disk if isinstance(instance, HasDisk) else ""


@dataclass(frozen=True, slots=True)
class Timed:
    """Work with the time that it took by the host's clock, and how far that is to be trusted."""

    work: Work
    host_span: int
    """Nanoseconds on the host's clock."""
    channel: str
    error: float
    """As a share of the span."""
    doubt: str = ""
    """Why the time must not count, or nothing."""

    def rate(self, metric: str, unit: str) -> Reading:
        """How much was done each second of the host's clock."""
        value = self.work.total / (self.host_span / 1e9)
        spread = {"spread": self._spread()}
        return Reading(
            metric, unit, value, self.channel, value * self.error, doubt=self.doubt, qualifiers=spread
        )

    def latency(self, metric: str, nanoseconds: int) -> Reading:
        """A duration of single operations, which only the clock inside can tell."""
        value = nanoseconds / 1e9
        return Reading(metric, "s", value, "program-clock", value * self.error, doubt=self.doubt)

    def _spread(self) -> str:
        """Between the slowest and the fastest batch, as a share of the median."""
        batches = sorted(self.work.batches)
        return f"{(batches[-1] - batches[0]) / batches[len(batches) // 2]:.1%}"


def do_work(
    instance: Worker,
    kind: str,
    seconds: float,
    *,
    size: int | None = None,
    directory: str = "",
    server: tuple[str, int] | None = None,
) -> Timed:
    """Have an instance do one kind of work for about so many seconds.

    Raises:
        InstanceError: it cannot, or what it printed is no result.
    """
    command = work_command(kind, seconds, size=size, directory=directory, server=server)
    done = instance.execute(command, FACTOR * seconds + PATIENCE)
    return timed(kind, done)


def timed(kind: str, done: Completed) -> Timed:
    """The result of a command that has ended.

    Whatever answers through a pipe runs on the host's kernel, and its clock is the host's. Only a guest's
    must be held against it.

    Raises:
        InstanceError: it failed, or what it printed is no result.
    """
    work = parse_printed(Work, kind, done.status, done.stdout, done.stderr)
    if done.channel == PIPE:
        return Timed(work, work.span, CHANNEL, 2e9 * clock_resolution() / work.span)
    span = host_span(kind, done)
    return Timed(work, span, done.channel, *check_clocks(work.span, span))


def long_enough(seconds: float) -> float:
    """A duration of measured work.

    Raises:
        ValueError: it is too short to be told from the time that its own timing takes.
    """
    if seconds < LEAST_SECONDS:
        raise ValueError("at least 10ms")
    return seconds


def failed(metric: str, unit: str, reason: str) -> Reading:
    """A reading that says why there is no value."""
    return Reading(metric, unit, None, "none", 0.0, reason)
