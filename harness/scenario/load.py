"""From a file to a `Scenario`; every problem is told with its place and the nearest valid name."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pybench.harness.claims import CLAIMS
from pybench.harness.errors import InputError
from pybench.harness.fields import MOST_REPETITIONS
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.model import (
    Combination,
    MeasurementChoice,
    ParameterValue,
    Readiness,
    Resources,
    Scenario,
    TargetChoice,
    Workload,
    WorkloadFile,
    parameter_label,
)
from pybench.harness.plan import most_warmups
from pybench.harness.scenario.document import Document, KeyPath
from pybench.harness.scenario.language import ParametersModel, ScenarioModel, WorkloadModel
from pybench.harness.scenario.measurements import measurement_choices
from pybench.harness.scenario.merge import read_documents, with_defaults
from pybench.harness.scenario.parameters import assignments, check_parameters, substituted
from pybench.harness.scenario.schedule import checked_schedule, gate_limits
from pybench.harness.scenario.validate import nearest, validate
from pybench.harness.targets import FEATURES, KINDS, NETWORKED, TargetKind, TargetSettings

MOST_LAUNCHES: Final = 1_000_000
LARGEST_WORKLOAD_FILE: Final = 16 * 2**20
QUICK_REPETITIONS: Final = 5
QUICK_PROCEDURES: Final = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user may change without touching the file."""

    targets: Sequence[str] | None = None
    """Labels of the targets to keep, in the file's order; all by default."""
    repetitions: int | None = None
    """Replaces the repetitions of every target and procedure."""
    seed: int | None = None
    """Replaces the schedule's seed."""
    settings: Sequence[str] = ()
    """`key=value` texts: a dotted key of the file, and a value as YAML."""
    quick: bool = False
    """To try a scenario out: at most five repetitions, one of a procedure, one warm-up, and no waiting."""


def load_scenario(path: Path, choices: Choices = Choices()) -> Scenario:
    """Read and validate a scenario file.

    Args:
        path: the YAML file.
        choices: what the user wants otherwise than the file.

    Raises:
        InputError: the file cannot be read, is not YAML, or says something that makes no sense; the message
            has `file:line:column: key: problem`.
    """
    document, definition = read_documents(path, choices.settings)
    parameters, measurements = _parameters(document)
    if isinstance(document.data, dict):
        document = with_defaults(document)
    combinations: list[Combination] = []
    for values in assignments(parameters):
        try:
            model, found = _combinations(document, values, path.parent)
        except InputError as error:
            with_values = f"{error.message} (with {parameter_label(values)})" if values else error.message
            raise InputError(with_values, error.hint) from error
        combinations += found
    names = [choice.name for choice in measurements]
    schedule = checked_schedule(document, model, names, combinations)
    scenario = Scenario(
        name=model.name,
        description=model.description.strip(),
        source=str(path),
        combinations=_chosen(tuple(combinations), choices.targets, choices.repetitions),
        measurements=_repeated(measurements, choices.repetitions),
        schedule=schedule if choices.seed is None else replace(schedule, seed=choices.seed),
        question=model.question.strip(),
        gate=gate_limits(document, model),
        claims=_claims(document, model),
        definition=definition,
    )
    if choices.quick:
        scenario = _quickened(scenario)
    _check_launches(document, scenario)
    return scenario


def _parameters(
    document: Document,
) -> tuple[dict[str, list[ParameterValue]], tuple[MeasurementChoice, ...]]:
    """The parameters, each used and each reference known, and the measurements."""
    data = document.data if isinstance(document.data, dict) else {}
    sections = {key: data[key] for key in ParametersModel.model_fields if key in data}
    model = validate(document, ParametersModel, sections)
    measurements = measurement_choices(document, model)
    taken = [MEASUREMENTS[choice.name].parameters for choice in measurements]
    if data:
        check_parameters(document, model.parameters, frozenset().union(*taken))
    return dict(model.parameters), measurements


def _combinations(
    document: Document, values: Mapping[str, ParameterValue], folder: Path
) -> tuple[ScenarioModel, tuple[Combination, ...]]:
    """The file with one value for each parameter."""
    data = document.data
    if values:
        data = {**data, **{key: substituted(data.get(key), values) for key in ("workloads", "targets")}}
    model = validate(document, ScenarioModel, data)
    chosen = {label: _target(document, label, entry) for label, entry in model.targets.items()}
    combinations: list[Combination] = []
    for name, entry in model.workloads.items():
        workload = _workload(document, name, entry, folder)
        path: KeyPath = ("workloads", name)
        taken = _listed(document, (*path, "measure"), entry.measure, model.measure, "measured")
        labels = _listed(document, (*path, "targets"), entry.targets, model.targets, "among the targets")
        for label in labels or chosen:
            choice, settings = chosen[label]
            _check_features(document, workload, choice, settings)
            combinations.append(Combination(workload, choice, values, taken))
    return model, tuple(combinations)


def _listed(
    document: Document, path: KeyPath, names: list[str] | None, known: Mapping[str, object], what: str
) -> tuple[str, ...] | None:
    """Names of a workload that the scenario has; None where it names none."""
    for index, name in enumerate(names or ()):
        if name not in known:
            problem = f"{name!r} is not {what} in this scenario{nearest(name, known)}"
            raise document.error((*path, index), problem, hint=f"it has {', '.join(known)}")
    return None if names is None else tuple(names)


def _claims(document: Document, model: ScenarioModel) -> tuple[str, ...]:
    """The claims that are to be judged, each known."""
    for index, name in enumerate(model.claims):
        if name not in CLAIMS:
            problem = f"unknown claim {name!r}{nearest(name, CLAIMS)}"
            raise document.error(("claims", index), problem, hint=f"known are {', '.join(CLAIMS)}")
    return tuple(model.claims)


