"""Two runs: the change of every cell with a verdict, all tests judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pybench.harness.comparison.attribution import Attribution, attributions
from pybench.harness.comparison.cells import Change, Movement, change
from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.multiplicity import benjamini_hochberg
from pybench.harness.comparison.pace import RATES, UNKNOWN, Slowdown, unexplained
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, cells

Verdict = Literal["faster", "slower", "smaller", "larger", "same", "inconclusive"]
"""Times and rates are faster or slower, sizes and counts smaller or larger."""
FALSE_DISCOVERY_RATE: Final = 0.05
SHIFT: Final = "shift"
"""What a verdict rests on."""
HOST: Final = "a change is supported, but no larger than the limit and what the host itself changed by"
_SMALLER: Final = "a change is supported, but it is smaller than the limit"


@dataclass(frozen=True, slots=True)
class Judged:
    """The change of one cell and what is to be said of it."""

    change: Change
    adjusted_p: float
    """Of the shift, after Benjamini and Hochberg over all tests of the comparison."""
    adjusted_tail_p: float
    margin: float
    """What a change must exceed, in the cell's unit; beside `explained`, where it has the same direction."""
    tail_margin: float
    """What the tail must move further than the rest, in the cell's unit."""
    detectable: float | None
    """The smallest shift that the comparison would find with 80 % probability, if nothing else changed."""
    verdict: Verdict
    worse: bool
    """Whether the verdict is for the worse."""
    reason: str
    """What the verdict rests on, or why there is none."""
    explained: Slowdown = UNKNOWN
    """How far the host's own pace may have moved the cell, in its unit."""

    @property
    def only_the_limit_hides(self) -> bool:
        """Whether a shift for the worse is supported, but smaller than the limit."""
        shift = self.change.shift
        return (
            self.reason == _SMALLER
            and shift is not None
            and shift.low * shift.high > 0
            and shift.value * worse_direction(self.change.cell) > 0
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that changed between two runs."""

    cells: tuple[Judged, ...]
    attributions: tuple[Attribution, ...]
    rate: float
    """The false discovery rate of the verdicts."""
    slowdown: Slowdown = UNKNOWN
    """Of the host, in the candidate's run."""


def compare(
    baseline: Sequence[Sample],
    candidate: Sequence[Sample],
    limits: Limits | None = None,
    rate: float = FALSE_DISCOVERY_RATE,
    slowdown: Slowdown = UNKNOWN,
) -> Comparison:
    """Compare all cells of two runs; cells of which neither side has a launch that counts are left out.

    A cell has changed if its shift, or its upper tail, is supported at the false discovery rate over all
    cells and is larger than the limit; if the host changed in the same direction, larger than both together.
    It is the same if the whole interval of the shift lies within the limit. All else is inconclusive.

    Args:
        baseline: all samples of one run.
        candidate: those of the other.
        limits: what a change must exceed; without them, the usual ones.
        rate: of false discoveries.
        slowdown: of the host, in the candidate's run.
    """
    left, right = cells(baseline), cells(candidate)
    changes = [
        change(cell, left.get(cell, []), right.get(cell, []), slowdown)
        for cell in dict.fromkeys([*left, *right])
        if any(not sample.warmup for sample in [*left.get(cell, []), *right.get(cell, [])])
    ]
    return Comparison(
        judge(changes, limits or Limits(), rate), tuple(attributions(baseline, candidate)), rate, slowdown
    )


def judge(changes: Sequence[Change], limits: Limits, rate: float) -> tuple[Judged, ...]:
    """The verdicts of changes whose tests are judged together."""
    adjusted = benjamini_hochberg([*(each.p for each in changes), *(each.tail_p for each in changes)])
    tails = adjusted[len(changes) :]
    return tuple(
        _judged(each, (p, tail_p), limits, rate, len(adjusted))
        for each, p, tail_p in zip(changes, adjusted, tails, strict=False)
    )


def _judged(each: Change, adjusted: tuple[float, float], limits: Limits, rate: float, tests: int) -> Judged:
    limit, median = limits.of(each.cell), each.baseline.median if each.baseline.n else 0.0
    margin, tail_margin = limit.margin(median), limit.tail_margin(median)
    detectable = each.detectable(rate / tests)
    if each.shift is None:
        side = "baseline" if not each.baseline.n else "candidate"
        reason = f"the {side} has no value that counts"
        return Judged(each, *adjusted, margin, tail_margin, detectable, "inconclusive", False, reason)
    moved = Movement(each.shift, each.p, each.tail_p, each.tail_shift)
    explained = each.slowdown.explains(each.cell, median)
    direction, reason = direction_of(moved, adjusted, limit, median, rate=rate, explained=explained)
    if direction:
        verdict, worse = _words(each.cell, direction)
    else:
        within = -margin <= each.shift.low and each.shift.high <= margin
        verdict, worse = ("same" if within else "inconclusive"), False
    return Judged(each, *adjusted, margin, tail_margin, detectable, verdict, worse, reason, explained)


def direction_of(
    moved: Movement,
    adjusted: tuple[float, float],
    limit: Limit,
    median: float,
    *,
    rate: float,
    explained: Slowdown = UNKNOWN,
) -> tuple[int, str]:
    """1 if the candidate is larger, -1 if it is smaller, 0 if neither is shown; and what that rests on.

    Args:
        moved: shift and tail, with their tests.
        adjusted: the p-values of the two tests, after those of all cells.
        limit: what a change must exceed.
        median: the baseline's.
        rate: of false discoveries.
        explained: how far the host's own pace may have moved the cell, in its unit.
    """
    shift, tail = moved.shift.value, moved.tail_shift
    margin, tail_margin = limit.margin(median), limit.tail_margin(median)
    supported, tail_supported = (p <= rate for p in adjusted)
    if supported and unexplained(shift, explained.median) > margin:
        return (1 if shift > 0 else -1), SHIFT
    if tail_supported and unexplained(tail, explained.tail) > tail_margin:
        return (1 if tail > 0 else -1), "tail"
    if (supported and abs(shift) > margin) or (tail_supported and abs(tail) > tail_margin):
        return 0, HOST
    return 0, _SMALLER if supported or tail_supported else ""


def worse_direction(cell: CellKey) -> int:
    """1 where more is worse, which is everything but rates; -1 for these."""
    return -1 if cell[3] in RATES else 1


def _words(cell: CellKey, direction: int) -> tuple[Verdict, bool]:
    """The word for a change in this direction, and whether it is for the worse."""
    worse = direction == worse_direction(cell)
    if cell[3] == "s" or cell[3] in RATES:
        return ("slower" if worse else "faster"), worse
    return ("larger" if direction > 0 else "smaller"), worse
