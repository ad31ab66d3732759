"""Quantiles of Student's t distribution, of which SciPy's take 0.15 s to import; pure."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_PRECISION: Final = 1e-14
_TINY: Final = 1e-300
"""In the place of a denominator of zero."""


@lru_cache(maxsize=1024)
def upper_quantile(freedom: float, probability: float) -> float:
    """What a Student variable exceeds with this probability.

    The upper tail is convex beyond the middle, and lies above that of the normal distribution; so Newton's
    steps from the normal quantile on approach the root from one side and never pass it.

    Args:
        freedom: degrees of freedom, at least 1, not necessarily a whole number.
        probability: above 0 and below 1/2.
    """
    log_scale = (
        math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    )  # of the density
    found = NormalDist().inv_cdf(1 - probability)
    while True:
        density = math.exp(log_scale - (freedom + 1) / 2 * math.log1p(found * found / freedom))
        step = (_upper_tail(freedom, found) - probability) / density
        if step <= found * 1e-13:
            return found
        found += step


def _upper_tail(freedom: float, value: float) -> float:
    """The probability of more than a positive value (Abramowitz and Stegun, 26.7.1)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function (Abramowitz and Stegun, 26.5.2, 26.5.8)."""
    if x > (a + 1) / (a + b + 2):
        # The fraction converges fast on the other side of the middle.
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front / a / _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d₁/(1 + d₂/(1 + …)), by Lentz's method (Applied Optics 15, 1976, p. 668)."""
    value, upper, lower, at = 1.0, 1.0, 0.0, 0
    while True:
        at += 1
        m, is_odd = divmod(at, 2)
        if is_odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        upper = 1 + term / upper or _TINY
        lower = 1 / (1 + term * lower or _TINY)
        value *= upper * lower
        if abs(upper * lower - 1) < _PRECISION:
            return value
