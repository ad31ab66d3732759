"""Sweeps: what a measurement has read at each value of a parameter of its own, target beside target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from pybench.harness.model import ParameterValue, Sample, parameter_label
from pybench.harness.stats import counts
from pybench.reports.numbers import DASH, one_line, single
from pybench.reports.vocabulary import SWEPT, MetricText, metric_order, metric_text, target_order

MOST_LINES: Final = 12
"""Of a longer sweep as many are shown, evenly spread, the last one included."""
Key = tuple[str, str, str]
"""Workload with its other parameters, metric, swept parameter."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One metric of one workload over the values of one parameter."""

    workload: str
    metric: str
    text: MetricText
    parameter: str
    """In words."""
    targets: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    """A value of the parameter, and for each target the median of what counts."""
    left_out: int
    """Values that are not shown."""


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Those that belong to no sweep, and those that do.

    A failed one has no place in a sweep and counts as a failure of its workload.
    """
    plain: list[Sample] = []
    swept: list[Sample] = []
    for sample in samples:
        if not SWEPT.keys() & sample.parameters.keys():
            plain.append(sample)
        elif sample.status == "failed":
            plain.append(replace(sample, parameters=_others(sample)))
        else:
            swept.append(sample)
    return plain, swept


def sweeps(swept: Sequence[Sample]) -> tuple[Sweep, ...]:
    """One for each workload, metric and parameter, in the metrics' order."""
    grouped: defaultdict[Key, list[Sample]] = defaultdict(list)
    for sample in swept:
        if not sample.warmup:
            parameter = next(name for name in SWEPT if name in sample.parameters)
            label = parameter_label(_others(sample))
            workload = f"{sample.workload} ({label})" if label else sample.workload
            grouped[workload, sample.metric, parameter].append(sample)
    return tuple(
        _sweep(key, grouped[key]) for key in sorted(grouped, key=lambda key: (key[0], metric_order(key[1])))
    )


def _sweep(key: Key, samples: Sequence[Sample]) -> Sweep:
    workload, metric, parameter = key
    targets = tuple(sorted({sample.target for sample in samples}, key=target_order))
    values = list(dict.fromkeys(sample.parameters[parameter] for sample in samples))
    if all(isinstance(value, int | float) for value in values):
        values.sort(key=float)
    shown = _thinned(values)
    lines = tuple(
        (
            one_line(str(value), 24),
            tuple(
                _cell(
                    [each for each in samples if (each.target, each.parameters[parameter]) == (target, value)]
                )
                for target in targets
            ),
        )
        for value in shown
    )
    return Sweep(
        workload, metric, metric_text(metric), SWEPT[parameter], targets, lines, len(values) - len(shown)
    )


def _cell(samples: Sequence[Sample]) -> str:
    found = [sample.value for sample in samples if counts(sample) and sample.value is not None]
    if not found:
        rejected = sum(sample.status == "rejected" for sample in samples)
        return f"{rejected} rejected" if rejected else DASH
    return single(median(found), samples[0].unit)


def _thinned(values: Sequence[ParameterValue]) -> list[ParameterValue]:
    step = -(-len(values) // MOST_LINES)
    return list(reversed(values[::-1][::step])) if step > 1 else list(values)


def _others(sample: Sample) -> dict[str, ParameterValue]:
    return {name: value for name, value in sample.parameters.items() if name not in SWEPT}