def _workload(document: Document, name: str, entry: WorkloadModel, folder: Path) -> Workload:
    readiness = entry.readiness
    files = []
    for place, file in entry.files.items():
        content = (file.text or "").encode()
        if file.source is not None:
            content = _file_content(
                document, ("workloads", name, "files", place, "source"), folder / file.source
            )
        files.append(WorkloadFile(place, content, file.mode))
    return Workload(
        name=name,
        image=entry.image,
        command=tuple(entry.command),
        environment=dict(entry.environment),
        readiness=Readiness(
            readiness.level, readiness.text, readiness.port or 0, readiness.path, readiness.status
        ),
        resources=Resources(entry.resources.memory, entry.resources.cpus, entry.resources.pids),
        files=tuple(files),
        user=entry.user or "",
        ports=tuple(entry.ports),
        disk=entry.disk,
    )


def _file_content(document: Document, path: KeyPath, file: Path) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise document.error(path, f"{file} is not a regular file")
        with file.open("rb") as opened:
            content = opened.read(LARGEST_WORKLOAD_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise document.error(path, f"cannot read {file}: {reason}") from error
    if len(content) > LARGEST_WORKLOAD_FILE:
        raise document.error(path, f"{file} is larger than 16 MiB", hint="build it into the image")
    return content


def _target(document: Document, label: str, entry: dict[str, Any]) -> tuple[TargetChoice, TargetSettings]:
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
    settings = validate(document, kind.settings, entry, path)
    choice = TargetChoice(label, kind_name, settings.repetitions, _options(kind, settings), settings.warmups)
    return choice, settings


def _options(kind: TargetKind, settings: TargetSettings) -> dict[str, str | int | float | bool]:
    return settings.model_dump(include=set(kind.option_names))


def _check_features(
    document: Document, workload: Workload, choice: TargetChoice, settings: TargetSettings
) -> None:
    """What a workload asks for is honoured or refused, and never ignored."""
    asked = {
        "files": ("files",) if workload.files else None,
        "user": ("user",) if workload.user else None,
        "ports": ("ports",) if workload.ports else None,
        "disk": ("disk",) if workload.disk else None,
        workload.readiness.level: ("readiness", "level"),
    }
    for feature, keys in asked.items():
        if keys is not None and feature in FEATURES and feature not in settings.features:
            raise document.error(
                ("workloads", workload.name, *keys),
                f"the target {choice.name!r} (kind {choice.kind}) cannot {FEATURES[feature]}",
                hint=_remedy(feature, choice),
            )


def _remedy(feature: str, choice: TargetChoice) -> str:
    if feature in NETWORKED and "network" in choice.options:
        hint = "it can with `network: bridge`"
        if feature == "tcp" and choice.options["network"] == "user":
            hint = f"QEMU accepts connections for its guest; {hint}, or with the level http"
        return hint
    if feature == "files" and choice.kind == "process":
        return "its file tree is the host's; the target chroot has one of its own"
    return "leave this target out with --targets, or this key"


def _chosen(
    combinations: tuple[Combination, ...], labels: Sequence[str] | None, repetitions: int | None
) -> tuple[Combination, ...]:
    known = list(dict.fromkeys(combination.target.name for combination in combinations))
    for label in labels or ():
        if label not in known:
            raise InputError(
                f"target {label!r} is not in the scenario{nearest(label, known)}",
                f"it has {', '.join(known)}",
            )
    if labels is not None:
        combinations = tuple(each for each in combinations if each.target.name in labels)
        if not combinations:
            raise InputError("no target is chosen", f"the scenario has {', '.join(known)}")
    if repetitions is None:
        return combinations
    if not 1 <= repetitions <= MOST_REPETITIONS:
        raise InputError(f"{repetitions} repetitions make no sense", f"give 1 to {MOST_REPETITIONS:,}")
    return tuple(_with_target(each, repetitions=repetitions) for each in combinations)


def _repeated(
    measurements: tuple[MeasurementChoice, ...], repetitions: int | None
) -> tuple[MeasurementChoice, ...]:
    if repetitions is None:
        return measurements
    return tuple(replace(choice, repetitions=repetitions) for choice in measurements)


def _with_target(combination: Combination, **changes: Any) -> Combination:  # noqa: ANN401 - replace takes anything
    return replace(combination, target=replace(combination.target, **changes))


def _quickened(scenario: Scenario) -> Scenario:
    combinations = tuple(
        _with_target(
            each,
            repetitions=min(each.target.repetitions, QUICK_REPETITIONS),
            warmups=min(scenario.schedule.warmups if (own := each.target.warmups) is None else own, 1),
        )
        for each in scenario.combinations
    )
    measurements = tuple(
        replace(choice, repetitions=min(choice.repetitions or QUICK_PROCEDURES, QUICK_PROCEDURES), warmups=0)
        for choice in scenario.measurements
    )
    hurried = replace(
        scenario.schedule,
        warmups_at_most=None,
        stop=replace(scenario.schedule.stop, precision=None),
        settle=replace(scenario.schedule.settle, timeout=0.0, pause=0.0),
    )
    return replace(scenario, combinations=combinations, measurements=measurements, schedule=hurried)


def _check_launches(document: Document, scenario: Scenario) -> None:
    launches = sum(task.repetitions + most_warmups(scenario.schedule, task) for task in scenario.tasks)
    if launches > MOST_LAUNCHES:
        raise document.error(("targets",), f"{launches:,} launches in all; {MOST_LAUNCHES:,} is the limit")
