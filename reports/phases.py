"""Where the time of a start goes: instants of the marks, as medians over launches.

The medians of the phases do not add up to the median of the total. The medians of the *instants* at
which the phases end do: they are in order, since they are in order in every launch, and the last is
the end of the start. A phase is drawn from one median instant to the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from pybench.harness.model import Estimate, Sample
from pybench.harness.stats import counts
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
    samples: Sequence[Sample], by_cell: Mapping[tuple[str, str, str], Estimate]
) -> tuple[PhaseBar, ...]:
    """A bar for each (workload, target) with phases; warm-ups and failed launches are left out.

    Args:
        samples: all samples of a run.
        by_cell: their estimates by (workload, target, metric).
    """
    launches: defaultdict[tuple[str, str], defaultdict[int, dict[str, Sample]]]
    launches = defaultdict(lambda: defaultdict(dict))
    for sample in samples:
        is_phase = sample.metric.startswith(PHASE_PREFIX)
        if is_phase and counts(sample):
            launches[sample.workload, sample.target][sample.order][phase_name(sample.metric)] = sample
    by_phase: defaultdict[tuple[str, str], dict[str, Estimate]] = defaultdict(dict)
    for (workload, target, metric), each in by_cell.items():
        if metric.startswith(PHASE_PREFIX):
            by_phase[workload, target][phase_name(metric)] = each
    return tuple(
        _bar(*key, launches=list(launches[key].values()), by_phase=by_phase[key])
        for key in sorted(launches, key=lambda key: (key[0], target_order(key[1])))
    )


def _bar(
    workload: str, target: str, launches: Sequence[dict[str, Sample]], by_phase: dict[str, Estimate]
) -> PhaseBar:
    names = max((tuple(launch) for launch in launches), key=len)
    complete = [launch for launch in launches if launch.keys() == set(names)]
    of_launches = [list(accumulate(launch[name].value or 0.0 for name in names)) for launch in complete]
    ends = [median(instants) for instants in zip(*of_launches, strict=True)]
    total = ends[-1] or 1.0
    spans = tuple(
        PhaseSpan(
            name=name,
            start=start,
            end=end,
            share=(end - start) / total,
            quantity=estimated(estimate),
            estimate=estimate,
        )
        for name, start, end in zip(names, [0.0, *ends], ends, strict=False)
        for estimate in (by_phase[name],)
    )
    qualifiers = said(sample.qualifiers for launch in complete for sample in launch.values())
    return PhaseBar(workload, target, qualifiers, len(complete), len(launches) - len(complete), spans)
