"""Metrics over what a measurement went through by itself: instances, concurrency, neighbours; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pybench.harness.model import ParameterValue, Sample, parameter_label
from pybench.harness.stats import counts, median_interval
from pybench.reports.families import Family, family_of
from pybench.reports.numbers import DASH, TIMES, Quantity, one_line, quantity, single, tied
from pybench.reports.vocabulary import (
    CONTAINER,
    VM,
    MetricText,
    Said,
    metric_order,
    metric_text,
    noun,
    said,
    shown_unit,
    target_order,
)

PAIR = 2


@dataclass(frozen=True, slots=True)
class Point:
    """One value of the parameter: the median of what was measured there."""

    at: ParameterValue
    n: int
    failed: int
    quantity: Quantity | None
    """None where nothing counts."""
    median: float
    low: float
    high: float
    """Of the 95 % interval, as of `low`; minimum and maximum where samples are too few for one."""

    @property
    def text(self) -> str:
        """The median with its unit, or a dash."""
        return self.quantity.text if self.quantity else DASH

    @property
    def interval(self) -> str:
        """With its unit, or a dash where one sample has none."""
        return self.quantity.interval if self.quantity and self.n > 1 else DASH


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One target over the parameter's values."""

    target: str
    said: Said
    points: tuple[Point, ...]

    @property
    def measured(self) -> tuple[Point, ...]:
        """Where something counts."""
        return tuple(point for point in self.points if point.quantity)

    def at(self, value: ParameterValue) -> Point | None:
        """What was measured at one value."""
        return next((point for point in self.measured if point.at == value), None)


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one workload over a parameter, on all targets."""

    workload: str
    metric: str
    unit: str
    text: MetricText
    family: Family
    values: tuple[ParameterValue, ...]
    """Of the parameter, in ascending order, or as they were measured where they are names."""
    lines: tuple[CurveLine, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether the parameter counts something, so that there is a line to draw."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


def curve_parameter(sample: Sample) -> str:
    """The parameter that a sample's measurement went through, or nothing."""
    if not sample.parameters:
        return ""
    name = family_of(sample.metric).parameter
    return name if name in sample.parameters else ""


def without_parameter(sample: Sample, name: str) -> Sample:
    """The sample as one of its step, whatever point of the curve it belongs to."""
    kept = {key: value for key, value in sample.parameters.items() if key != name}
    workload = f"{sample.workload} ({parameter_label(kept)})" if kept else sample.workload
    return replace(sample, workload=workload, parameters={})


def curves(samples: Iterable[Sample]) -> tuple[Curve, ...]:
    """Of the samples that have such a parameter, a curve for each workload and metric."""
    grouped: defaultdict[tuple[str, str], list[tuple[Sample, ParameterValue]]] = defaultdict(list)
    for sample in samples:
        if not sample.warmup and (name := curve_parameter(sample)):
            workload = without_parameter(sample, name).workload
            grouped[workload, sample.metric].append((sample, sample.parameters[name]))
    return tuple(
        _curve(*key, grouped[key]) for key in sorted(grouped, key=lambda key: (key[0], metric_order(key[1])))
    )


def curve_finding(curve: Curve) -> str:
    """Container against VM, or lowest against highest, at the last value that both have."""
    title = curve.text.title
    lines = [line for line in curve.lines if line.measured]
    pair = [line for name in (CONTAINER, VM) for line in lines if line.target == name]
    chosen = pair if len(pair) == PAIR else lines
    common = [value for value in curve.values if all(line.at(value) for line in chosen)]
    if not chosen or not common:
        return f"{title}: no two targets were measured alike."
    at = common[-1] if curve.is_numeric else max(common, key=lambda value: _highest(chosen, value))
    parts = [
        f"{noun(line.target, line.said.caveats)} {point.text}"
        for line in chosen
        if (point := line.at(at)) is not None
    ]
    value, name = one_line(str(at), 40), curve.family.parameter
    where = f"{value} {name}" if name.endswith("s") else f"{name} {value}"
    return tied(f"{title}, {where}: {', '.join(parts)}.")


def slowdown(curve: Curve, line: CurveLine, point: Point) -> str:
    """How many times the first value's median, where the parameter names things and the first is its rest.

    Nothing for what is such a multiple itself.
    """
    first = line.at(curve.values[0])
    if (
        curve.is_numeric
        or curve.unit == TIMES
        or first is None
        or point is first
        or first.median <= 0
        or not point.quantity
    ):
        return ""
    return single(point.median / first.median, TIMES, 2)


def _highest(lines: Sequence[CurveLine], value: ParameterValue) -> float:
    return max(point.median for line in lines if (point := line.at(value)) is not None)


def _curve(workload: str, metric: str, members: Sequence[tuple[Sample, ParameterValue]]) -> Curve:
    seen = tuple(dict.fromkeys(value for _, value in members))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in seen)
    values = tuple(sorted(seen, key=float)) if numeric else seen
    by_target: defaultdict[str, defaultdict[ParameterValue, list[Sample]]]
    by_target = defaultdict(lambda: defaultdict(list))
    for sample, value in members:
        by_target[sample.target][value].append(sample)
    lines = tuple(_line(target, by_target[target], values) for target in sorted(by_target, key=target_order))
    first = members[0][0]
    unit = shown_unit(metric, first.unit)
    return Curve(workload, metric, unit, metric_text(metric), family_of(metric), values, lines)


def _line(
    target: str, by_value: Mapping[ParameterValue, Sequence[Sample]], values: Sequence[ParameterValue]
) -> CurveLine:
    words = said(sample.qualifiers for samples in by_value.values() for sample in samples if counts(sample))
    return CurveLine(
        target, words, tuple(_point(value, by_value[value]) for value in values if value in by_value)
    )


def _point(at: ParameterValue, samples: Sequence[Sample]) -> Point:
    values = [sample.value for sample in samples if counts(sample) and sample.value is not None]
    failed = sum(sample.status == "failed" for sample in samples)
    if not values:
        return Point(at, 0, failed, None, math.nan, math.nan, math.nan)
    interval = median_interval(values)
    middle = median(values)
    unit = shown_unit(samples[0].metric, samples[0].unit)
    rounded = quantity(middle, interval.low, interval.high, unit)
    if len(values) == 1:
        rounded = quantity(middle, middle * 0.99, middle * 1.01, unit)
    return Point(
        at,
        len(values),
        failed,
        rounded,
        middle,
        interval.low,
        interval.high,
    )
