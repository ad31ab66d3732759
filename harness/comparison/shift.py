"""By how much one side is larger than the other: the Hodges–Lehmann estimate with its interval."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pybench.harness.comparison.ranks import LARGEST_EXACT, NORMAL, Values, u_probabilities

_MOST_PAIRS: Final = 4_000_000
"""Differences that are held in memory at once: 32 MB."""
_FEW_PAIRS: Final = 500_000
"""Of more differences than that, so many are made around each that is looked for."""
_PRECISION: Final = 1e-9
"""Of the spread of the differences: more that are as equal as this are not told apart."""


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
    rank = math.floor(m * n / 2 + 0.5 + NORMAL.inv_cdf(tail) * deviation)
    # Of few values on one side: all differences lie on one side of 0 in one of so many orders.
    return (rank, confidence) if rank >= 1 else (1, 1 - 2 / math.comb(m + n, n))


def _order_statistics(baseline: Values, candidate: Values, ranks: tuple[int, ...]) -> list[float]:
    """The differences of these ranks, counted from 1."""
    m, n = len(baseline), len(candidate)
    if m * n <= _MOST_PAIRS:
        differences = np.subtract.outer(candidate, baseline).ravel()
        positions = [rank - 1 for rank in ranks]
        return [float(value) for value in np.partition(differences, positions)[positions]]
    return _without_all_pairs(np.sort(baseline), np.sort(candidate), ranks)


def _without_all_pairs(x: Values, y: Values, ranks: tuple[int, ...]) -> list[float]:
    """The differences of these ranks, of two sorted sides that have too many to make them all."""
    found: dict[int, float] = {}
    for rank in ranks:
        if rank in found:
            continue
        near = _near(x, y, rank)
        before, up_to = int(near.begins.sum()), int(near.ends.sum())
        within = [each for each in ranks if before < each <= up_to]
        if up_to - before > _FEW_PAIRS:
            found.update(dict.fromkeys(within, near.highest))
            continue
        counts = near.ends - near.begins
        of_x = np.repeat(np.arange(len(x)), counts)
        of_y = np.arange(up_to - before) + np.repeat(near.begins - (np.cumsum(counts) - counts), counts)
        positions = [each - before - 1 for each in within]
        ordered = np.partition(y[of_y] - x[of_x], positions)
        found.update(zip(within, map(float, ordered[positions]), strict=True))
    return [found[rank] for rank in ranks]


class _Near(NamedTuple):
    """The pairs whose differences are near that of some rank."""

    begins: NDArray[np.int64]
    """For each baseline value, in their order, the first of the ordered candidate values in such a pair."""
    ends: NDArray[np.int64]
    """And the first one behind those."""
    highest: float
    """None of the differences is larger."""


def _near(x: Values, y: Values, rank: int) -> _Near:
    """Few pairs, or such as differ by nearly the same, with the difference of this rank among them.

    The search is that of the Illinois method on the number of pairs up to a difference (Dowell and Jarratt,
    "A modified regula falsi method for computing the root of an equation", BIT 11, 1971). Every third step
    halves what is left, for differences that are not spread smoothly.
    """
    low, high = float(y[0] - x[-1]), float(y[-1] - x[0])
    precision = (high - low) * _PRECISION
    begins, ends = np.zeros(len(x), np.int64), np.full(len(x), len(y), np.int64)
    # By how many pairs the ends miss half a pair below the rank; the half of it where an end does not move.
    short, beyond = 0.5 - rank, len(x) * len(y) - rank + 0.5
    moved, step = 0, 0
    while int(ends.sum()) - int(begins.sum()) > _FEW_PAIRS and high - low > precision:
        step += 1
        middle = low + (high - low) * (0.5 if step % 3 == 0 else short / (short - beyond))
        up_to = np.searchsorted(y, x + middle, side="right")
        excess = int(up_to.sum()) - rank + 0.5
        if excess > 0:
            short /= 2 if moved > 0 else 1
            high, ends, beyond, moved = middle, up_to, excess, 1
        else:
            beyond /= 2 if moved < 0 else 1
            low, begins, short, moved = middle, up_to, excess, -1
    return _Near(begins, ends, high)
