"""One cell of two runs: every figure of the change, before any verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.modes import Mode, modes
from pybench.harness.comparison.pace import UNKNOWN, Slowdown
from pybench.harness.comparison.quantiles import QuantileDifference, quantile_differences
from pybench.harness.comparison.ranks import (
    CONFIDENCE,
    NORMAL,
    Effect,
    Values,
    cliffs_delta,
    mann_whitney,
    quantile_test,
    share_test,
)
from pybench.harness.comparison.shift import Shift, hodges_lehmann
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, measured

TAIL: Final = 0.9
"""The quantile of the test for tails."""
FEWEST_FOR_TAIL: Final = 20
POWER: Final = 0.8
_FEWEST_FOR_DETECTABLE: Final = 6
"""Below this the interval does not reach 95 %, and its width says little."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a cell."""

    n: int
    failed: int
    launched: int
    """Values, failures, and what was rejected for its error: that did not fail."""
    median: float
    """NaN where n is 0."""
    modes: tuple[Mode, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in one cell, candidate minus baseline; the figures are None where a side is empty."""

    cell: CellKey
    baseline: Side
    candidate: Side
    shift: Shift | None
    p: float
    """Of the Mann–Whitney test."""
    tail_p: float
    """Of the quantile test at the 90th percentile, with the shift taken out; 1 below 20 samples a side."""
    tail_shift: float
    """How much further the 90th percentile moved than the rest did."""
    failure_p: float
    """That launches fail equally often on both sides."""
    effect: Effect | None
    quantiles: tuple[QuantileDifference, ...]
    slowdown: Slowdown = UNKNOWN
    """Of the host, when the candidate was measured."""

    def detectable(self, level: float) -> float | None:
        """The smallest shift that a test at this level would find with 80 % probability; None for few values.

        Its standard error is read off the width of the interval, so it holds for any distribution; the sum of
        normal quantiles is that of Lehmann, "Nonparametrics", 1975, section 2.3.
        """
        if self.shift is None or min(self.baseline.n, self.candidate.n) < _FEWEST_FOR_DETECTABLE:
            return None
        error = (self.shift.high - self.shift.low) / (2 * NORMAL.inv_cdf((1 + CONFIDENCE) / 2))
        return error * (NORMAL.inv_cdf(1 - level / 2) + NORMAL.inv_cdf(POWER))


def change(
    cell: CellKey, baseline: Sequence[Sample], candidate: Sequence[Sample], slowdown: Slowdown = UNKNOWN
) -> Change:
    """Compare the samples of one cell; either side may be empty, but not both.

    Args:
        cell: what they are samples of.
        baseline: one side, in any order.
        candidate: the other.
        slowdown: of the host, when the candidate was measured.
    """
    x, y = measured(baseline), measured(candidate)
    left, right = _side(x, baseline), _side(y, candidate)
    failure_p = 1.0
    if left.launched and right.launched:
        failure_p = share_test(left.launched, left.failed, right.launched, right.failed)
    if not len(x) or not len(y):
        return Change(cell, left, right, None, 1.0, 1.0, 0.0, failure_p, None, (), slowdown)
    moved = movement(x, y)
    return Change(
        cell=cell,
        baseline=left,
        candidate=right,
        shift=moved.shift,
        p=moved.p,
        tail_p=moved.tail_p,
        tail_shift=moved.tail_shift,
        failure_p=failure_p,
        effect=cliffs_delta(x, y),
        quantiles=tuple(quantile_differences(x, y)),
        slowdown=slowdown,
    )


class Movement(NamedTuple):
    """What the verdict on one cell rests on."""

    shift: Shift
    p: float
    tail_p: float
    tail_shift: float


def movement(baseline: Values, candidate: Values) -> Movement:
    """The tests of one cell, without the figures that only describe it.

    Raises:
        ValueError: a side is empty.
    """
    shift, p = hodges_lehmann(baseline, candidate), mann_whitney(baseline, candidate)
    if min(len(baseline), len(candidate)) < FEWEST_FOR_TAIL:
        return Movement(shift, p, 1.0, 0.0)
    # Without the shift, which is tested by itself: a tail has changed only if it did not just move along.
    aligned = candidate - shift.value
    tail_shift = float(np.quantile(aligned, TAIL) - np.quantile(baseline, TAIL))
    return Movement(shift, p, quantile_test(baseline, aligned, TAIL), tail_shift)


def _side(values: Values, samples: Sequence[Sample]) -> Side:
    return Side(
        n=len(values),
        failed=sum(sample.status == "failed" and not sample.warmup for sample in samples),
        launched=sum(not sample.warmup for sample in samples),
        median=float(np.median(values)) if len(values) else math.nan,
        modes=tuple(modes(values)),
    )
