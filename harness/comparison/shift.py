"""By how much one side is larger than the other: the Hodges–Lehmann estimate with its interval."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.ranks import LARGEST_EXACT, NORMAL, Values, u_probabilities

_MOST_PAIRS: Final = 4_000_000
"""Differences that are held in memory at once: 32 MB."""
_PRECISION: Final = 1e-9
"""Of the spread of the differences, beyond which an order statistic of more pairs is not refined."""


class Shift(NamedTuple):
    """The median difference between a candidate and a baseline value, and its interval."""

    value: float
    low: float
    high: float
    confidence: float
    """What the interval covers under equal shapes; less than asked for where there are few values."""


def hodges_lehmann(baseline: Values, candidate: Values, confidence: float = 0.95) -> Shift:
    """The median of all differences candidate - baseline, with Moses's distribution-free interval.

    The estimate is that of Hodges and Lehmann, "Estimates of Location Based on Rank Tests", Annals of
    Mathematical Statistics 34(2), 1963. The interval runs from the C-th smallest to the C-th largest
    difference; it holds the shifts that a Mann–Whitney test does not reject, and so covers the true one with
    the stated probability if the two distributions differ by a shift (Hollander, Wolfe and Chicken,
    "Nonparametric Statistical Methods", 3rd ed. 2014, sections 4.2 and 4.3).

    Raises:
        ValueError: a side is empty.
    """
    m, n = len(baseline), len(candidate)
    if not m or not n:
        raise ValueError("a shift needs at least one value on each side")
    rank, covered = _rank(m, n, confidence)
    middle = (m * n + 1) // 2
    low, left, right, high = _order_statistics(
        baseline, candidate, (rank, middle, m * n + 1 - middle, m * n + 1 - rank)
    )
    return Shift((left + right) / 2, low, high, covered)


def _rank(m: int, n: int, confidence: float) -> tuple[int, float]:
    """C and what the interval from the C-th smallest to the C-th largest difference covers."""
    tail = (1 - confidence) / 2
    if max(m, n) <= LARGEST_EXACT:
        below = np.cumsum(u_probabilities(m, n))
        # below[C - 1] is P(U ≤ C - 1): the probability that the true shift lies below the C-th difference.
        rank = max(1, int(np.searchsorted(below, tail, side="right")))
        return rank, 1 - 2 * float(below[rank - 1])
    deviation = math.sqrt(m * n * (m + n + 1) / 12)
    return max(1, math.floor(m * n / 2 + 0.5 + NORMAL.inv_cdf(tail) * deviation)), confidence


def _order_statistics(baseline: Values, candidate: Values, ranks: tuple[int, ...]) -> list[float]:
    """The differences of these ranks, counted from 1."""
    m, n = len(baseline), len(candidate)
    if m * n <= _MOST_PAIRS:
        differences = np.subtract.outer(candidate, baseline).ravel()
        positions = [rank - 1 for rank in ranks]
        return [float(value) for value in np.partition(differences, positions)[positions]]
    x, y = np.sort(baseline), np.sort(candidate)
    return [_bisect(x, y, rank) for rank in ranks]


def _bisect(x: Values, y: Values, rank: int) -> float:
    """One order statistic without making all pairs: bisection on the number of pairs up to a difference."""
    low, high = float(y[0] - x[-1]), float(y[-1] - x[0])
    precision = (high - low) * _PRECISION
    while high - low > precision:
        middle = (low + high) / 2
        if int(np.searchsorted(y, x + middle, side="right").sum()) >= rank:
            high = middle
        else:
            low = middle
    return high
