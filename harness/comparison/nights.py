"""How much nights differ by themselves, and the limits that follow; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.direction import worse_direction
from pybench.harness.comparison.limits import DEFAULTS, OTHERWISE, Limit, Limits
from pybench.harness.comparison.pace import Pace, median_and_tail
from pybench.harness.comparison.ranks import NORMAL, Values
from pybench.harness.stats import CellKey

RATE: Final = 0.01
"""The probability that a night without any change exceeds a limit in any of its cells."""
QUANTITIES: Final = 2
"""Of a cell that have a limit: its median, and its tail."""
BASELINES: Final = 2
"""That a night is held against: the latest, and the oldest for drift."""
ENOUGH: Final = 10
"""Earlier runs that tell by themselves what nights differ by."""
SUPPOSED: Final = 0.45
"""What nights are taken to differ by until then, as a share of the usual limit..."""
SUPPOSED_OF_TAIL: Final = 1 / 6
"""...or of the tail, if that is more: where single launches scatter widely, whole nights differ, too."""
_EFFICIENCY: Final = 0.65
"""Degrees of freedom that each earlier run is worth in `deviation_of` (found by simulation)."""
_KEPT: Final = 0.8
"""Of the successive differences, the smallest first: a new level is a large one, and no noise."""


class Night(NamedTuple):
    """What one run was like in one cell, in the cell's unit."""

    run: str
    median: float
    tail: float
    """The 90th percentile, of rates the 10th, less the median: how far the worst tenth lies from it."""
    pace: Pace | None = None
    """Of the host, where that is known."""

    @classmethod
    def of(cls, run: str, cell: CellKey, values: Sequence[float], pace: Pace | None = None) -> Night:
        """Of the values of a run, of which there is at least one."""
        return cls(run, *median_and_tail(values, worse_direction(cell)), pace)


Series = Mapping[CellKey, Sequence[Night]]
"""Of each cell what the runs were like, the oldest first, with the candidate as the last."""


def widened(limits: Limits, series: Series, gated: Iterable[CellKey]) -> Limits:
    """Limits that nights without any change hardly ever exceed.

    A test of two runs knows nothing of what makes whole nights differ: it supports whatever both are like. So
    a usual limit becomes a quantile of the difference of two nights, if that is more: Student's, since the
    deviation is an estimate, and Bonferroni's share of 1 % for each cell, baseline and quantity. As long as
    there are fewer than ten earlier runs, the missing ones are taken to differ by a little less than half of
    the usual limit, or by a sixth of the tail if that is more. A change for the worse that came about twice
    from one night to the next is nothing new either, as on a host that is in one of two states. Tails differ
    more than medians do, now and then by far: their limit is made in the same way, but is no less than what
    any two earlier nights differ by. A limit that somebody has set is left as it is.

    Args:
        limits: those of the gate.
        series: the nights up to the candidate's.
        gated: the cells that are judged together.
    """
    usual = {cell: limit for cell in gated if (limit := _usual(limits, cell)) is not None}
    if not usual:
        return limits
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    level = RATE / (BASELINES * QUANTITIES * len(usual))
    of_cell = dict(limits.of_cell)
    for cell, limit in usual.items():
        nights = series.get(cell, ())[:-1]
        medians, tails = (
            np.array([getattr(night, name) for night in nights], dtype=np.float64)
            for name in ("median", "tail")
        )
        middle = float(np.median(medians)) if len(nights) else 0.0
        tail = abs(float(np.median(tails))) / middle if middle > 0 else 0.0
        supposed = max(SUPPOSED * limit.relative, SUPPOSED_OF_TAIL * tail)
        missing = max(0, ENOUGH - len(nights))
        factor = math.sqrt(2) * float(stdtrit(missing + _EFFICIENCY * len(nights) - 1, 1 - level))
        share, tail_share = (
            max(factor * _deviation(each, middle, missing, supposed), seen / middle if middle > 0 else 0.0)
            for each, seen in (
                (medians, _seen_twice(medians * worse_direction(cell))),
                (tails, float(np.ptp(tails)) if len(tails) else 0.0),
            )
        )
        if max(share, tail_share) > limit.relative:
            workload, target, metric, _, label = cell
            relative = max(share, limit.relative)
            of_cell[workload, target, metric, label] = replace(
                limit, relative=relative, tail=max(tail_share, relative), usual=limit.relative
            )
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
    """The second largest change for the worse between successive nights."""
    rises = np.sort(np.diff(medians))
    return float(rises[-2]) if len(medians) >= ENOUGH else 0.0


def _usual(limits: Limits, cell: CellKey) -> Limit | None:
    """The limit of a cell, if nobody has set it."""
    known = limits.of(cell)
    return known if known is DEFAULTS.get(cell[3], OTHERWISE) else None


def _deviation(values: Values, middle: float, missing: int, supposed: float) -> float:
    """As a share: what was seen, and for each run that is missing what is supposed."""
    seen = deviation_of(values) / middle if middle > 0 else 0.0
    return math.sqrt((missing * supposed**2 + len(values) * seen**2) / (missing + len(values)))
