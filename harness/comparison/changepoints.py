"""Where in a series of runs a level changed for good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from pybench.harness.comparison.ranks import NORMAL, Values, mann_whitney
from pybench.harness.comparison.segmentation import segment_ends

SHORTEST_SEGMENT: Final = 3
"""Runs: one run, or two, that stand out are no new level."""
FEWEST: Final = 10
"""Runs below which no change point can be supported at the level of 1 %."""
LEVEL: Final = 0.01
_PENALTY: Final = 2.5
"""Times log(n); with it, 5 % of short series without a change have one before the test that follows."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A new level begins at one run of a series."""

    position: int
    """Index of the first run of the new level."""
    length: int
    """Runs of the new level until the next change or the end."""
    before: float
    after: float
    """Medians of the levels."""
    p: float
    """Of the Mann–Whitney test between the two levels."""
    begin: int
    """Index of the first run of the level before."""


def change_points(series: Sequence[float]) -> list[ChangePoint]:
    """The change points of a series, the earliest first; none in one of fewer than 10 values.

    The best partition by the absolute deviation from each segment's median, which one wild value cannot buy
    a segment with, into segments of at least 3 values. The noise is estimated from successive differences,
    which changes of the level do not enter. A point stays only if a Mann–Whitney test tells its sides apart
    at 1 %.
    """
    values = np.asarray(series, dtype=np.float64)
    if len(values) < FEWEST:
        return []
    noise = noise_of(values)
    if noise <= 0:
        return []
    scaled = (values - np.median(values)) / noise
    ends = segment_ends(scaled, _PENALTY * math.log(len(values)), SHORTEST_SEGMENT)
    found = []
    for (begin, middle), (_, end) in pairwise(pairwise([0, *ends])):
        before, after = values[begin:middle], values[middle:end]
        p = mann_whitney(before, after)
        if p <= LEVEL:
            levels = float(np.median(before)), float(np.median(after))
            found.append(ChangePoint(middle, len(after), *levels, p, begin))
    return found


def noise_of(values: Values) -> float:
    """The standard deviation of one value, from the median absolute difference of neighbours."""
    steps = np.diff(values)
    spread = float(np.median(np.abs(steps - np.median(steps))))
    return spread / NORMAL.inv_cdf(0.75) / math.sqrt(2)
