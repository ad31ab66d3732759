"""The words of the design as immutable values; nothing here does I/O.

Units are SI or binary and spelled out: `s`, `B`, `1/s`. Instants are nanoseconds
of the host's CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pybench.runtime.marks import Mark
from pybench.runtime.workload_files import WorkloadFile

__all__ = [
    "Combination",
    "Conditions",
    "Environment",
    "Estimate",
    "GateLimit",
    "Mark",
    "MeasurementChoice",
    "Note",
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
    "Settle",
    "Step",
    "Stop",
    "Tagging",
    "TargetChoice",
    "Task",
    "Workload",
    "WorkloadFile",
    "combine",
    "parameter_label",
]

ReadinessLevel = Literal["exec", "line", "tcp", "http"]
RunStatus = Literal["running", "done", "interrupted", "failed", "abandoned"]
"""`abandoned`: the process that carried it out died without a word; what it stored is kept."""
SampleStatus = Literal["ok", "failed", "rejected"]
"""`rejected`: it has a value, but its estimated error is too large for it to count."""
ParameterValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """When a workload counts as ready.

    `exec`: its first instruction ran. `line`: it printed a line that contains `text`
    (any line when `text` is empty). `tcp`: it accepted a connection on `port`. `http`: it answered a request
    for `path` there with `status`.
    """

    level: ReadinessLevel = "line"
    text: str = ""
    port: int = 0
    path: str = "/"
    status: int = 200


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
    files: tuple[WorkloadFile, ...] = ()
    user: str = ""
    """`uid`, `uid:gid` or names of the image; empty means the target's own default."""
    ports: tuple[int, ...] = ()
    """TCP ports it listens on."""
    disk: int | None = None
    """Bytes of the host's disk that it may fill, beneath `/mnt`; None: no such place."""


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
class Stop:
    """What ends the repetitions of a combination before their number is reached."""

    precision: float | None = None
    """The width of the median's interval, as a share of the median, that is precise enough."""
    metric: str = "startup.ready"
    """Whose median that is."""
    at_least: int = 10
    """Samples that count before the precision is looked at for the first time."""
    time: float | None = None
    """Seconds after which no further repetition begins, for the whole run."""


@dataclass(frozen=True, slots=True)
class Settle:
    """How quiet the host must be before a launch; None does not matter."""

    running: int | None = None
    """Most tasks that are runnable, on the whole host."""
    pressure: float | None = None
    """Largest share of time, over the last ten seconds, in which some task waited for a processor."""
    temperature: float | None = None
    """Degrees Celsius of the hottest sensor that can be read."""
    timeout: float = 0.5
    """Seconds to wait before one launch; then it goes on, and the sample's conditions say so."""
    in_all: float = 10.0
    """Seconds to wait in the whole run."""
    pause: float = 0.0
    """Seconds that must have passed since the last instance was gone, whatever the other bounds."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often, in what order, and under which conditions."""

    warmups: int = 1
    """Launches per combination that are stored but marked as warm-up; at least these."""
    seed: int = 1
    ready_timeout: float = 60.0
    """Seconds an instance may take to become ready before its sample is recorded as failed."""
    stop_timeout: float = 10.0
    """Seconds of grace between the polite request to stop and the kill."""
    warmups_at_most: int | None = None
    """Warm-ups go on while launches get faster, to this many; None: exactly `warmups`."""
    stop: Stop = Stop()
    settle: Settle = Settle()
    caches: Literal["warm", "cold"] = "warm"
    """`cold`: the host's page cache is dropped before each launch."""
    cpus: tuple[int, ...] = ()
    """Processors that the run is held to; empty: all."""
    priority: Literal["normal", "high"] = "normal"
    cpu_latency: float | None = None
    """Seconds that an idle processor may take to wake up, at most; None leaves it to the host."""
    on_failure: Literal["continue", "stop"] = "continue"
    give_up_after: int = 10
    """Failures of one combination in a row, after which its other launches are left out."""


@dataclass(frozen=True, slots=True)
class GateLimit:
    """What a candidate's median may be in one metric; None does not matter."""

    metric: str
    relative: float | None = None
    """Largest increase over the baseline's median, as a share of it."""
    absolute: float | None = None
    """An increase below this never counts; in the metric's unit."""
    maximum: float | None = None
    """The median may not exceed this, whatever the baseline; in the metric's unit."""
    tail: float | None = None
    """As `relative`, for what the tail increases further than the rest; None for the same."""


