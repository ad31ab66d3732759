"""Intervals of the median that may be looked at after every sample: valid at whatever moment one stops.

Stopping as soon as an interval is narrow favours moments at which it is narrow by chance, and an interval
made for a fixed number of samples then covers less than it promises. Repeated confidence intervals (Jennison
and Turnbull, "Repeated Confidence Intervals for Group Sequential Trials", Controlled Clinical Trials 5, 1984;
"Group Sequential Methods with Applications to Clinical Trials", 1999, chapter 9) keep the promise: the levels
of the single looks are chosen so that with 95 % probability *every* one of them covers the median, hence also
the last one, however it came to be the last.

For intervals between order statistics the level is exact for every continuous distribution: the number
of samples below the median is a symmetric random walk, and the interval of a look misses the median when the
walk is outside a band. The probability of ever leaving it is computed step by step. All looks get the same
level (Pocock, "Group sequential methods in the design and analysis of clinical trials", Biometrika 64, 1977).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from pybench.harness.stats.intervals import CONFIDENCE, Interval, Values, median_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BISECTIONS: Final = 16


@lru_cache(maxsize=64)
def look_confidence(first: int, last: int, confidence: float = CONFIDENCE) -> float:
    """The level of each single look that keeps `confidence` over all looks together.

    Args:
        first: the number of samples at the first look.
        last: the number of samples at the last one; there is a look after every sample in between.
        confidence: the probability with which all intervals cover the median.

    Raises:
        ValueError: the first look is not before the last.
    """
    if not 1 <= first <= last:
        raise ValueError(f"looks from {first} to {last} samples make no sense")
    allowed = 1 - confidence
    # One look may miss as often as all together; as many looks may miss that often in sum (Bonferroni).
    high, low = allowed, allowed / (last - first + 1)
    for _ in range(_BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if miss_probability(first, last, middle) > allowed else (middle, high)
    return 1 - low


def miss_probability(first: int, last: int, level: float) -> float:
    """How probably at least one look misses the median, if each may miss with probability `level`."""
    ranks = _ranks(first, last, level)
    alive = np.ones(1)
    lowest = 0  # samples below the median in the first entry of `alive`
    missed = 0.0
    for n in range(1, last + 1):
        alive = np.convolve(alive, (0.5, 0.5))
        if n < first:
            continue
        rank = int(ranks[n - first])
        below = max(0, rank - lowest)
        above = max(0, lowest + len(alive) - 1 - (n - rank))
        kept = alive[below : len(alive) - above]
        missed += float(alive.sum() - kept.sum())
        alive, lowest = kept, lowest + below
    return missed


def repeated_interval(numbers: Sequence[float] | Values, first: int, last: int) -> Interval:
    """The interval of the median at one of the looks, after however many samples there are.

    Its `confidence` is that of all looks together; where there are too few samples for the level of a look,
    it is what minimum and maximum cover.

    Raises:
        ValueError: there are no numbers.
    """
    level = look_confidence(first, last)
    interval = median_interval(numbers, level)
    confidence = CONFIDENCE if interval.confidence >= level else min(interval.confidence, CONFIDENCE)
    return interval._replace(confidence=confidence)


def _ranks(first: int, last: int, level: float) -> NDArray[np.int64]:
    """For each look the l of the interval from the l-th smallest to the l-th largest; 0: no interval."""
    from scipy.special import bdtrik  # noqa: PLC0415 - half of what a comparison takes to start

    n = np.arange(first, last + 1, dtype=np.float64)
    # bdtrik is the continuous inverse of the binomial distribution function in its first argument.
    inverse = np.nan_to_num(bdtrik(level / 2, n, 0.5), nan=-1.0)
    # Where even no sample below the median is more probable than level / 2, there is no such interval.
    return np.where(0.5**n <= level / 2, np.floor(inverse).astype(np.int64) + 1, 0)
