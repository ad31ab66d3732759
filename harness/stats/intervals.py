"""The interval of a median, free of assumptions about the distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Values = NDArray[np.float64]

CONFIDENCE: Final = 0.95


class Interval(NamedTuple):
    """An interval and the probability with which the method covers the true value."""

    low: float
    high: float
    confidence: float


def median_interval(numbers: Sequence[float] | Values, confidence: float = CONFIDENCE) -> Interval:
    """The shortest symmetric interval between order statistics that covers the median often enough.

    The number of samples below the median of a continuous distribution is binomial(n, 1/2), whatever the
    distribution, so the interval from the l-th smallest to the l-th largest value covers it with probability
    1 - 2·P(B < l) (Conover, "Practical Nonparametric Statistics", 3rd ed. 1999, section 3.2; Hahn and Meeker,
    "Statistical Intervals", 1991, section 5.2). The probability is at least `confidence`, and is returned;
    where n ≤ 5 not even minimum and maximum reach 95 %, and they are returned with what they do cover.

    Raises:
        ValueError: there are no numbers.
    """
    from scipy.special import bdtr  # noqa: PLC0415 - half of what a comparison takes to start

    ordered = np.sort(np.asarray(numbers, dtype=np.float64))
    n = len(ordered)
    if not n:
        raise ValueError("an interval needs at least one value")
    # tails[l - 1] is P(B < l), increasing in l; the rank is the largest l whose two tails leave enough.
    tails = bdtr(np.arange(max(1, n // 2), dtype=np.float64), n, 0.5)
    rank = max(1, int(np.searchsorted(tails, (1 - confidence) / 2, side="right")))
    covered = 1 - 2 * float(tails[rank - 1])
    return Interval(float(ordered[rank - 1]), float(ordered[n - rank]), max(0.0, covered))
