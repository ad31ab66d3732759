"""The scenario language as pydantic models: keys, types, defaults and bounds.

Files are validated by these models, and `pybench schema` prints the same models as JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pybench.harness.fields import (
    AbsolutePath,
    Argument,
    Cpus,
    DiskSize,
    Duration,
    FileMode,
    ImageName,
    Label,
    MemorySize,
    Pids,
    Port,
    Repetitions,
    Share,
    Timeout,
    User,
    VariableName,
    Warmups,
)

RESERVED_PREFIX = "PYBENCH_"
"""Environment variables of this prefix carry the harness's own channels into the workload."""
MOST_COMBINATIONS = 1000
FEWEST_FOR_INTERVAL = 6
"""Below six samples no interval between order statistics reaches 95 %."""

Scalar = str | int | float | bool


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("it is compared with single lines, so it cannot contain a line break")
    return text


def _absolute(command: list[str]) -> list[str]:
    if not command[0].startswith("/"):
        raise ValueError("the program must be an absolute path inside the image, such as /bin/workload")
    return command


def _not_reserved(environment: dict[str, str]) -> dict[str, str]:
    for name in environment:
        if name.startswith(RESERVED_PREFIX):
            raise ValueError(
                f"{name} is reserved: names that begin with {RESERVED_PREFIX} belong to the harness"
            )
    return environment


def _distinct(values: list[Any]) -> list[Any]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} is listed twice")
    return values


def _by_name(value: object) -> object:
    """A list of names as a mapping without options."""
    if not isinstance(value, list):
        return value
    for name in value:
        if not isinstance(name, str):
            raise ValueError("a list has only names; with options, write `measure: {density: {most: 16}}`")
    return {key: {} for key in _distinct(value)}


Measurements = Annotated[dict[str, dict[str, Any]], BeforeValidator(_by_name)]


