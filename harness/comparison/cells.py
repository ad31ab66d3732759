"""One cell of two runs: every figure of the change, before any verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.base import base_shift, base_test
from pybench.harness.comparison.direction import worse_direction
from pybench.harness.comparison.modes import Mode, modes
from pybench.harness.comparison.multiplicity import Tests
from pybench.harness.comparison.pace import UNKNOWN, Slowdown
from pybench.harness.comparison.phases import NO_PHASES, Phases, PhaseShift, phase_shift, phases_of
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
"""The quantile of the test for tails, counted from the best value on."""
FEWEST: Final = 20
"""Values a side for any test but that of the shift."""
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


class Movement(NamedTuple):
    """What the verdict on one cell rests on, in its unit."""

    shift: Shift
    """The Hodges–Lehmann estimate."""
    tests: Tests
    tail: float = 0.0
    """How much further the worst tenth moved than the rest did: its 90th percentile, of rates the 10th."""
    base: Shift | None = None
    """The shift as the best values tell it; None below 20 values a side, or where these come in steps."""
    phase: PhaseShift | None = None
    """What one phase of a start changed by; None where the sides have too few launches, or other phases."""

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """All that is told of by how much the cell moved."""
        told = (self.shift, self.base, self.phase and self.phase.shift)
        return tuple(each for each in told if each is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in one cell, candidate minus baseline; the figures are None where a side is empty."""

    cell: CellKey
    baseline: Side
    candidate: Side
    movement: Movement | None
    """What the verdict rests on."""
    failure_p: float
    """That launches fail equally often on both sides."""
    effect: Effect | None
    quantiles: tuple[QuantileDifference, ...]
    slowdown: Slowdown = UNKNOWN
    """Of the host, when the candidate was measured."""

    @property
    def shift(self) -> Shift | None:
        """The Hodges–Lehmann estimate; None where a side is empty."""
        return None if self.movement is None else self.movement.shift

    def detectable(self, level: float) -> float | None:
        """The smallest shift that a test at this level would find with 80 % probability; None for few values.

        Its standard error is read off the width of the narrower interval, so it holds for any distribution;
        the sum of normal quantiles is that of Lehmann, "Nonparametrics", 1975, section 2.3.
        """
        if self.movement is None or min(self.baseline.n, self.candidate.n) < _FEWEST_FOR_DETECTABLE:
            return None
        shifts = [each for each in (self.movement.shift, self.movement.base) if each is not None]
        width = min(each.high - each.low for each in shifts)
        error = width / (2 * NORMAL.inv_cdf((1 + CONFIDENCE) / 2))
        return error * (NORMAL.inv_cdf(1 - level / 2) + NORMAL.inv_cdf(POWER))


def changes(
    baseline: Mapping[CellKey, Sequence[Sample]],
    candidate: Mapping[CellKey, Sequence[Sample]],
    chosen: Iterable[CellKey],
    slowdown: Slowdown = UNKNOWN,
) -> list[Change]:
    """Compare some cells of two runs, each start with its phases.

    Args:
        baseline: the samples of all cells of one run, phases too.
        candidate: those of the other.
        chosen: the cells to compare, of which one side has samples at least.
        slowdown: of the host, when the candidate was measured.
    """
    return [
        change(
            cell,
            baseline.get(cell, ()),
            candidate.get(cell, ()),
            slowdown,
            (phases_of(baseline, cell), phases_of(candidate, cell)),
        )
        for cell in chosen
    ]


def change(
    cell: CellKey,
    baseline: Sequence[Sample],
    candidate: Sequence[Sample],
    slowdown: Slowdown = UNKNOWN,
    phases: tuple[Phases, Phases] = (NO_PHASES, NO_PHASES),
) -> Change:
    """Compare the samples of one cell; either side may be empty, but not both.

    Args:
        cell: what they are samples of.
        baseline: one side, in any order.
        candidate: the other.
        slowdown: of the host, when the candidate was measured.
        phases: of a start, on both sides.
    """
    x, y = measured(baseline), measured(candidate)
    left, right = _side(x, baseline), _side(y, candidate)
    failure_p = 1.0
    if left.launched and right.launched:
        failure_p = share_test(left.launched, left.failed, right.launched, right.failed)
    if not len(x) or not len(y):
        return Change(cell, left, right, None, failure_p, None, (), slowdown)
    return Change(
        cell=cell,
        baseline=left,
        candidate=right,
        movement=movement(cell, x, y, phases),
        failure_p=failure_p,
        effect=cliffs_delta(x, y),
        quantiles=tuple(quantile_differences(x, y)),
        slowdown=slowdown,
    )


def movement(
    cell: CellKey,
    baseline: Values,
    candidate: Values,
    phases: tuple[Phases, Phases] = (NO_PHASES, NO_PHASES),
) -> Movement:
    """The tests of one cell, without the figures that only describe it.

    Where all values are equal no test is made, and below 20 values a side that of the shift alone: they could
    find nothing, and would only make it harder for the others that are judged with them. Where values come in
    steps, as sizes do in pages, so that fewer than half of them differ, the best ones have nothing to tell
    that the middle has not. That is decided by the values of both sides together, and so favours none.

    Raises:
        ValueError: a side is empty.
    """
    shift = hodges_lehmann(baseline, candidate)
    different = len(np.unique(np.concatenate([baseline, candidate])))
    if different == 1:
        return Movement(shift, Tests(None))
    p = mann_whitney(baseline, candidate)
    if min(len(baseline), len(candidate)) < FEWEST:
        return Movement(shift, Tests(p))
    # Without the shift, which is tested by itself: a tail has changed only if it did not just move along.
    aligned = candidate - shift.value
    worse = worse_direction(cell)
    at = TAIL if worse > 0 else 1 - TAIL
    tail = float(np.quantile(aligned, at) - np.quantile(baseline, at))
    tail_p = quantile_test(worse * baseline, worse * aligned, TAIL)
    if 2 * different < len(baseline) + len(candidate):
        return Movement(shift, Tests(p, tail_p), tail)
    base_p, base = base_test(baseline, candidate, -worse), base_shift(baseline, candidate, -worse)
    phase = phase_shift(*phases, fewest=FEWEST)
    return Movement(shift, Tests(p, tail_p, base_p, phase and phase.p), tail, base, phase)


def _side(values: Values, samples: Sequence[Sample]) -> Side:
    return Side(
        n=len(values),
        failed=sum(sample.status == "failed" and not sample.warmup for sample in samples),
        launched=sum(not sample.warmup for sample in samples),
        median=float(np.median(values)) if len(values) else math.nan,
        modes=tuple(modes(values)),
    )
