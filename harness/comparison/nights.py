"""How much nights differ by themselves, and the limits that follow; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from pybench.harness.comparison.changepoints import FEWEST, noise_of
from pybench.harness.comparison.limits import DEFAULTS, OTHERWISE, Limits
from pybench.harness.stats import CellKey

DEVIATIONS: Final = 3.0
"""Standard deviations of the difference of two nights that a change must exceed."""


def widened(limits: Limits, series: Mapping[CellKey, Sequence[tuple[str, float]]]) -> Limits:
    """Limits that the nights before have not reached by chance.

    A test of two runs knows nothing of what makes whole nights differ: it supports whatever both are like.
    Where at least ten earlier runs tell, a usual limit becomes three standard deviations of the difference of
    two nights, if that is more; the deviation is estimated from successive differences, which neither a new
    level nor a drift enters. A limit that somebody has set is left as it is.

    Args:
        limits: those of the gate.
        series: of each cell the runs and their medians, the oldest first, with the candidate as the last.
    """
    of_cell = dict(limits.of_cell)
    for cell, medians in series.items():
        workload, target, metric, unit, label = cell
        before = np.array([median for _, median in medians[:-1]], dtype=np.float64)
        known = limits.of(cell)
        if len(before) < FEWEST or known != DEFAULTS.get(unit, OTHERWISE) or not np.median(before) > 0:
            continue
        share = DEVIATIONS * math.sqrt(2) * noise_of(before) / float(np.median(before))
        if share > known.relative:
            of_cell[workload, target, metric, label] = replace(known, relative=share)
    return replace(limits, of_cell=of_cell)
