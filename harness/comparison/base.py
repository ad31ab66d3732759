"""The shift as the best values tell it: a test and an estimate in which these weigh most.

What disturbs a launch only ever makes it slower. So its times have a sharp lower end, from which the whole
can be told far more precisely than from the middle, and a long tail of the disturbed ones, as Gumbel's
distribution of the largest of many values has. For a shift of that one the scores 1 + ln u give the locally
most powerful of all rank tests (Hájek, Šidák and Sen, "Theory of Rank Tests", 2nd ed. 1999);
like every rank test it keeps its level whatever the distribution is.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pybench.harness.comparison.ranks import CONFIDENCE, NORMAL, Values, sizes
from pybench.harness.comparison.shift import Shift

_MOST: Final = 2000
"""Values of a side that an estimate is made of; of more, so many stand for the others, evenly spaced."""
_PRECISION: Final = 1e-7
"""Of a shift, as a share of what the lower halves are wide."""
_MOST_HALVINGS: Final = 60
"""Of the range in which it is looked for, where these halves have no width."""
_EQUAL: Final = 1e-9
"""Sums of scores that differ by less are equal."""


def base_test(baseline: Values, candidate: Values, better: int = -1) -> float:
    """The two-sided p-value of the linear rank test with the scores 1 + ln(rank / (m + n + 1)).

    Equal values share the mean of their scores. The distribution of the statistic is taken to be normal;
    where the sides are unequal it is skewed, and its heavier tail is that of the gamma distribution with that
    skewness (by the cube root of Wilson and Hilferty, Proceedings of the National Academy of Sciences 17(12),
    1931). From 20 values a side on, neither tail exceeds its half of the level by more than a twentieth
    between 5 % and 0.1 % (found by simulation). It is 1 where all values are equal.

    Args:
        baseline: one side, in any order.
        candidate: the other.
        better: -1 if the smallest values are the best ones, 1 if the largest are.

    Raises:
        ValueError: a side is empty.
    """
    m, n = sizes(baseline, candidate)
    if better > 0:
        return base_test(-baseline, -candidate)
    values, group, counts = np.unique(
        np.concatenate([baseline, candidate]), return_inverse=True, return_counts=True
    )
    if len(values) == 1:
        return 1.0
    ends = np.cumsum(counts)
    sums = np.concatenate([[0.0], np.cumsum(_scores(m + n))])
    scores = (sums[ends] - sums[ends - counts]) / counts
    of_candidate = float(scores[group[m:]].sum())
    squares, cubes = (float((counts * scores**power).sum()) for power in (2, 3))
    deviation = _deviation(m, n, squares)
    skewness = m * n * (m - n) * cubes / (_falling(m + n, 3) * deviation**3) if m != n else 0.0
    return _two_sided(of_candidate / deviation, skewness)


def base_shift(baseline: Values, candidate: Values, better: int = -1) -> Shift:
    """What is to be taken off the candidate for the test to see no difference, with its interval.

    The estimate belongs to the test as that of Hodges and Lehmann belongs to the Mann–Whitney test, and the
    interval holds the shifts that the test does not reject at 5 %.

    Args:
        baseline: one side, in any order.
        candidate: the other.
        better: -1 if the smallest values are the best ones, 1 if the largest are.

    Raises:
        ValueError: a side is empty.
    """
    m, n = sizes(baseline, candidate)
    if better > 0:
        turned = base_shift(-baseline, -candidate)
        return Shift(-turned.value, -turned.high, -turned.low, turned.confidence)
    x, y = _evenly(baseline), _evenly(candidate)
    scores = _scores(len(x) + len(y))
    squares = float((_scores(m + n) ** 2).sum())
    # The sum of the candidate's scores that is reached by chance, for as many values as are looked at.
    reached = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * _deviation(m, n, squares) * len(y) / n
    ends = np.array([reached + _EQUAL, _EQUAL, -_EQUAL, -reached - _EQUAL])
    low, left, right, high = _crossings(x, y, scores, ends).tolist()
    return Shift((left + right) / 2, low, high, CONFIDENCE)


def _crossings(x: Values, y: Values, scores: Values, levels: Values) -> Values:
    """The shifts at which the sum of the candidate's scores, which falls with them, reaches these levels."""
    precedes = np.arange(len(y))
    low = np.full(len(levels), y[0] - x[-1])
    high = np.full(len(levels), y[-1] - x[0])
    # One wild value makes a wide range of what is to be told to a small part of what the others differ by.
    precision = _PRECISION * float(x[len(x) // 2] - x[0] + y[len(y) // 2] - y[0])
    for _ in range(_MOST_HALVINGS):
        if float((high - low).max()) <= precision:
            break
        middle = (low + high) / 2
        moved = y - middle[:, None]
        left, right = (np.searchsorted(x, moved, side=side) for side in ("left", "right"))
        sums = (scores[left + precedes] + scores[right + precedes]).sum(axis=1) / 2
        low, high = np.where(sums > levels, middle, low), np.where(sums > levels, high, middle)
    return np.asarray((low + high) / 2, dtype=np.float64)


def _scores(number: int) -> Values:
    """Of the ranks 1, …, number; their sum is 0."""
    scores = np.log(np.arange(1, number + 1) / (number + 1))
    return np.asarray(scores - scores.mean(), dtype=np.float64)


def _deviation(m: int, n: int, squares: float) -> float:
    """Of the sum of n of m + n scores whose mean is 0, each choice being as likely."""
    return math.sqrt(m * n * squares / _falling(m + n, 2))


def _falling(number: int, factors: int) -> float:
    return float(math.perm(number, factors))


def _two_sided(z: float, skewness: float) -> float:
    if z * skewness > 0:
        z = abs(z)
        half = abs(skewness) / 2
        z = 3 / half * (math.cbrt(half * z + 1) - 1) + half / 3
    return min(1.0, math.erfc(abs(z) / math.sqrt(2)))


def _evenly(values: Values) -> Values:
    ordered = np.sort(values)
    if len(ordered) <= _MOST:
        return ordered
    at: NDArray[np.int64] = ((np.arange(_MOST) + 0.5) * len(ordered) / _MOST).astype(np.int64)
    return np.asarray(ordered[at], dtype=np.float64)
