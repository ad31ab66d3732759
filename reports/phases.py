"""Where the time of a start goes: instants of the marks, as medians over launches.

The medians of the phases do not add up to the median of the total. The medians of the *instants* at
which the phases end do: they are in order, since they are in order in every launch, and the last is
the end of the start. A phase is drawn from one median instant to the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pybench.harness.model import Estimate, Sample
from pybench.harness.stats import CellSamples
from pybench.reports.numbers import Quantity, estimated
from pybench.reports.vocabulary import PHASE_PREFIX, Said, phase_name, said, target_order


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """One phase: `start` and `end` are median instants in seconds since the request."""

    name: str
    start: float
    end: float
    share: float
    """Of the whole start, from 0 to 1."""
    quantity: Quantity
    """The median of the phase's own duration with its interval."""
    estimate: Estimate

    @property
    def width(self) -> float:
        """Seconds between the two median instants."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class PhaseBar:
    """The start of one workload on one target, phase after phase."""

    workload: str
    target: str
    said: Said
    n: int
    """Launches in which every phase was seen."""
    partial: int
    """Launches left out because a phase is missing."""
    spans: tuple[PhaseSpan, ...]

    @property
    def total(self) -> float:
        """Median of the whole start in seconds."""
        return self.spans[-1].end

    @property
    def longest(self) -> PhaseSpan:
        """The phase that takes most of the start."""
        return max(self.spans, key=lambda span: span.width)


def phase_bars(
    samples: Iterable[Sample],
    found: Sequence[CellSamples],
    by_cell: Mapping[tuple[str, str, str], Estimate],
) -> tuple[PhaseBar, ...]:
    """A bar for each (workload, target) with phases; warm-ups and failed launches are left out.

    Args:
        samples: all samples of a run, in the order in which they were stored.
        found: their cells, each (workload, target, metric) once.
        by_cell: their estimates by (workload, target, metric).
    """
    phases: defaultdict[tuple[str, str], list[CellSamples]] = defaultdict(list)
    for cell in found:
        if cell.metric.startswith(PHASE_PREFIX) and len(cell.values):
            phases[cell.workload, cell.target].append(cell)
    return tuple(
        _bar(*key, samples, {cell.metric: cell for cell in phases[key]}, by_cell)
        for key in sorted(phases, key=lambda key: (key[0], target_order(key[1])))
    )


def _bar(
    workload: str,
    target: str,
    samples: Iterable[Sample],
    phases: Mapping[str, CellSamples],
    by_cell: Mapping[tuple[str, str, str], Estimate],
) -> PhaseBar:
    launches = np.unique(np.concatenate([cell.orders for cell in phases.values()]))
    lasted = np.full((len(launches), len(phases)), np.nan)
    for column, cell in enumerate(phases.values()):
        lasted[np.searchsorted(launches, cell.orders), column] = cell.values
    seen = ~np.isnan(lasted)
    fullest = int(np.argmax(seen.sum(axis=1)))
    wanted = {metric for metric, is_seen in zip(phases, seen[fullest], strict=True) if is_seen}
    metrics = _in_order(samples, workload, target, int(launches[fullest]), wanted)
    complete = (seen == seen[fullest]).all(axis=1)
    columns = [list(phases).index(metric) for metric in metrics]
    ends = np.median(np.cumsum(lasted[complete][:, columns], axis=1), axis=0).tolist()
    total = ends[-1] or 1.0
    spans = tuple(
        PhaseSpan(
            name=phase_name(metric),
            start=start,
            end=end,
            share=(end - start) / total,
            quantity=estimated(estimate),
            estimate=estimate,
        )
        for metric, start, end in zip(metrics, [0.0, *ends], ends, strict=False)
        for estimate in (by_cell[workload, target, metric],)
    )
    n = int(complete.sum())
    words = _said(phases.values(), launches[complete], is_whole=n == len(launches))
    return PhaseBar(workload, target, words, n, len(launches) - n, spans)


def _in_order(
    samples: Iterable[Sample], workload: str, target: str, order: int, wanted: Collection[str]
) -> list[str]:
    """The phases of one launch as they followed each other, up to the last one that is wanted."""
    found: list[str] = []
    for sample in samples:
        is_its = sample.order == order and sample.target == target and sample.workload == workload
        if is_its and sample.metric in wanted and sample.metric not in found:
            found.append(sample.metric)
            if len(found) == len(wanted):
                break
    return found


def _said(phases: Iterable[CellSamples], complete: npt.NDArray[np.int64], *, is_whole: bool) -> Said:
    """What the samples of the complete launches say."""
    if is_whole:
        return said(qualifiers for cell in phases for qualifiers in cell.qualifiers)
    orders = set(complete.tolist())
    return said(sample.qualifiers for cell in phases for sample in cell.counted if sample.order in orders)
