"""How large a change must be to count, whatever its p-value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pybench.harness.stats import CellKey


@dataclass(frozen=True, slots=True)
class Limit:
    """A change counts only if it is larger than both."""

    relative: float
    """Of the baseline's median."""
    absolute: float
    """In the cell's unit: the floor below which nobody cares."""
    maximum: float | None = None
    """What the median may not exceed at all, whatever the baseline; in the cell's unit."""
    tail: float | None = None
    """As `relative`, for what the tail moves further than the rest; None for the same."""
    usual: float | None = None
    """What `relative` was before nights that differ made it wider; None where they did not."""

    def margin(self, baseline_median: float) -> float:
        """What a change must exceed, in the cell's unit."""
        return max(self.relative * abs(baseline_median), self.absolute)

    def tail_margin(self, baseline_median: float) -> float:
        """What the tail must move further than the rest, in the cell's unit."""
        share = self.relative if self.tail is None else self.tail
        return max(share * abs(baseline_median), self.absolute)

    def phase_margin(self, baseline_median: float, scatter: float) -> float:
        """What the change of one phase must exceed, given the others, in the cell's unit.

        Args:
            baseline_median: of the whole start.
            scatter: of the phase given the others, as a share of the start's: nights differ by no more of it.
        """
        usual = self.relative if self.usual is None else self.usual
        share = max(usual, scatter * self.relative)
        return max(share * abs(baseline_median), self.absolute)


DEFAULTS: Final[Mapping[str, Limit]] = {
    "s": Limit(relative=0.03, absolute=20e-6),
    "B": Limit(relative=0.01, absolute=64 * 1024.0),
}
"""By unit. A regression of 5 % must not hide behind a limit that its estimate reaches half of the time."""
OTHERWISE: Final = Limit(relative=0.03, absolute=0.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of all cells; the most specific one that there is counts."""

    of_unit: Mapping[str, Limit] = field(default_factory=lambda: DEFAULTS)
    of_metric: Mapping[str, Limit] = field(default_factory=dict)
    of_cell: Mapping[tuple[str, str, str, str], Limit] = field(default_factory=dict)
    """By workload, target, metric and label of the parameters; with an empty one, for all values of them."""

    def of(self, cell: CellKey) -> Limit:
        """The limit of one cell."""
        workload, target, metric, unit, label = cell
        names = (workload, target, metric)
        of_cell = self.of_cell.get((*names, label)) or self.of_cell.get((*names, ""))
        return of_cell or self.of_metric.get(metric) or self.of_unit.get(unit, OTHERWISE)
