"""The scenario language as pydantic models: keys, types, defaults and bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pybench.harness.fields import (
    Argument,
    Cpus,
    ImageName,
    Label,
    MemorySize,
    Pids,
    Timeout,
    VariableName,
    Warmups,
)

RESERVED_PREFIX = "PYBENCH_"
"""Environment variables of this prefix carry the harness's own channels into the workload."""


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


def _distinct(names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{name!r} is listed twice")
    return names


class LanguageModel(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadinessModel(LanguageModel):
    """When a workload counts as ready."""

    level: Literal["exec", "line"] = "line"
    text: Annotated[str, Field(max_length=1000), AfterValidator(_one_line)] = ""

    @model_validator(mode="after")
    def _text_needs_lines(self) -> ReadinessModel:
        if self.level == "exec" and self.text:
            raise ValueError("`text` has no meaning with `level: exec`, which waits for no output")
        return self


class ResourcesModel(LanguageModel):
    """Limits on one instance."""

    memory: MemorySize | None = None
    cpus: Cpus | None = None
    pids: Pids | None = None


class WorkloadModel(LanguageModel):
    """What runs identically on every target."""

    image: ImageName
    command: Annotated[list[Argument], Field(min_length=1, max_length=1000), AfterValidator(_absolute)]
    environment: Annotated[
        dict[VariableName, Argument], Field(max_length=1000), AfterValidator(_not_reserved)
    ] = Field(default_factory=dict)
    readiness: ReadinessModel = ReadinessModel()
    resources: ResourcesModel = ResourcesModel()


class ScheduleModel(LanguageModel):
    """How often and in what order."""

    warmups: Warmups = 1
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 1
    ready_timeout: Timeout = 60.0
    stop_timeout: Timeout = 10.0


class ScenarioModel(LanguageModel):
    """The whole file. The options of a target are validated by the target's own settings model."""

    name: Label
    description: Annotated[str, Field(max_length=10_000)] = ""
    workloads: Annotated[dict[Label, WorkloadModel], Field(min_length=1, max_length=1000)]
    targets: Annotated[dict[Label, dict[str, Any]], Field(min_length=1, max_length=1000)]
    measure: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    schedule: ScheduleModel = ScheduleModel()
