"""Tests and effect sizes that depend on the order of the values alone, so outliers cannot dominate them."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CONFIDENCE: Final = 0.95
LARGEST_EXACT: Final = 20
"""Samples a side up to which the exact distribution of U is used; the normal one is good from 10 on."""


NORMAL: Final = NormalDist()
"""The standard normal distribution; scipy's costs half a second to import."""


class Effect(NamedTuple):
    """Cliff's delta and its 95 % interval: -1 if all candidate values are smaller, 1 if all are larger."""

    value: float
    low: float
    high: float


def mann_whitney(baseline: Values, candidate: Values) -> float:
    """The two-sided p-value of the Mann–Whitney U test (Annals of Mathematical Statistics 18(1), 1947).

    Exact for up to 20 values a side without ties; otherwise the normal approximation with the corrections
    for ties and continuity (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 3rd ed. 2014,
    section 4.1). It is 1 where all values are equal.

    Raises:
        ValueError: a side is empty.
    """
    m, n = sizes(baseline, candidate)
    statistic = _u(baseline, candidate)
    pooled = np.concatenate([baseline, candidate])
    ties = np.unique(pooled, return_counts=True)[1].astype(np.float64)
    extreme = min(statistic, m * n - statistic)
    if max(m, n) <= LARGEST_EXACT and len(ties) == m + n:
        return min(1.0, 2 * float(u_probabilities(m, n)[: int(extreme) + 1].sum()))
    total = m + n
    variance = m * n / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return min(1.0, math.erfc((m * n / 2 - extreme - 0.5) / math.sqrt(2 * variance)))


@functools.lru_cache(maxsize=256)
def u_probabilities(m: int, n: int) -> Values:
    """P(U = 0), …, P(U = m·n) when both sides have the same distribution.

    The counts are the coefficients of the Gaussian binomial (m + n over m), which is the product of
    (1 - q^(n+i)) / (1 - q^i) over i = 1…m (Mann and Whitney 1947, section 2). Integers, so nothing cancels.
    """
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for k in range(m * n, n + i - 1, -1):
            counts[k] -= counts[k - n - i]
        for k in range(i, m * n + 1):
            counts[k] += counts[k - i]
    return np.array(counts, dtype=np.float64) / math.comb(m + n, m)


def cliffs_delta(baseline: Values, candidate: Values) -> Effect:
    """How much more often a candidate value is larger than smaller.

    Cliff, "Dominance statistics", Psychological Bulletin 114(3), 1993. The interval is the asymmetric one,
    which respects the bounds (Feng and Cliff, "Monte Carlo evaluation of ordinal d with improved confidence
    interval", Journal of Modern Applied Statistical Methods 3(2), 2004).

    Raises:
        ValueError: a side is empty.
    """
    m, n = sizes(baseline, candidate)
    # Looking the values of one side up in the other is several times as quick when they come in order.
    baseline, candidate = np.sort(baseline), np.sort(candidate)
    delta = 2 * _u(baseline, candidate) / (m * n) - 1
    if min(m, n) == 1 or abs(delta) == 1:
        # One value has no spread, and where the sides do not overlap the formula knows none either.
        return Effect(delta, -1.0, 1.0) if min(m, n) == 1 else Effect(delta, delta, delta)
    of_baseline = _dominance(baseline, candidate)
    of_candidate = -_dominance(candidate, baseline)
    unequal = _unequal_pairs(baseline, candidate)
    variance = (
        n**2 * float(((of_baseline - delta) ** 2).sum())
        + m**2 * float(((of_candidate - delta) ** 2).sum())
        - (unequal - m * n * delta**2)
    ) / (m * n * (m - 1) * (n - 1))
    # The unbiased estimate can fall below what is possible (Cliff 1993, p. 499).
    variance = max(variance, (1 - delta**2) / (m * n - 1))
    z = NORMAL.inv_cdf((1 + CONFIDENCE) / 2)
    scale = 1 - delta**2 + z**2 * variance
    half = z * math.sqrt(variance) * math.sqrt((1 - delta**2) ** 2 + z**2 * variance)
    return Effect(
        delta, max(-1.0, (delta - delta**3 - half) / scale), min(1.0, (delta - delta**3 + half) / scale)
    )


def quantile_test(baseline: Values, candidate: Values, probability: float) -> float:
    """The two-sided p-value that one side has more than its share of the values beyond a common quantile.

    It sees what moves a tail and leaves the middle, as when some launches take a detour (Johnson, Verrill
    and Moore, "Two-sample rank tests for detecting changes that occur in a small proportion of the treated
    population", Biometrics 43(3), 1987).

    Raises:
        ValueError: a side is empty.
    """
    m, n = sizes(baseline, candidate)
    pooled = np.sort(np.concatenate([baseline, candidate]))
    threshold = pooled[min(m + n - 1, math.ceil(probability * (m + n)) - 1)]
    return share_test(m, int((baseline > threshold).sum()), n, int((candidate > threshold).sum()))


def share_test(m: int, of_baseline: int, n: int, of_candidate: int) -> float:
    """The two-sided p-value that a property is as frequent among n candidates as among m baseline values.

    Given how many of all have it, the number among the candidates is hypergeometric: Fisher's exact test,
    with twice the smaller tail (Agresti, "Categorical Data Analysis", 3rd ed. 2013, section 3.5).
    """
    marked = of_baseline + of_candidate
    numbers = range(max(0, marked - m), min(marked, n) + 1)
    logs = np.array([_log_choose(n, k) + _log_choose(m, marked - k) for k in numbers])
    possible = np.array(numbers)
    chances = np.exp(logs - _log_choose(m + n, marked))
    below = float(chances[possible <= of_candidate].sum())
    above = float(chances[possible >= of_candidate].sum())
    return min(1.0, 2 * min(below, above))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _u(baseline: Values, candidate: Values) -> float:
    """Pairs in which the candidate's value is the larger one; equal pairs count half."""
    ordered, looked_up = np.sort(baseline), np.sort(candidate)
    smaller = np.searchsorted(ordered, looked_up, side="left").sum(dtype=np.float64)
    not_larger = np.searchsorted(ordered, looked_up, side="right").sum(dtype=np.float64)
    return float(smaller + not_larger) / 2


def _dominance(of: Values, over: Values) -> Values:
    """For each value of one side: the share of the other side that is larger, less that which is smaller."""
    ordered = np.sort(over)
    smaller = np.searchsorted(ordered, of, side="left")
    larger = len(over) - np.searchsorted(ordered, of, side="right")
    return np.asarray((larger - smaller) / len(over), dtype=np.float64)


def _unequal_pairs(baseline: Values, candidate: Values) -> int:
    ordered = np.sort(baseline)
    equal = np.searchsorted(ordered, candidate, side="right") - np.searchsorted(
        ordered, candidate, side="left"
    )
    return len(baseline) * len(candidate) - int(equal.sum())


def sizes(baseline: Values, candidate: Values) -> tuple[int, int]:
    """The numbers of values.

    Raises:
        ValueError: a side is empty.
    """
    if not len(baseline) or not len(candidate):
        raise ValueError("a comparison needs at least one value on each side")
    return len(baseline), len(candidate)
