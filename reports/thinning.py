"""Fewer samples where a page could not hold them all, with both tails of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pybench.harness.model import Sample
from pybench.harness.stats import CellSamples, gathered

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


def thinned(
    samples: Sequence[Sample], most: int = MOST, cells: Sequence[CellSamples] | None = None
) -> Thinned:
    """All samples, or of too many a choice; every cell keeps its share of the places.

    Of those that count in a cell, both ends stay whole and between them every k-th in order of size, so that
    quantiles and tails read the same. What does not count (warm-ups, failures, rejections) is a group of
    its own in each cell, of which evenly spaced ones stay.

    Args:
        samples: all that there are.
        most: about so many are kept.
        cells: those of these very samples, where they have been gathered already.
    """
    if len(samples) <= most:
        return Thinned(samples, len(samples))
    share = most / len(samples)
    kept: set[int] = set()
    for cell in gathered(samples) if cells is None else cells:
        kept.update(map(id, _of_counted(cell, share)))
        kept.update(map(id, _of_others(cell, share)))
    return Thinned([sample for sample in samples if id(sample) in kept], len(samples))


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


def _of_counted(cell: CellSamples, share: float) -> Iterator[Sample]:
    places = _places(len(cell.counted), share)
    chosen = order_statistics(len(cell.counted), places, max(1, int(places * TAIL_SHARE)))
    return (cell.counted[each] for each in np.argsort(cell.values, kind="stable")[chosen].tolist())


def _of_others(cell: CellSamples, share: float) -> Iterator[Sample]:
    chosen = order_statistics(len(cell.others), _places(len(cell.others), share), 0)
    return (cell.others[each] for each in chosen.tolist())


def _places(number: int, share: float) -> int:
    return max(1, round(share * number))
