"""What a measurement is: functions that read one instance, or a procedure with instances of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from pybench.harness.fields import Repetitions, Warmups
from pybench.harness.model import Mark, ParameterValue
from pybench.harness.targets.base import Instance

if TYPE_CHECKING:
    from pybench.harness.runner.bench import Bench

NANOSECOND: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Reading:
    """One value read off one instance; the runner turns it into a sample."""

    metric: str
    unit: str
    value: float | None
    """None when it could not be read; `reason` then says why."""
    channel: str
    resolution: float
    """In the reading's unit."""
    reason: str = ""
    error: float | None = None
    """The estimated error, in the reading's unit, where it is known to be less than the resolution."""
    ends: tuple[tuple[str, float], ...] = ()
    """Of a span: channel and resolution (seconds) of the marks on both sides."""
    by_requester: bool = False
    """The span is that of whoever asked: its own waiting for a processor is a part of it, and no error."""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    """Under what it was read, such as `instances=4`; added to those of the scenario."""
    qualifiers: Mapping[str, str] = field(default_factory=dict)
    """What must be said beside it, beyond what is said of its instance."""
    doubt: str = ""
    """Why the value must not count, where whoever took it knows; it is stored as rejected."""


Reader = Callable[[Instance], list[Reading]]
Procedure = Callable[["Bench"], None]
"""Launches, reads, records and stops; an InstanceError that it lets through becomes a failed sample."""


def read_nothing(_instance: Instance) -> list[Reading]:
    """The reader of a moment at which a measurement has nothing to read."""
    return []


@dataclass(frozen=True, slots=True)
class Metric:
    """What one kind of reading is called, in which unit, and what it means."""

    name: str
    """Dotted; a last part in angle brackets stands for any name."""
    unit: str
    description: str

    def covers(self, name: str) -> bool:
        """Whether a reading of this name is of this kind."""
        fixed, bracket, _ = self.name.partition("<")
        return name.startswith(fixed) and len(name) > len(fixed) if bracket else name == fixed


class MeasurementSettings(BaseModel):
    """Options of a measurement whose instance others read, too: there are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def images(self) -> tuple[str, ...]:
        """What it needs beside the workloads' images."""
        return ()

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """How long one step takes, for the plan, where a launch with its teardown takes `launch` seconds."""
        return launch


class ProcedureSettings(MeasurementSettings):
    """What every procedure's options include."""

    repetitions: Repetitions | None = None
    """How often it is carried out with each workload on each target; by default the target's number."""
    warmups: Warmups = 0
    """Exactly so many times more, ahead, that are stored but count for nothing."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A name of a scenario's `measure`, with its readers or its procedure.

    The readers of all measurements of a scenario read the same instance, at ready and once it is stopped.
    A reader reports what it could not read as a reading without a value; it does not raise for that.

    A procedure has steps of its own, in which it launches, loads and stops as many instances as it likes.
    """

    name: str
    description: str
    metrics: tuple[Metric, ...]
    """The first is the one whose sample fails if the whole does."""
    parameters: frozenset[str] = frozenset()
    """Parameters of a scenario that it takes for itself, such as a number of instances."""
    at_ready: Reader = read_nothing
    at_stopped: Reader = read_nothing
    procedure: Procedure | None = None
    settings: type[MeasurementSettings] = MeasurementSettings
    """Its options; those of a procedure are `ProcedureSettings`."""


def span(metric: str, marks: Sequence[Mark], begin: str, end: str) -> Reading:
    """The time between two named marks, in seconds.

    The channel is that of the later mark. The resolution is the sum of both marks' resolutions, an
    upper bound of the error of their difference. Where a mark is missing or the two are in the wrong order,
    the reading says so and has no value: a negative duration is a fault of the channel, not a measurement.
    """
    named = {mark.name: mark for mark in marks}
    first, last = named.get(begin), named.get(end)
    if first is None or last is None:
        missing = begin if first is None else end
        return Reading(metric, "s", None, "none", 0.0, f"the instance has no mark {missing!r}")
    resolution = first.resolution + last.resolution
    if last.at < first.at:
        reason = f"the mark {end!r} precedes {begin!r} by {first.at - last.at} ns"
        return Reading(metric, "s", None, last.channel, resolution, reason)
    ends = ((first.channel, first.resolution), (last.channel, last.resolution))
    seconds = (last.at - first.at) * NANOSECOND
    return Reading(metric, "s", seconds, last.channel, resolution, ends=ends)
