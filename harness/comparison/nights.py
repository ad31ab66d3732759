"""How much nights differ by themselves, and the limits that follow; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from pybench.harness.comparison.limits import DEFAULTS, OTHERWISE, Limit, Limits
from pybench.harness.comparison.ranks import NORMAL, Values
from pybench.harness.comparison.runs import worse_direction
from pybench.harness.stats import CellKey

RATE: Final = 0.01
"""The probability that a night without any change exceeds a limit in any of its cells."""
BASELINES: Final = 2
"""That a night is held against: the latest, and the oldest for drift."""
ENOUGH: Final = 10
"""Earlier runs that tell by themselves what nights differ by."""
SUPPOSED: Final = 0.45
"""What nights are taken to differ by until then, as a share of the usual limit."""
_EFFICIENCY: Final = 0.65
"""Degrees of freedom that each earlier run is worth in `deviation_of` (found by simulation)."""
_KEPT: Final = 0.8
"""Of the successive differences, the smallest first: a new level is a large one, and no noise."""


def widened(
    limits: Limits, series: Mapping[CellKey, Sequence[tuple[str, float]]], gated: Iterable[CellKey]
) -> Limits:
    """Limits that nights without any change hardly ever exceed.

    A test of two runs knows nothing of what makes whole nights differ: it supports whatever both are like. So
    a usual limit becomes a quantile of the difference of two nights, if that is more: Student's, since the
    deviation is an estimate, and Bonferroni's share of 1 % for each cell and baseline. As long as there are
    fewer than ten earlier runs, the missing ones are taken to differ by a little less than half of the usual
    limit. A change for the worse that came about twice from one night to the next is nothing new either, as
    on a host that is in one of two states. A limit that somebody has set is left as it is.

    Args:
        limits: those of the gate.
        series: of each cell the runs and their medians, the oldest first, with the candidate as the last.
        gated: the cells that are judged together.
    """
    usual = {cell: limit for cell in gated if (limit := _usual(limits, cell)) is not None}
    if not usual:
        return limits
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    level = RATE / (BASELINES * len(usual))
    of_cell = dict(limits.of_cell)
    for cell, limit in usual.items():
        before = np.array([median for _, median in series.get(cell, ())[:-1]], dtype=np.float64)
        missing = max(0, ENOUGH - len(before))
        freedom = missing + _EFFICIENCY * len(before) - 1
        deviation = _deviation(before, missing, SUPPOSED * limit.relative)
        share = float(stdtrit(freedom, 1 - level)) * math.sqrt(2) * deviation
        share = max(share, _seen_twice(before * worse_direction(cell)))
        if share > limit.relative:
            workload, target, metric, _, label = cell
            of_cell[workload, target, metric, label] = replace(limit, relative=share)
    return replace(limits, of_cell=of_cell)


def deviation_of(medians: Values) -> float:
    """The standard deviation of one night, from successive differences; 0 for fewer than three nights.

    These hold a new level in one of them and a drift in small parts. Of their absolute values the mean of the
    smallest four fifths is taken, without the largest in any case, and divided by what that is for a standard
    normal variable (with the order statistics of Blom, "Statistical Estimates and Transformed
    Beta-Variables", 1958). It is more precise than their median where there are few.
    """
    steps = np.sort(np.abs(np.diff(medians)))
    kept = int(_KEPT * len(steps))
    if not kept:
        return 0.0
    ranks = (np.arange(1, kept + 1) - 0.375) / (len(steps) + 0.25)
    expected = sum(NORMAL.inv_cdf((1 + rank) / 2) for rank in ranks.tolist()) / kept
    return float(steps[:kept].mean()) / expected / math.sqrt(2)


def _seen_twice(medians: Values) -> float:
    """As a share, the second largest change for the worse between successive nights."""
    rises = np.sort(np.diff(medians))
    middle = abs(float(np.median(medians))) if len(medians) else 0.0
    return float(rises[-2]) / middle if len(medians) >= ENOUGH and middle else 0.0


def _usual(limits: Limits, cell: CellKey) -> Limit | None:
    """The limit of a cell, if nobody has set it."""
    known = limits.of(cell)
    return known if known is DEFAULTS.get(cell[3], OTHERWISE) else None


def _deviation(before: Values, missing: int, supposed: float) -> float:
    """As a share: what was seen, and for each run that is missing what is supposed."""
    middle = float(np.median(before)) if len(before) else 0.0
    seen = deviation_of(before) / middle if middle > 0 else 0.0
    return math.sqrt((missing * supposed**2 + len(before) * seen**2) / (missing + len(before)))