@dataclass(frozen=True, slots=True)
class Combination:
    """A workload on a target, with one value for each of the scenario's parameters."""

    workload: Workload
    target: TargetChoice
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    measurements: tuple[str, ...] | None = None
    """Those of the scenario's measurements that are taken of it; None: all."""

    def takes(self, choice: MeasurementChoice) -> bool:
        """Whether a measurement of the scenario is taken of it."""
        return self.measurements is None or choice.name in self.measurements

    @property
    def key(self) -> tuple[str, str, str]:
        """Names it within a scenario."""
        return self.workload.name, self.target.name, self.label

    @property
    def label(self) -> str:
        """`memory=128MiB, instances=2`; empty without parameters."""
        return parameter_label(self.parameters)


def parameter_label(parameters: Mapping[str, ParameterValue]) -> str:
    """`memory=128MiB, instances=2`."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) if parameters else ""


def combine(
    workloads: Iterable[Workload],
    targets: Iterable[TargetChoice],
    parameters: Mapping[str, ParameterValue] | None = None,
) -> tuple[Combination, ...]:
    """Every workload on every target."""
    choices = tuple(targets)
    return tuple(
        Combination(workload, choice, parameters or {}) for workload in workloads for choice in choices
    )


@dataclass(frozen=True, slots=True)
class MeasurementChoice:
    """One measurement of a scenario."""

    name: str
    """From the registry of `pybench.harness.measure`, such as `startup` or `density`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its own, validated by its settings model."""
    procedure: bool = False
    """Whether it has steps of its own; otherwise it reads the one instance that others read, too."""
    repetitions: int | None = None
    """Of its own steps; None: the target's."""
    warmups: int = 0
    """Of its own steps."""
    images: tuple[str, ...] = ()
    """What it needs beside the workloads' images."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done again and again with a combination: one launch that is read, or a procedure."""

    combination: Combination
    procedure: str
    """The measurement that conducts it; empty: a launch whose instance is read."""
    repetitions: int
    """At most."""
    warmups: int | None
    """Exactly so many; None: as the schedule says."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Names it within a scenario."""
        return *self.combination.key, self.procedure


@dataclass(frozen=True, slots=True)
class Scenario:
    """A validated scenario file."""

    name: str
    description: str
    source: str
    """The file it was read from, as the user wrote it."""
    combinations: tuple[Combination, ...]
    measurements: tuple[MeasurementChoice, ...]
    schedule: Schedule
    question: str = ""
    gate: tuple[GateLimit, ...] = ()
    claims: tuple[str, ...] = ()
    """Names from the catalogue of `pybench.harness.claims`, to be judged by what was measured."""
    definition: str = ""
    """Its text, with whatever was included and overridden."""

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The different ones, in order; with parameters there may be several of one name."""
        different: list[Workload] = []
        for combination in self.combinations:
            if combination.workload not in different:
                different.append(combination.workload)
        return tuple(different)

    @property
    def targets(self) -> tuple[TargetChoice, ...]:
        """The different ones, in order; with parameters there may be several of one name."""
        different: list[TargetChoice] = []
        for combination in self.combinations:
            if combination.target not in different:
                different.append(combination.target)
        return tuple(different)

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that something of it runs in, sorted."""
        names = {workload.image for workload in self.workloads}
        return tuple(sorted(names.union(*(choice.images for choice in self.measurements))))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is repeated: for each combination the launch that is read, then each procedure."""
        tasks = []
        for combination in self.combinations:
            target = combination.target
            taken = [choice for choice in self.measurements if combination.takes(choice)]
            if any(not choice.procedure for choice in taken):
                tasks.append(Task(combination, "", target.repetitions, target.warmups))
            tasks += [
                Task(combination, choice.name, choice.repetitions or target.repetitions, choice.warmups)
                for choice in taken
                if choice.procedure
            ]
        return tuple(tasks)


@dataclass(frozen=True, slots=True)
class Step:
    """One launch in a plan, or one execution of a procedure."""

    order: int
    """Position in the plan, from 0."""
    task: Task
    repetition: int
    """From 0 within a task; warm-ups count on their own."""
    warmup: bool

    @property
    def combination(self) -> Combination:
        """What it is done with."""
        return self.task.combination

    @property
    def workload(self) -> Workload:
        """What is launched."""
        return self.combination.workload

    @property
    def target(self) -> TargetChoice:
        """Where."""
        return self.combination.target


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
class Tagging:
    """From when until when a tag named a run."""

    run: str
    name: str
    since: str
    """ISO 8601 in UTC, as `until`."""
    until: str | None
    """None while it does; those that ended are the older baselines."""


@dataclass(frozen=True, slots=True)
class Note:
    """What someone wrote about a run."""

    run: str
    written: str
    """ISO 8601 in UTC."""
    text: str


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
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
