"""Fewer samples where a page could not hold them all, with both tails of every cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pybench.harness.model import Sample
from pybench.harness.stats import counts

MOST: Final = 20_000
"""Samples that a page holds one by one."""
TAIL_SHARE: Final = 0.25
"""Of a cell's places, so many go to its smallest values, and as many to its largest."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """The samples that a page holds, in their order, and out of how many."""

    samples: Sequence[Sample]
    total: int

    @property
    def is_whole(self) -> bool:
        """Whether none is left out."""
        return len(self.samples) == self.total


def thinned(samples: Sequence[Sample], most: int = MOST) -> Thinned:
    """All samples, or of too many a choice; every cell keeps its share of the places.

    Of those that count in a cell, both ends stay whole and between them every k-th in order of size, so that
    quantiles and tails read the same. What does not count (warm-ups, failures, rejections) is a group of
    its own in each cell, of which evenly spaced ones stay.
    """
    if len(samples) <= most:
        return Thinned(samples, len(samples))
    groups: defaultdict[tuple[str, str, str, bool], list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        groups[sample.workload, sample.target, sample.metric, counts(sample)].append(position)
    share = most / len(samples)
    kept = [
        _chosen(samples, positions, max(1, round(share * len(positions))), is_counted=key[3])
        for key, positions in groups.items()
    ]
    return Thinned([samples[position] for position in np.sort(np.concatenate(kept))], len(samples))


def order_statistics(ordered_count: int, places: int, tail: int) -> npt.NDArray[np.int64]:
    """Which of so many ordered values to keep: `tail` at either end whole, and evenly spaced ones between.

    What lies between is cut into equal parts, of which each is spoken for by its middle, so that a single one
    stands at the median and not beside a tail.
    """
    if ordered_count <= places:
        return np.arange(ordered_count)
    parts = max(0, places - 2 * tail)
    middle = tail + (np.arange(parts) + 0.5) * (ordered_count - 2 * tail) / max(1, parts)
    ends = np.arange(tail), np.arange(ordered_count - tail, ordered_count)
    return np.concatenate([ends[0], middle.astype(np.int64), ends[1]])


def _chosen(
    samples: Sequence[Sample], positions: Sequence[int], places: int, *, is_counted: bool
) -> npt.NDArray[np.int64]:
    all_of_them = np.asarray(positions, dtype=np.int64)
    if not is_counted:
        return all_of_them[order_statistics(len(all_of_them), places, 0)]
    values = np.array([samples[position].value for position in positions], dtype=np.float64)
    ordered = all_of_them[np.argsort(values, kind="stable")]
    return ordered[order_statistics(len(ordered), places, max(1, int(places * TAIL_SHARE)))]
