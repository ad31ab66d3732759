"""What the host's own pace explains of a change; pure.

The pace of a launch is the time that a fixed piece of work took right before it. Whole runs of one container
start follow it: on the reference host, with other tenants on the other halves of its cores, the logarithm of
a run's median follows that of its pace by 0.77 (correlation 0.89 over 80 runs). Single launches hardly do:
a neighbour comes and goes within one. So nothing is subtracted from any sample. But a change in the direction
in which the host moved, and by no more than that, is not held against what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final, NamedTuple

from pybench.harness.comparison.direction import RATES, TIMES

if TYPE_CHECKING:
    from pybench.harness.stats import CellKey

_PARTS: Final = 10
"""Of the values, of which the last begins at the quantile that is tested for tails."""


def median_and_tail(values: Sequence[float], worse: int = 1) -> tuple[float, float]:
    """The median, and the 90th percentile, or the 10th, less that: how far the worst tenth lies from it.

    Args:
        values: at least one.
        worse: 1 where more is worse, -1 where less is.
    """
    # Of a year of nights NumPy's quantiles take ten times as long: each of them has few values.
    middle = median(values)
    ends = quantiles(values, n=_PARTS, method="inclusive") if len(values) > 1 else [middle]
    tail = ends[-1 if worse > 0 else 0] - middle
    return middle, tail


class Pace(NamedTuple):
    """Of one run, in seconds."""

    median: float
    tail: float
    """How far the 90th percentile lies above the median."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Pace | None:
        """Of the launches of a run; None if nothing is known of it, or what is told cannot be a time."""
        pace = cls(*median_and_tail(seconds)) if seconds else None
        return pace if pace is not None and pace.median > 0 else None


class Slowdown(NamedTuple):
    """By what share of its pace the host was slower in one run than in another; negative if it was faster."""

    median: float = 0.0
    tail: float = 0.0
    """How much further the tail lies from the median."""

    @classmethod
    def between(cls, before: Pace | None, after: Pace | None) -> Slowdown:
        """Nothing where one of them is not known."""
        if before is None or after is None:
            return UNKNOWN
        return cls(after.median / before.median - 1, (after.tail - before.tail) / before.median)

    def explains(self, cell: CellKey, level: float) -> Slowdown:
        """How far a cell is moved that follows the pace fully, in its unit, from the level that it had."""
        if cell[3] in TIMES:
            return Slowdown(level * self.median, level * self.tail)
        if cell[3] in RATES:
            return Slowdown(level * (1 / (1 + self.median) - 1), -level * self.tail)
        return UNKNOWN


UNKNOWN: Final = Slowdown()


def unexplained(moved: float, explained: float) -> float:
    """The size of a change without what the host explains, where both have the same direction."""
    return max(0.0, abs(moved) - (abs(explained) if moved * explained > 0 else 0.0))
