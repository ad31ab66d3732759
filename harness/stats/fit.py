"""A straight line through points, with the interval of its slope and how much of the spread it explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.stats.intervals import CONFIDENCE

FEWEST_FOR_LINE: Final = 3
"""Through two points a line always fits."""


class Line(NamedTuple):
    """y = intercept + slope · x."""

    slope: float
    intercept: float
    low: float
    """Lower end of the slope's interval."""
    high: float
    determination: float
    """R², from 0 to 1: the share of the variance of y that the line explains; 1 where y does not vary."""


def line(x: Sequence[float], y: Sequence[float], confidence: float = CONFIDENCE) -> Line | None:
    """The line of least squares; None below three points, or where x does not vary.

    The interval is that of Student's t with n - 2 degrees of freedom (Draper and Smith, "Applied Regression
    Analysis", 1998, section 1.4). It holds for independent errors of one variance. Points of a ramp, each of
    which contains the one before, are neither quite; where that matters, R² and the points tell.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(across)
    if n < FEWEST_FOR_LINE or float(np.ptp(across)) == 0:
        return None
    centred = across - across.mean()
    spread = float((centred**2).sum())
    slope = float((centred * (up - up.mean())).sum()) / spread
    intercept = float(up.mean()) - slope * float(across.mean())
    residual = float(((up - intercept - slope * across) ** 2).sum())
    total = float(((up - up.mean()) ** 2).sum())
    deviation = math.sqrt(residual / (n - 2) / spread)
    reach = float(stdtrit(n - 2, (1 + confidence) / 2)) * deviation
    return Line(slope, intercept, slope - reach, slope + reach, 1 - residual / total if total > 0 else 1.0)
