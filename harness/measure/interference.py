"""Interference: how long small requests take in an instance, alone and beside neighbours under load."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Cpus, Duration, MemorySize, Pids
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading
from pybench.harness.measure.neighbours import IMAGE, neighbour, neighbours_target
from pybench.harness.measure.work import Timed, Worker, do_work, worker
from pybench.harness.model import Resources

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench

Name = Literal["cpu", "memory", "fork", "disk", "network"]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
ALONE: Final = "none"
NEIGHBOUR: Final = "neighbour"
"""The parameter: what strains the host meanwhile."""
KIND: Final = "latency"
"""Of work of the image's program `measure`."""
FEWEST: Final = {"p50": 3, "p95": 20, "p99": 100}
"""Requests without which a percentile is not told."""
LEAST_SECONDS: Final = 0.1
NEIGHBOUR_SECONDS: Final = 3.0
"""Beyond a launch of the victim that a neighbour's takes, whose image is larger, in an emulated machine."""

METRICS: Final = (
    Metric("interference.worst", "", "the largest of the slowdowns beside all neighbours"),
    Metric("interference.slowdown", "", "95th percentile beside the neighbour, as a multiple of that alone"),
    Metric("interference.latency.p50", "s", "what half of the requests take at most, beside the neighbour"),
    Metric("interference.latency.p95", "s", "what 95 % of them take at most"),
    Metric("interference.latency.p99", "s", "what 99 % of them take at most; from 100 requests on"),
    Metric("interference.latency.maximum", "s", "the longest"),
)


def _distinct(names: list[Name]) -> list[Name]:
    if len(set(names)) != len(names):
        raise ValueError("a neighbour is named twice")
    return names


def _long_enough(seconds: float) -> float:
    if seconds < LEAST_SECONDS:
        raise ValueError("at least 100ms")
    return seconds


class InterferenceSettings(ProcedureSettings):
    """Options of interference."""

    neighbours: Annotated[list[Name], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default_factory=lambda: list(NAMES)
    )
    """Which, one after the other."""
    duration: Annotated[Duration, AfterValidator(_long_enough)] = 2.0
    """Seconds for which requests are timed, alone and beside each neighbour."""
    lead: Duration = 0.5
    """Seconds that a neighbour is given to get going after it says that it has begun."""
    memory: MemorySize = 256 * 2**20
    """A neighbour's limit."""
    cpus: Cpus = 2
    """A neighbour's limit; in a virtual machine, its processors."""
    pids: Pids = 64
    """A neighbour's limit."""

    def images(self) -> tuple[str, ...]:
        """The neighbours'."""
        return (IMAGE,)

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """The victim and each neighbour are launched; requests are timed beside each, and once alone."""
        beside = launch + (NEIGHBOUR_SECONDS if launch > 1 else 0.0) + self.lead
        return launch + self.duration * 1.25 + len(self.neighbours) * (beside + self.duration * 1.25)


def measure_interference(bench: Bench) -> None:
    """`interference.*`: one instance answers small requests, alone, then beside each neighbour in turn.

    A request is due every 2 ms; its latency is from that time until it is answered, by the clock inside. The
    neighbours run on the same kind of target, one at a time, each within limits of its own.
    `interference.slowdown` compares the 95th percentiles of one step with each other.

    A neighbour that cannot be started, or ends meanwhile, is a failed sample with its reason, and the next
    one has its turn; without the victim there is nothing to go on with.
    """
    options = bench.options(InterferenceSettings)
    victim = worker(bench.launch(), bench.target.name)
    alone = _time_requests(bench, victim, ALONE)
    slowdowns = []
    for name in options.neighbours:
        try:
            beside = _beside(bench, victim, name)
        except InstanceError as error:
            if victim.ended:
                raise
            at = {NEIGHBOUR: name}
            reason = f"beside {name}: {error.message}"
            bench.record(Reading("interference.slowdown", "", None, "none", 0.0, reason, parameters=at))
            continue
        if slowdown := _slowdown(alone, beside):
            slowdowns.append(slowdown)
            bench.record(_ratio("interference.slowdown", slowdown, {NEIGHBOUR: name}))
    if slowdowns:
        bench.record(_ratio("interference.worst", max(slowdowns), {}))


def _beside(bench: Bench, victim: Worker, name: Name) -> Timed:
    options = bench.options(InterferenceSettings)
    resources = Resources(options.memory, options.cpus, options.pids)
    target = bench.open(neighbour(name, resources), neighbours_target(bench.target))
    noise = bench.launch(target)
    try:
        time.sleep(options.lead)
        timed = _time_requests(bench, victim, name)
        if reason := noise.ended:
            raise InstanceError(f"the neighbour ended: {reason}")
    finally:
        # It must be quiet for the next one.
        bench.stop(noise)
    return timed


def _time_requests(bench: Bench, victim: Worker, name: str) -> Timed:
    timed = do_work(victim, KIND, bench.options(InterferenceSettings).duration)
    latency = timed.work.latency
    if latency is None:
        raise InstanceError("the program did not time its requests")
    values = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99, "maximum": latency.maximum}
    for key, value in values.items():
        if latency.n >= FEWEST.get(key, 1):
            reading = timed.latency(f"interference.latency.{key}", value)
            bench.record(_at(reading, {NEIGHBOUR: name}))
    return timed


def _slowdown(alone: Timed, beside: Timed) -> float:
    """Of the 95th percentile; 0 where it is not supported on both sides."""
    before, after = alone.work.latency, beside.work.latency
    if before is None or after is None or min(before.n, after.n) < FEWEST["p95"] or not before.p95:
        return 0.0
    return after.p95 / before.p95


def _ratio(metric: str, value: float, parameters: Mapping[str, ParameterValue]) -> Reading:
    return Reading(metric, "", value, "guest-clock", 0.0, error=0.0, parameters=parameters)


def _at(reading: Reading, parameters: Mapping[str, ParameterValue]) -> Reading:
    return replace(reading, parameters=parameters)