class LanguageModel(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ReadinessModel(LanguageModel):
    """When a workload counts as ready."""

    level: Literal["exec", "line", "tcp", "http"] = "line"
    """Its first instruction, a line of its output, an accepted connection, or an answered request."""
    text: Annotated[str, Field(max_length=1000), AfterValidator(_one_line)] = ""
    """With `line`: what the line must contain; empty means any line."""
    port: Port | None = None
    """With `tcp` and `http`: where it listens."""
    path: Annotated[str, Field(pattern=r"^/[!-~]{0,1000}$")] = "/"
    """With `http`: what is asked for."""
    status: Annotated[int, Field(strict=True, ge=100, le=599)] = 200
    """With `http`: the status that counts as an answer."""

    @model_validator(mode="after")
    def _keys_suit_the_level(self) -> ReadinessModel:
        if self.level != "line" and self.text:
            raise ValueError(f"`text` has no meaning with `level: {self.level}`, which waits for no output")
        needs_port = self.level in {"tcp", "http"}
        if needs_port and self.port is None:
            raise ValueError(f"`level: {self.level}` needs a `port`")
        if not needs_port and self.port is not None:
            raise ValueError(f"`port` has no meaning with `level: {self.level}`")
        if self.level != "http" and self.model_fields_set & {"path", "status"}:
            raise ValueError(f"`path` and `status` have no meaning with `level: {self.level}`")
        return self


class ResourcesModel(LanguageModel):
    """Limits on one instance."""

    memory: MemorySize | None = None
    """Most memory, such as 128MiB."""
    cpus: Cpus | None = None
    """Processors' worth of time."""
    pids: Pids | None = None
    """Most processes and threads."""


class FileModel(LanguageModel):
    """A file that the workload finds in its image."""

    text: Annotated[str, Field(max_length=100_000)] | None = None
    """Its content."""
    source: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A file to copy, relative to the scenario's folder."""
    mode: FileMode = 0o644
    """Permissions in base eight, in quotes."""

    @model_validator(mode="after")
    def _one_content(self) -> FileModel:
        if (self.text is None) == (self.source is None):
            raise ValueError("a file has either `text` or `source`")
        return self


class WorkloadModel(LanguageModel):
    """What runs identically on every target."""

    image: ImageName
    """An image of `pybench images list`; a recipe's is built when missing."""
    command: Annotated[list[Argument], Field(min_length=1, max_length=1000), AfterValidator(_absolute)]
    """Program (an absolute path inside the image) and arguments; no shell."""
    environment: Annotated[
        dict[VariableName, Argument], Field(max_length=1000), AfterValidator(_not_reserved)
    ] = Field(default_factory=dict)
    files: Annotated[dict[AbsolutePath, FileModel], Field(max_length=1000)] = Field(default_factory=dict)
    """Path inside the image → content."""
    user: User | None = None
    """Who runs it: a user, or user:group, by number or by name in the image."""
    ports: Annotated[list[Port], Field(max_length=100), AfterValidator(_distinct)] = Field(
        default_factory=list
    )
    """TCP ports it listens on."""
    disk: DiskSize | None = None
    """Room on the host's disk, at /mnt; a virtual machine has it as a disk of this size."""
    readiness: ReadinessModel = ReadinessModel()
    resources: ResourcesModel = ResourcesModel()
    measure: Annotated[list[str] | None, Field(min_length=1)] = None
    """Those of the scenario's measurements that are taken of it; by default all."""
    targets: Annotated[list[str] | None, Field(min_length=1)] = None
    """Those of the scenario's targets that it runs on; by default all."""


class StopModel(LanguageModel):
    """What ends the repetitions before their number is reached."""

    precision: Share | None = None
    """Enough when the median's interval is no wider than this share of the median."""
    metric: Annotated[str, Field(min_length=1, max_length=128)] = "startup.ready"
    """Whose median that is."""
    at_least: Annotated[int, Field(strict=True, ge=FEWEST_FOR_INTERVAL, le=10_000)] = 10
    """Samples before precision is looked at for the first time."""
    time: Timeout | None = None
    """After this no further repetition begins."""


class SettleModel(LanguageModel):
    """How quiet the host must be before each launch."""

    running: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    """Most tasks that are runnable on the host."""
    pressure: Share | None = None
    """Largest share of the last ten seconds in which some task waited for a processor."""
    temperature: Annotated[float, Field(gt=0, le=200, allow_inf_nan=False)] | None = None
    """Degrees Celsius of the hottest sensor."""
    timeout: Duration = 0.5
    """Longest wait before one launch; then it goes on, and the sample's conditions say so."""
    in_all: Duration = 10.0
    """Longest wait in the whole run."""
    pause: Duration = 0.0
    """Shortest time from the end of one instance to the next launch, which counts for no other bound."""

    @model_validator(mode="after")
    def _consistent(self) -> SettleModel:
        if self.timeout > self.in_all:
            raise ValueError("`timeout` is longer than `in_all`")
        return self


class ScheduleModel(LanguageModel):
    """How often, in what order, and under which conditions."""

    warmups: Warmups = 1
    """Launches of each combination that are stored but count for nothing."""
    warmups_at_most: Warmups | None = None
    """Go on warming up while launches still get faster, to this many."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 1
    """Seed of the order."""
    ready_timeout: Timeout = 60.0
    """An instance that is not ready by then is a failed sample."""
    stop_timeout: Timeout = 10.0
    """Grace between the polite request to stop and the kill."""
    stop: StopModel = StopModel()
    settle: SettleModel = SettleModel()
    caches: Literal["warm", "cold"] = "warm"
    """`cold`: drop the host's page cache before each launch; needs root."""
    cpus: Annotated[
        list[Annotated[int, Field(strict=True, ge=0, le=4095)]],
        Field(max_length=4096),
        AfterValidator(_distinct),
    ] = Field(default_factory=list)
    """Processors that harness and instances are held to; empty means all."""
    priority: Literal["normal", "high"] = "normal"
    """`high`: a scheduling priority above the host's other work, where permitted."""
    cpu_latency: Annotated[Duration, Field(le=1)] | None = None
    """Longest time an idle processor may take to wake up; `0s` keeps processors awake; needs root."""
    on_failure: Literal["continue", "stop"] = "continue"
    """What a failed launch does to the run."""
    give_up_after: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10
    """Failures of one combination in a row, after which the rest of it is left out."""

    @model_validator(mode="after")
    def _consistent(self) -> ScheduleModel:
        if self.warmups_at_most is not None and self.warmups_at_most < self.warmups:
            raise ValueError(f"`warmups_at_most` is less than `warmups`, which is {self.warmups}")
        return self


class GateModel(LanguageModel):
    """What a candidate may be in one metric; sizes and durations as everywhere, by the metric's unit."""

    relative: Share | None = None
    """Largest increase over the baseline's median."""
    absolute: Annotated[Scalar | None, Field(union_mode="left_to_right")] = None
    """An increase below this never counts."""
    maximum: Annotated[Scalar | None, Field(union_mode="left_to_right")] = None
    """The median may not exceed this, whatever the baseline."""
    tail: Share | None = None
    """As `relative`, for what the tail increases further than the rest; by default the same."""

    @model_validator(mode="after")
    def _some_limit(self) -> GateModel:
        if self.relative is None and self.maximum is None:
            raise ValueError("a limit needs `relative` or `maximum`")
        return self


class TargetDefaults(LanguageModel):
    """What every target may say."""

    repetitions: Repetitions | None = None
    warmups: Warmups | None = None


class DefaultsModel(LanguageModel):
    """Values for whatever a workload or a target does not say itself."""

    workload: dict[str, Any] = Field(default_factory=dict)
    """Keys of a workload."""
    target: TargetDefaults = TargetDefaults()


class ParametersModel(LanguageModel):
    """What must be known before the rest of a file can be read."""

    parameters: Annotated[
        dict[Label, Annotated[list[Scalar], Field(min_length=1, max_length=100), AfterValidator(_distinct)]],
        Field(max_length=20),
    ] = Field(default_factory=dict)
    """Name → values; `${name}` stands for each of them in turn, in workloads and targets."""
    measure: Measurements = Field(default_factory=dict)
    """What to measure: a list of names, or name → options; `pybench list metrics` explains each."""


class ScenarioModel(ParametersModel):
    """The whole file. The options of targets and measurements are validated by their own settings models."""

    name: Label
    """Names the runs of this scenario."""
    question: Annotated[str, Field(max_length=1000)] = ""
    """The question that it answers, in a sentence."""
    description: Annotated[str, Field(max_length=10_000)] = ""
    """Shown in the report."""
    include: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    """Files, relative to this one, whose content this file completes and overrides."""
    defaults: DefaultsModel = DefaultsModel()
    workloads: Annotated[dict[Label, WorkloadModel], Field(min_length=1, max_length=1000)]
    targets: Annotated[dict[Label, dict[str, Any]], Field(min_length=1, max_length=1000)]
    measure: Annotated[Measurements, Field(min_length=1)]
    """What to measure: a list of names, or name → options; `pybench list metrics` explains each."""
    schedule: ScheduleModel = ScheduleModel()
    gate: Annotated[dict[str, GateModel], Field(max_length=1000)] = Field(default_factory=dict)
    """Metric → limits of the check for regressions."""
    claims: Annotated[list[str], Field(max_length=1000), AfterValidator(_distinct)] = Field(
        default_factory=list
    )
    """Common claims that are judged by what was measured; `pybench list` tells them."""
