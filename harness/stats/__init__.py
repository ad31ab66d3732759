"""Samples in, estimates with intervals out; pure.

Every figure is free of assumptions about the distribution: start-up times are skewed, often have several
modes, and their tails are what matters. Each method cites where it comes from.
"""

from __future__ import annotations

from pybench.harness.stats.cells import (
    CellKey,
    CellSamples,
    cell_key,
    cells,
    counts,
    different_qualifiers,
    gathered,
    measured,
)
from pybench.harness.stats.estimates import (
    FEWEST_FOR_P95,
    FEWEST_FOR_P99,
    RESAMPLES,
    Ratio,
    estimate,
    estimates,
    estimates_of,
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
    "CellSamples",
    "Interval",
    "Ratio",
    "Values",
    "cell_key",
    "cells",
    "counts",
    "different_qualifiers",
    "estimate",
    "estimates",
    "estimates_of",
    "gathered",
    "measured",
    "median_interval",
    "phase_sums",
    "quantile",
    "ratio",
    "shared_qualifiers",
]
