"""Two runs: the change of every cell with a verdict, all tests judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pybench.harness.comparison.attribution import Attribution, attributions
from pybench.harness.comparison.cells import Change, Movement, changes
from pybench.harness.comparison.direction import RATES, TIMES, worse_direction
from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.multiplicity import Adjusted, Tests, adjusted
from pybench.harness.comparison.pace import UNKNOWN, Slowdown, unexplained
from pybench.harness.comparison.shift import Shift
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, cells

Verdict = Literal["faster", "slower", "smaller", "larger", "same", "inconclusive"]
"""Times and rates are faster or slower, sizes and counts smaller or larger."""
FALSE_DISCOVERY_RATE: Final = 0.05
SHIFT: Final = "shift"
TAIL: Final = "tail"
BASE: Final = "base"
PHASE: Final = "phase"
"""What a verdict rests on."""
HOST: Final = "a change is supported, but no larger than the limit and what the host itself changed by"
_NONE: Final = Tests(None)
_SMALLER: Final = "a change is supported, but it is smaller than the limit"


@dataclass(frozen=True, slots=True)
class Judged:
    """The change of one cell and what is to be said of it."""

    change: Change
    adjusted: Adjusted
    """After Benjamini and Hochberg over all tests of the comparison."""
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
    source: str = SHIFT
    """Which shift tells most: that of the middle, of the base or of a phase."""
    explained: Slowdown = UNKNOWN
    """How far the host's own pace may have moved the cell, in its unit."""

    @property
    def telling(self) -> tuple[Shift, float] | None:
        """The shift that the verdict rests on, or that tells most where it rests on none, with its p-value.

        None where a side is empty.
        """
        moved = self.change.movement
        if moved is None:
            return None
        others = {
            BASE: (moved.base, self.adjusted.base),
            PHASE: (moved.phase and moved.phase.shift, self.adjusted.phase),
        }
        shift, p = others.get(self.source, (None, 1.0))
        return (moved.shift, self.adjusted.shift) if shift is None else (shift, p)

    @property
    def told_by(self) -> str:
        """What tells it, if not the middle: `base`, or e.g. `phase exec given the others`."""
        moved = self.change.movement
        if self.source == PHASE and moved is not None and moved.phase is not None:
            return f"phase {moved.phase.phase} given the others"
        return BASE if self.source == BASE else ""

    @property
    def only_the_limit_hides(self) -> bool:
        """Whether a shift for the worse is supported, but smaller than the limit."""
        if self.reason != _SMALLER or self.telling is None:
            return False
        shift, _ = self.telling
        return shift.low * shift.high > 0 and shift.value * worse_direction(self.change.cell) > 0


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

    A cell has changed if its shift, in the middle or as the best values tell it, its upper tail, or one phase
    of a start is supported at the false discovery rate over all cells and is larger than the limit; if the
    host changed in the same direction, larger than both together. It is the same if the whole interval of the
    shift lies within the limit. All else is inconclusive.

    Args:
        baseline: all samples of one run.
        candidate: those of the other.
        limits: what a change must exceed; without them, the usual ones.
        rate: of false discoveries.
        slowdown: of the host, in the candidate's run.
    """
    left, right = cells(baseline), cells(candidate)
    chosen = [
        cell
        for cell in dict.fromkeys([*left, *right])
        if any(not sample.warmup for sample in [*left.get(cell, []), *right.get(cell, [])])
    ]
    judged = judge(changes(left, right, chosen, slowdown), limits or Limits(), rate)
    return Comparison(judged, tuple(attributions(baseline, candidate)), rate, slowdown)


def judge(changes: Sequence[Change], limits: Limits, rate: float) -> tuple[Judged, ...]:
    """The verdicts of changes whose tests are judged together."""
    together = adjusted([each.movement.tests if each.movement else _NONE for each in changes])
    number = sum(p is not None for each in changes if each.movement for p in each.movement.tests)
    return tuple(
        _judged(each, p_values, limits, rate, max(1, number))
        for each, p_values in zip(changes, together, strict=True)
    )


def _judged(each: Change, p_values: Adjusted, limits: Limits, rate: float, tests: int) -> Judged:
    limit, median = limits.of(each.cell), each.baseline.median if each.baseline.n else 0.0
    margin, tail_margin = limit.margin(median), limit.tail_margin(median)
    detectable = each.detectable(rate / tests)
    moved = each.movement
    if moved is None:
        side = "baseline" if not each.baseline.n else "candidate"
        reason = f"the {side} has no value that counts"
        return Judged(each, p_values, margin, tail_margin, detectable, "inconclusive", False, reason)
    explained = each.slowdown.explains(each.cell, median)
    direction, reason, source = decide(
        each.cell, moved, p_values, limit, median, rate=rate, explained=explained
    )
    if direction:
        verdict, worse = _words(each.cell, direction)
    elif -margin <= moved.shift.low and moved.shift.high <= margin:
        # Read off the interval of the shift in the middle.
        verdict, worse, source = "same", False, SHIFT
    else:
        verdict, worse = "inconclusive", False
    if source == PHASE and moved.phase is not None:
        margin = limit.phase_margin(median, moved.phase.scatter)
    return Judged(each, p_values, margin, tail_margin, detectable, verdict, worse, reason, source, explained)


class Decision(NamedTuple):
    """What is to be said of a change."""

    direction: int
    """1 if the candidate is larger, -1 if it is smaller, 0 if neither is shown."""
    reason: str
    """What that rests on, or why it is not shown."""
    source: str
    """Of the shifts that are supported, the one that tells most; that of the middle where none is."""


def decide(
    cell: CellKey,
    moved: Movement,
    p_values: Adjusted,
    limit: Limit,
    median: float,
    *,
    rate: float,
    explained: Slowdown = UNKNOWN,
) -> Decision:
    """Whether a change is shown, and what that rests on.

    The shift in the middle outweighs the others: who made everything faster but a few launches has made
    nothing worse. Of the others, which leave the middle undecided, one for the worse outweighs one for the
    better. A phase counts as long as the whole start may have changed by more than the limit as well.

    Args:
        cell: what has changed.
        moved: the changes, with their tests.
        p_values: of the tests, after those of all cells.
        limit: what a change must exceed.
        median: the baseline's.
        rate: of false discoveries.
        explained: how far the host's own pace may have moved the cell, in its unit.
    """
    margin, tail_margin = limit.margin(median), limit.tail_margin(median)
    base = 0.0 if moved.base is None else moved.base.value
    shift = _Ground(SHIFT, p_values.shift, moved.shift.value, margin, explained.median)
    others = [
        _Ground(TAIL, p_values.tail, moved.tail, tail_margin, explained.tail),
        _Ground(BASE, p_values.base, base, margin, explained.median),
    ]
    if moved.phase is not None:
        phase_margin = limit.phase_margin(median, moved.phase.scatter)
        part = moved.phase.scatter * explained.median
        if _leaves_room(moved, moved.phase.shift.value, phase_margin, explained.median):
            others.append(_Ground(PHASE, p_values.phase, moved.phase.shift.value, phase_margin, part))
    others.sort(key=lambda ground: ground.moved * worse_direction(cell) < 0)
    supported = [ground for ground in (shift, *others) if ground.p <= rate]
    for ground in supported:
        if unexplained(ground.moved, ground.explained) > ground.margin:
            source = SHIFT if ground.reason == TAIL else ground.reason
            return Decision(1 if ground.moved > 0 else -1, ground.reason, source)
    if any(abs(ground.moved) > ground.margin for ground in supported):
        return Decision(0, HOST, SHIFT)
    shifts = [ground for ground in supported if ground.reason != TAIL]
    clearest = min(shifts, key=lambda ground: ground.p, default=shift)
    return Decision(0, _SMALLER if supported else "", clearest.reason)


def _leaves_room(moved: Movement, change: float, margin: float, explained: float) -> bool:
    """Whether the whole start may have changed beyond the limit, too, in the direction in which a phase did.

    If it surely has not, another phase has made up for it, unless the host did, which moved the other way.
    """
    shifts = [each for each in (moved.shift, moved.base) if each is not None]
    if change > 0:
        return min(each.high for each in shifts) - min(0.0, explained) > margin
    return max(each.low for each in shifts) - max(0.0, explained) < -margin


class _Ground(NamedTuple):
    """What a verdict may rest on."""

    reason: str
    p: float
    moved: float
    margin: float
    explained: float


def _words(cell: CellKey, direction: int) -> tuple[Verdict, bool]:
    """The word for a change in this direction, and whether it is for the worse."""
    worse = direction == worse_direction(cell)
    if cell[3] in TIMES | RATES:
        return ("slower" if worse else "faster"), worse
    return ("larger" if direction > 0 else "smaller"), worse
