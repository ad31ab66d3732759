"""The words of the design as immutable values; nothing here does I/O.

Units are SI or binary and spelled out: `s`, `B`, `1/s`. Instants are nanoseconds
of the host's CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pybench.runtime.marks import Mark

__all__ = [
    "Conditions",
    "Environment",
    "Estimate",
    "Mark",
    "ParameterValue",
    "Readiness",
    "ReadinessLevel",
    "Resources",
    "Run",
    "RunStatus",
    "Sample",
    "SampleStatus",
    "Scenario",
    "Schedule",
    "Step",
    "TargetChoice",
    "Workload",
]

ReadinessLevel = Literal["exec", "line"]
RunStatus = Literal["running", "done", "interrupted", "failed", "abandoned"]
"""`abandoned`: the process that carried it out died without a word; what it stored is kept."""
SampleStatus = Literal["ok", "failed", "rejected"]
"""`rejected`: it has a value, but its estimated error is too large for it to count."""
ParameterValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """When a workload counts as ready.

    `exec`: its first instruction ran. `line`: it printed a line that contains `text`
    (any line when `text` is empty).
    """

    level: ReadinessLevel = "line"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits on one instance; None means no limit is asked for."""

    memory: int | None = None
    """Bytes."""
    cpus: float | None = None
    """Processors' worth of time."""
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Image + command + readiness + limits: what runs identically on every target."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=Readiness)
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True, slots=True)
class TargetChoice:
    """One target of a scenario: `name` labels its samples, `kind` selects the implementation."""

    name: str
    kind: str
    repetitions: int
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    warmups: int | None = None
    """Overrides the schedule's."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often and in what order."""

    warmups: int = 1
    """Launches per target that are stored but marked as warm-up."""
    seed: int = 1
    ready_timeout: float = 60.0
    """Seconds an instance may take to become ready before its sample is recorded as failed."""
    stop_timeout: float = 10.0
    """Seconds of grace between the polite request to stop and the kill."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A validated scenario file."""

    name: str
    description: str
    source: str
    """The file it was read from, as the user wrote it."""
    workloads: tuple[Workload, ...]
    targets: tuple[TargetChoice, ...]
    measurements: tuple[str, ...]
    """Names from the registry of `pybench.harness.measure`, such as `startup` and `memory`."""
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Step:
    """One launch in a plan."""

    order: int
    """Position in the plan, from 0."""
    workload: Workload
    target: TargetChoice
    repetition: int
    """From 0 within (workload, target); warm-ups count on their own."""
    warmup: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured value, or the record that a step failed."""

    workload: str
    target: str
    metric: str
    """Dotted, e.g. `startup.exec`, `startup.phase.kernel`, `memory.host.pss`."""
    unit: str
    value: float | None
    """None when the step failed."""
    repetition: int
    warmup: bool
    order: int
    channel: str
    resolution: float
    """In the sample's unit."""
    qualifiers: Mapping[str, str] = field(default_factory=dict)
    """E.g. `accel=tcg`, `image=<hash>`, `limits=none`; what must be said beside the number."""
    status: SampleStatus = "ok"
    reason: str = ""
    """Why the step failed, with the last lines of its log; or why the value was rejected."""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    """The values that the scenario's parameters had in this launch; samples of one cell agree in them."""
    error: float = 0.0
    """The estimated measurement error of the value, in the sample's unit; at least the resolution."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the host and the harness did around one step; kept beside the step's samples."""

    order: int
    values: Mapping[str, float]
    """Names and units are in `pybench.harness.conditions`; what the host does not tell is missing."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The fingerprint of the host and of every part that took part: dotted field → value."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a scenario; its samples are stored beside it."""

    id: str
    scenario: str
    source: str
    started: str
    """ISO 8601, UTC."""
    finished: str | None
    status: RunStatus
    command: str
    """The command line that reproduces the run."""
    environment: Environment
    definition: str = ""
    """The scenario file's text as it was run."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The summary of one cell; derived from samples, never stored."""

    workload: str
    target: str
    metric: str
    unit: str
    n: int
    """Samples that count: neither warm-up nor failed. Where it is 0, every figure below is NaN."""
    failed: int
    median: float
    mean: float
    ci_low: float
    ci_high: float
    """95 % interval of the median; equal to minimum and maximum where n is too small for 95 %."""
    confidence: float
    """What the interval really covers, e.g. 0.9572 for n = 30."""
    p95: float | None
    """None below 20 samples."""
    p99: float | None
    """None below 100 samples."""
    qualifiers: Mapping[str, str] = field(default_factory=dict)
    """Those that every sample of the cell shares."""
