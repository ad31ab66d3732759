"""The schedule and the gate's limits as the model has them, with contradictions refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pybench.harness.looks import MOST_LOOKS
from pybench.harness.measure import MEASUREMENTS, metric_of
from pybench.harness.model import Combination, GateLimit, Schedule, Settle, Stop
from pybench.harness.scenario.document import Document, KeyPath
from pybench.harness.scenario.language import GateModel, ScenarioModel, ScheduleModel
from pybench.harness.scenario.validate import nearest
from pybench.harness.units import parse_bytes, parse_duration


def checked_schedule(
    document: Document,
    model: ScenarioModel,
    measurements: Collection[str],
    combinations: Sequence[Combination],
) -> Schedule:
    """The schedule of a scenario.

    Raises:
        InputError: the precision is that of a metric that is not measured, or can never be looked at.
    """
    schedule = model.schedule
    if schedule.stop.precision is not None:
        _check_metric(document, ("schedule", "stop", "metric"), schedule.stop.metric, measurements)
        most = max(combination.target.repetitions for combination in combinations)
        if schedule.stop.at_least > most:
            problem = f"at_least is {schedule.stop.at_least}, but there are at most {most} repetitions"
            raise document.error(("schedule", "stop"), problem, hint="lower at_least, or raise repetitions")
        if most > MOST_LOOKS:
            problem = f"precision is looked at after each of at most {MOST_LOOKS:,} repetitions, not {most:,}"
            raise document.error(("schedule", "stop", "precision"), problem)
    return _schedule(schedule)


def gate_limits(document: Document, model: ScenarioModel) -> tuple[GateLimit, ...]:
    """The limits of the gate, in the units of their metrics.

    Raises:
        InputError: a limit is for a metric that is not measured, or is no value of its unit.
    """
    limits = []
    for name, entry in model.gate.items():
        unit = _check_metric(document, ("gate", name), name, model.measure)
        limits.append(gate_limit(document, ("gate", name), name, entry, unit))
    return tuple(limits)


def gate_limit(document: Document, path: KeyPath, metric: str, entry: GateModel, unit: str) -> GateLimit:
    """The limit that stands at `path`, in the metric's unit.

    Raises:
        InputError: it is no value of that unit.
    """
    values = {}
    for key, value in (("absolute", entry.absolute), ("maximum", entry.maximum)):
        try:
            values[key] = None if value is None else in_unit(value, unit)
        except ValueError as error:
            raise document.error((*path, key), str(error)) from error
    return GateLimit(metric, entry.relative, tail=entry.tail, **values)


def _check_metric(document: Document, path: KeyPath, name: str, measurements: Collection[str]) -> str:
    """The metric's unit."""
    if (metric := metric_of(name, measurements)) is None:
        known = [each.name for measurement in measurements for each in MEASUREMENTS[measurement].metrics]
        problem = f"the metric {name!r} is not measured{nearest(name, known)}"
        raise document.error(path, problem, at_key=path[0] == "gate", hint=f"measured are {', '.join(known)}")
    return metric.unit


def in_unit(value: object, unit: str) -> float:
    """A duration in seconds, a size in bytes, or a number.

    Raises:
        ValueError: it is no value of this unit, or negative.
    """
    if unit == "s":
        number = parse_duration(value)
    elif unit == "B":
        number = float(parse_bytes(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError(f"{value!r} is not a number")
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    return number


def _schedule(model: ScheduleModel) -> Schedule:
    return Schedule(
        warmups=model.warmups,
        seed=model.seed,
        ready_timeout=model.ready_timeout,
        stop_timeout=model.stop_timeout,
        warmups_at_most=model.warmups_at_most,
        stop=Stop(**model.stop.model_dump()),
        settle=Settle(**model.settle.model_dump()),
        caches=model.caches,
        cpus=tuple(model.cpus),
        priority=model.priority,
        cpu_latency=model.cpu_latency,
        on_failure=model.on_failure,
        give_up_after=model.give_up_after,
    )
