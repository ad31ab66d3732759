"""Samples by cell: gathered once, for all that is said of them.

A run may have a million samples. What goes through them one by one is kept to a few plain loops; everything
else works on the cells, of which there are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from operator import attrgetter

import numpy as np

from pybench.harness.model import Sample, parameter_label
from pybench.harness.stats.intervals import Values

CellKey = tuple[str, str, str, str, str]
"""Workload, target, metric, unit, and the label of the parameters."""


@dataclass(frozen=True)
class CellSamples:
    """All samples of one cell, in the order in which they were given."""

    key: CellKey
    samples: Sequence[Sample]
    """Warm-ups and failures too."""

    @property
    def workload(self) -> str:
        """Its name."""
        return self.key[0]

    @property
    def target(self) -> str:
        """Its name."""
        return self.key[1]

    @property
    def metric(self) -> str:
        """Its name."""
        return self.key[2]

    @property
    def unit(self) -> str:
        """Of the values."""
        return self.key[3]

    @property
    def counted(self) -> Sequence[Sample]:
        """Those that enter estimates, see `counts`."""
        return self._parted[0]

    @property
    def others(self) -> Sequence[Sample]:
        """Warm-ups, and what failed, was rejected or is no finite number."""
        return self._parted[1]

    @cached_property
    def values(self) -> Values:
        """The values that count, as an array of shape (n,)."""
        return np.fromiter(map(attrgetter("value"), self.counted), np.float64, len(self.counted))

    @cached_property
    def orders(self) -> np.typing.NDArray[np.int64]:
        """The positions in the plan of those that count, of shape (n,)."""
        return np.fromiter(map(attrgetter("order"), self.counted), np.int64, len(self.counted))

    @cached_property
    def qualifiers(self) -> Sequence[Mapping[str, str]]:
        """The different ones of those that count."""
        return different_qualifiers(self.counted)

    @cached_property
    def was_measured(self) -> bool:
        """Whether there is more than warm-ups."""
        return any(not sample.warmup for sample in self.samples)

    @cached_property
    def _parted(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        # What `counts` says, without a call for each of a million.
        counted = [
            sample
            for sample in self.samples
            if sample.status == "ok" and not sample.warmup and (value := sample.value) is not None
            if isfinite(value)
        ]
        if len(counted) == len(self.samples):
            return counted, ()
        return counted, [sample for sample in self.samples if not counts(sample)]


def counts(sample: Sample) -> bool:
    """Whether a sample enters estimates: no warm-up, neither failed nor rejected, and a finite number."""
    return sample.status == "ok" and not sample.warmup and sample.value is not None and isfinite(sample.value)


def cell_key(sample: Sample) -> CellKey:
    """The cell that a sample belongs to."""
    return sample.workload, sample.target, sample.metric, sample.unit, parameter_label(sample.parameters)


def cells(samples: Iterable[Sample]) -> dict[CellKey, list[Sample]]:
    """The samples of each cell, warm-ups and failures too; cells in the order of their first sample."""
    grouped: dict[CellKey, list[Sample]] = {}
    # Samples share their parameters by the thousand, and keep them alive here.
    labels: dict[int, str] = {}
    for sample in samples:
        parameters = sample.parameters
        label = labels.get(id(parameters))
        if label is None:
            label = labels[id(parameters)] = parameter_label(parameters)
        key = (sample.workload, sample.target, sample.metric, sample.unit, label)
        if key in grouped:
            grouped[key].append(sample)
        else:
            grouped[key] = [sample]
    return grouped


def gathered(samples: Iterable[Sample]) -> list[CellSamples]:
    """The cells of some samples, in the order of their first sample."""
    return [CellSamples(*cell) for cell in cells(samples).items()]


def measured(samples: Iterable[Sample]) -> Values:
    """The values that count, as an array of shape (n,)."""
    # What `counts` says, without a call for each of a million.
    values = [
        value
        for sample in samples
        if sample.status == "ok" and not sample.warmup and (value := sample.value) is not None
        if isfinite(value)
    ]
    return np.array(values, dtype=np.float64)


def different_qualifiers(samples: Sequence[Sample]) -> list[Mapping[str, str]]:
    """The different mappings, told apart by identity: samples share them by the thousand."""
    return list({id(found): found for found in map(attrgetter("qualifiers"), samples)}.values())
