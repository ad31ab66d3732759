"""From a file to a `Scenario`; every problem is told with its place and the nearest valid name."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pybench.harness.errors import InputError
from pybench.harness.fields import MOST_REPETITIONS, PATTERN_PROBLEMS
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.model import Readiness, Resources, Scenario, Schedule, TargetChoice, Workload
from pybench.harness.scenario.document import Document, KeyPath, Position, parse_document, read_text
from pybench.harness.scenario.language import ScenarioModel, WorkloadModel
from pybench.harness.targets import KINDS, TargetKind, TargetSettings

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

MOST_LAUNCHES: Final = 1_000_000
_LONGEST_QUOTE: Final = 60
_PROBLEMS: Final = {
    "missing": "this key is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
}
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def load_scenario(
    path: Path,
    *,
    targets: Sequence[str] | None = None,
    repetitions: int | None = None,
    seed: int | None = None,
) -> Scenario:
    """Read and validate a scenario file.

    Args:
        path: the YAML file.
        targets: labels of the targets to keep, in the file's order; all by default.
        repetitions: replaces the repetitions of every target.
        seed: replaces the schedule's seed.

    Raises:
        InputError: the file cannot be read, is not YAML, or says something that makes no sense; the message
            has `file:line:column: key: problem`.
    """
    document = parse_document(str(path), read_text(path))
    model = _validate(document, ScenarioModel, document.data, ())
    for index, name in enumerate(model.measure):
        if name not in MEASUREMENTS:
            problem = f"unknown measurement {name!r}{nearest(name, MEASUREMENTS)}"
            raise document.error(("measure", index), problem, hint=f"known are {', '.join(MEASUREMENTS)}")
    scenario = Scenario(
        name=model.name,
        description=model.description.strip(),
        source=str(path),
        workloads=tuple(_workload(name, entry) for name, entry in model.workloads.items()),
        targets=_chosen(_targets(document, model), targets, repetitions),
        measurements=tuple(model.measure),
        schedule=Schedule(
            warmups=model.schedule.warmups,
            seed=model.schedule.seed if seed is None else seed,
            ready_timeout=model.schedule.ready_timeout,
            stop_timeout=model.schedule.stop_timeout,
        ),
    )
    launches = len(scenario.workloads) * sum(
        choice.repetitions + (scenario.schedule.warmups if choice.warmups is None else choice.warmups)
        for choice in scenario.targets
    )
    if launches > MOST_LAUNCHES:
        raise document.error(("targets",), f"{launches:,} launches in all; {MOST_LAUNCHES:,} is the limit")
    return scenario


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something valid is near, else nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _workload(name: str, entry: WorkloadModel) -> Workload:
    return Workload(
        name=name,
        image=entry.image,
        command=tuple(entry.command),
        environment=dict(entry.environment),
        readiness=Readiness(entry.readiness.level, entry.readiness.text),
        resources=Resources(entry.resources.memory, entry.resources.cpus, entry.resources.pids),
    )


def _targets(document: Document, model: ScenarioModel) -> tuple[TargetChoice, ...]:
    choices = []
    for label, entry in model.targets.items():
        path: KeyPath = ("targets", label)
        kind_name = entry.get("kind", label)
        kind = KINDS.get(kind_name) if isinstance(kind_name, str) else None
        if kind is None:
            at_label = "kind" not in entry
            raise document.error(
                path if at_label else (*path, "kind"),
                f"unknown target {kind_name!r}{nearest(str(kind_name), KINDS)}",
                at_key=at_label,
                hint=f"known are {', '.join(sorted(KINDS))}; a target with a name of its own says `kind:`",
            )
        settings = _validate(document, kind.settings, entry, path)
        choices.append(
            TargetChoice(label, kind_name, settings.repetitions, _options(kind, settings), settings.warmups)
        )
    return tuple(choices)


def _options(kind: TargetKind, settings: TargetSettings) -> dict[str, str | int | float | bool]:
    return settings.model_dump(include=set(kind.option_names))


def _chosen(
    choices: tuple[TargetChoice, ...], labels: Sequence[str] | None, repetitions: int | None
) -> tuple[TargetChoice, ...]:
    known = [choice.name for choice in choices]
    for label in labels or ():
        if label not in known:
            raise InputError(
                f"target {label!r} is not in the scenario{nearest(label, known)}",
                f"it has {', '.join(known)}",
            )
    if labels is not None:
        choices = tuple(choice for choice in choices if choice.name in labels)
        if not choices:
            raise InputError("no target is chosen", f"the scenario has {', '.join(known)}")
    if repetitions is None:
        return choices
    if not 1 <= repetitions <= MOST_REPETITIONS:
        raise InputError(f"{repetitions} repetitions make no sense", f"give 1 to {MOST_REPETITIONS:,}")
    return tuple(replace(choice, repetitions=repetitions) for choice in choices)


def _validate(document: Document, model: type[AnyModel], data: object, path: KeyPath) -> AnyModel:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(document, model, details, path) for details in error.errors(include_url=False)]
    # A key that is missing is often one that was misspelt, so what is there comes before what is not.
    (*_, first), *others = sorted(problems, key=lambda entry: entry[:2])
    if others:
        rest = f"{len(others)} more: " + " | ".join(other.message for *_, other in others[:3])
        raise InputError(first.message, f"{first.hint}; {rest}" if first.hint else rest)
    raise first


def _problem(
    document: Document, model: type[BaseModel], details: ErrorDetails, path: KeyPath
) -> tuple[bool, Position, InputError]:
    """Whether a key is missing, the place, and the error."""
    kind, location = details["type"], tuple(details["loc"])
    at_key = kind in {"extra_forbidden", "missing"} or location[-1:] == ("[key]",)
    if location[-1:] == ("[key]",):
        location = location[:-1]
    hint = ""
    value = details["input"]
    if kind == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        problem = f"unknown key{nearest(str(location[-1]), known)}"
        hint = f"known are {', '.join(known)}"
    else:
        pattern = details.get("ctx", {}).get("pattern", "")
        problem = _PROBLEMS.get(kind) or PATTERN_PROBLEMS.get(pattern) or details["msg"]
        problem = problem.removeprefix("Value error, ").replace("Input should be", "must be")
        if kind != "missing" and isinstance(value, str | int | float | None) and repr(value) not in problem:
            problem = f"{problem}, not {_quoted(value)}"
    if kind == "string_type" and not isinstance(value, dict | list):
        hint = "put it in quotes"
    elif kind == "literal_error" and isinstance(value, str):
        known = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        problem += nearest(value, known)
    full = (*path, *location)
    error = document.error(full, problem, at_key=at_key, hint=hint)
    return kind == "missing", document.place(full, at_key=at_key), error


def _quoted(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that are valid at a place: follow the models' annotations down the location."""
    annotation: Any = model
    for part in location:
        annotation = _bare(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]
    annotation = _bare(annotation)
    return list(annotation.model_fields)


def _bare(annotation: Any) -> Any:  # noqa: ANN401 - annotations are of any type
    """Without `Annotated[…]` and `| None`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in {types.UnionType, typing.Union}:
            annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
        else:
            return annotation
