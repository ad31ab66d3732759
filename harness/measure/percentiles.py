"""Percentiles that a number of values can support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

FEWEST: Final = {
    "p50": (0.5, 3),
    "p90": (0.9, 10),
    "p95": (0.95, 20),
    "p99": (0.99, 100),
    "p99.9": (0.999, 1000),
}
"""Name → probability, and the number of values below which it would be no more than the largest of them."""


def percentiles(ordered: Sequence[float]) -> dict[str, float]:
    """Those of ascending values that their number supports, by nearest rank.

    Type 1 of Hyndman and Fan ("Sample Quantiles in Statistical Packages", American Statistician 50, 1996).
    """
    count = len(ordered)
    return {
        name: ordered[math.ceil(probability * count) - 1]
        for name, (probability, fewest) in FEWEST.items()
        if count >= fewest
    }
