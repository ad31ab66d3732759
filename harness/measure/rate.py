"""Rate: how many instances a second can be started, one after another and several at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Timeout
from pybench.harness.measure.base import ProcedureSettings, Reading, span
from pybench.harness.measure.percentiles import percentiles
from pybench.harness.measure.startup import READY, REQUEST

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.targets.base import Instance, Target

CONCURRENCY: Final = "concurrency"
"""The parameter: how many starts are under way at once."""
MOST_FAILURES: Final = 5
"""Of one level, after which it is given up."""
NANOSECOND: Final = 1e-9


def _ascending(levels: list[int]) -> list[int]:
    if sorted(set(levels)) != levels:
        raise ValueError("the levels must ascend, each once")
    return levels


class RateSettings(ProcedureSettings):
    """Options of a measurement of rates."""

    concurrency: Annotated[
        list[Annotated[int, Field(strict=True, ge=1, le=256)]],
        Field(min_length=1, max_length=20),
        AfterValidator(_ascending),
    ] = Field(default_factory=lambda: [1, 2, 4])
    """Starts under way at once; where no parameter `concurrency` says it."""
    starts: Annotated[int, Field(strict=True, ge=2, le=100_000)] = 100
    """Of each level, at most."""
    time: Timeout = 20.0
    """After which no further one of a level begins."""

    def levels(self, parameters: Mapping[str, ParameterValue]) -> list[int]:
        """The levels of one step."""
        return [int(parameters[CONCURRENCY])] if CONCURRENCY in parameters else self.concurrency

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:
        """As if concurrency won nothing, which holds where it meets a bottleneck."""
        levels = self.levels(parameters)
        return len(levels) * min(self.time, self.starts * launch)


@dataclass(slots=True)
class _Level:
    """What has happened so far at one level; several threads add to it."""

    deadline: float
    left: int
    starts: list[Reading] = field(default_factory=list)
    failures: list[Reading] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no further start begins."""
        return self.left <= 0 or len(self.failures) >= MOST_FAILURES or time.monotonic() >= self.deadline


def measure_rate(bench: Bench) -> None:
    """`rate.*`: starts and stops without a pause, with a given number under way at once.

    `rate.start` is every single start from request to ready, as whoever asked for it sees it: that the one
    who asks has to wait for a processor as well is a part of what concurrency costs, and no error.
    `rate.start.p50` and so on are their percentiles; those that the number of starts cannot support are left
    out. `rate.cycles` is starts with their teardowns per second, over the whole time. `rate.best` is the
    highest rate of all levels.

    Each lane has a target of its own, so that no lock of the harness stands between two of them.
    """
    settings = bench.options(RateSettings)
    levels = settings.levels(bench.parameters)
    lanes: list[Target | None] = [None, *(bench.open(number=number) for number in range(1, max(levels)))]
    best = 0.0
    for level in levels:
        best = max(best, _measure_level(bench, settings, lanes[:level]))
    if best:
        bench.record(Reading("rate.best", "1/s", best, "call", 0.0, error=0.0))


def _measure_level(bench: Bench, settings: RateSettings, lanes: list[Target | None]) -> float:
    # What each lane does first finds cold caches and an empty pool; it counts for nothing.
    bench.in_parallel([lambda lane=lane: bench.stop(bench.launch(lane)) for lane in lanes])  # type: ignore[misc]
    bench.settle()
    began = time.monotonic_ns()
    level = _Level(time.monotonic() + settings.time, settings.starts)
    try:
        bench.in_parallel([lambda lane=lane: _repeat(bench, level, lane) for lane in lanes])  # type: ignore[misc]
    finally:
        seconds = (time.monotonic_ns() - began) * NANOSECOND
        rate = _record(bench, level, seconds, {CONCURRENCY: len(lanes)})
    return rate


def _repeat(bench: Bench, level: _Level, lane: Target | None) -> None:
    """Start and stop until the level is over."""
    while not bench.is_ending and not level.is_over:
        level.left -= 1
        try:
            instance = bench.launch(lane)
            level.starts.append(_start(instance))
            bench.stop(instance)
        except InstanceError as error:
            level.failures.append(Reading("rate.start", "s", None, "none", 0.0, error.message))


def _record(bench: Bench, level: _Level, seconds: float, at: Mapping[str, ParameterValue]) -> float:
    """Keep what a level has given; the rate, or 0 where there is none."""
    found = [reading for reading in level.starts if reading.value is not None]
    bench.record(*(_at(reading, at) for reading in (*level.starts, *level.failures)))
    if not found:
        return 0.0
    values = sorted(reading.value for reading in found if reading.value is not None)
    for name, value in percentiles(values).items():
        bench.record(replace(found[-1], metric=f"rate.start.{name}", value=value, parameters=at))
    rate = len(found) / seconds
    bench.record(_at(Reading("rate.cycles", "1/s", rate, "call", 0.0, error=0.0), at))
    return rate


def _start(instance: Instance) -> Reading:
    seen = [mark.arrived or mark for mark in instance.marks]
    return replace(span("rate.start", seen, REQUEST, READY), by_requester=True)


def _at(reading: Reading, parameters: Mapping[str, ParameterValue]) -> Reading:
    return replace(reading, parameters=parameters)
