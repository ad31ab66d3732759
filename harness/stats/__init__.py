"""Samples in, estimates with intervals out; pure.

Every figure is free of assumptions about the distribution: start-up times are skewed, often have several
modes, and their tails are what matters. Each method cites where it comes from.
"""

from __future__ import annotations

from pybench.harness.stats.estimates import (
    FEWEST_FOR_P95,
    FEWEST_FOR_P99,
    RESAMPLES,
    CellKey,
    Ratio,
    cell_key,
    cells,
    counts,
    estimate,
    estimates,
    measured,
    phase_sums,
    quantile,
    ratio,
    shared_qualifiers,
)
from pybench.harness.stats.intervals import CONFIDENCE, Interval, Values, median_interval

__all__ = [
    "CONFIDENCE",
    "FEWEST_FOR_P95",
    "FEWEST_FOR_P99",
    "RESAMPLES",
    "CellKey",
    "Interval",
    "Ratio",
    "Values",
    "cell_key",
    "cells",
    "counts",
    "estimate",
    "estimates",
    "measured",
    "median_interval",
    "phase_sums",
    "quantile",
    "ratio",
    "shared_qualifiers",
]
