"""How much runs of the same thing differ on this host, and what the gate makes of that; pure and seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.cells import Movement, movement
from pybench.harness.comparison.direction import worse_direction
from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.multiplicity import Adjusted, adjusted, alone
from pybench.harness.comparison.pace import Slowdown, unexplained
from pybench.harness.comparison.phases import Phases, phases_of
from pybench.harness.comparison.ranks import Values
from pybench.harness.comparison.runs import decide
from pybench.harness.fields import MOST_SHARE
from pybench.harness.gate.check import GateSettings, Measured
from pybench.harness.gate.verdicts import is_verdict
from pybench.harness.stats import CellKey, cells, measured

FEWEST_RUNS: Final = 4
HEADROOM: Final = 2.0
"""A calibrated limit is this much above the largest difference seen: the next night may be wilder."""
POWER: Final = 0.95
_TRIED: Final = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Regressions, as shares, of which the smallest that is detected is told."""
_NIGHTS_PER_CELL: Final = 60


class _Cell(NamedTuple):
    """What one run measured of one cell."""

    values: Values
    phases: Phases
    """Of a start."""

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def times(self, factor: float) -> _Cell:
        """As if all of it had changed by a factor."""
        return _Cell(self.values * factor, {name: each * factor for name, each in self.phases.items()})


_Run = Mapping[CellKey, _Cell]
_Night = tuple[int, int]
"""The positions of two runs, the baseline first."""
_Slowdowns = Mapping[_Night, Slowdown]
_Differences = Mapping[_Night, tuple[float, float]]
"""Of every two runs the shift and the tail's own, as shares, without what the host's pace explains."""


@dataclass(frozen=True, slots=True)
class CalibratedCell:
    """One cell: what was seen between runs, and what follows."""

    cell: CellKey
    largest: float
    """The largest shift between two runs, as a share of the median."""
    limit: Limit
    detected: float | None
    """The smallest regression, as a share, that 95 % of the nights detect; None if not even +500 % is."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result for one scenario on one host."""

    runs: int
    nights: int
    alarms: int
    bound: float
    """Upper end of the 95 % interval of the rate of false alarms (Clopper and Pearson, Biometrika 1934)."""
    cells: tuple[CalibratedCell, ...]

    @property
    def limits(self) -> Limits:
        """The calibrated limits."""
        found = {}
        for each in self.cells:
            workload, target, metric, _, label = each.cell
            found[workload, target, metric, label] = each.limit
        return Limits(of_cell=found)


def calibrate(
    runs: Sequence[Measured], settings: GateSettings, nights: int = 200, seed: int = 1
) -> Calibration:
    """Limits from runs of the same thing, and how the gate fares with them on nights made of these.

    The limit of a cell is twice the largest shift between any two runs, at least the settings', and at most
    what a file of limits may say.
    A night is two of the runs, one as the baseline and the other as the candidate, and there are no more
    nights than such pairs: drawing their samples anew would double their scatter. Its limits come from all
    runs but its candidate, so that false alarms are not counted on data the limits were made for.

    Raises:
        ValueError: there are fewer than 4 runs, or they share no cell that is gated.
    """
    if len(runs) < FEWEST_RUNS:
        raise ValueError(f"a calibration needs at least {FEWEST_RUNS} runs, not {len(runs)}")
    values = [_gated(run, settings) for run in runs]
    shared = [cell for cell in values[0] if all(cell in run for run in values)]
    if not shared:
        raise ValueError("the runs share no cell that is gated")
    paces = [run.pace for run in runs]
    slowdowns = {
        (one, other): Slowdown.between(paces[one], paces[other])
        for one, other in permutations(range(len(runs)), 2)
    }
    differences = {cell: _differences(cell, values, slowdowns) for cell in shared}
    drawn = _nights(len(runs), nights, np.random.default_rng(seed))
    alarms = sum(
        _alarms(
            values[one],
            values[other],
            slowdowns[one, other],
            {cell: _limit(cell, differences[cell], settings, without=other) for cell in shared},
            settings.rate,
        )
        for one, other in drawn
    )
    cases = [(values[one], values[other], slowdowns[one, other]) for one, other in drawn[:_NIGHTS_PER_CELL]]
    found = tuple(_calibrated(cell, differences[cell], cases, settings) for cell in shared)
    return Calibration(len(runs), len(drawn), alarms, _upper_bound(alarms, len(drawn)), found)


def _nights(runs: int, wanted: int, generator: np.random.Generator) -> list[_Night]:
    """Different ordered pairs of runs, in a random order."""
    pairs = list(permutations(range(runs), 2))
    return [pairs[at] for at in generator.permutation(len(pairs))[:wanted]]


def _gated(run: Measured, settings: GateSettings) -> _Run:
    found = cells(run.samples)
    gated = {
        cell: _Cell(measured(samples), phases_of(found, cell))
        for cell, samples in found.items()
        if settings.gates(cell[2]) and not is_verdict(cell)
    }
    return {cell: of_run for cell, of_run in gated.items() if len(of_run.values)}


def _moved(cell: CellKey, baseline: _Cell, candidate: _Cell) -> Movement:
    return movement(cell, baseline.values, candidate.values, (baseline.phases, candidate.phases))


def _differences(cell: CellKey, runs: Sequence[_Run], slowdowns: _Slowdowns) -> _Differences:
    """By how much every two runs differ in their shift and in their tail, as shares of the median."""
    found = {}
    for one, other in combinations(range(len(runs)), 2):
        x, y = runs[one][cell], runs[other][cell]
        moved = _moved(cell, x, y)
        # Either of the two may become the baseline, of which the limit is a share.
        least = min(abs(x.median), abs(y.median))
        explained = slowdowns[one, other].explains(cell, x.median)
        pair = (
            max(unexplained(each.value, explained.median) for each in moved.shifts),
            unexplained(moved.tail, explained.tail),
        )
        found[one, other] = (pair[0] / least, pair[1] / least) if least else (0.0, 0.0)
    return found


def _limit(cell: CellKey, differences: _Differences, settings: GateSettings, without: int = -1) -> Limit:
    known = settings.limits.of(cell)
    pairs = [each for runs, each in differences.items() if without not in runs]
    shift = max((pair[0] for pair in pairs), default=0.0) * HEADROOM
    tail = max((pair[1] for pair in pairs), default=0.0) * HEADROOM
    usual = known.relative if known.tail is None else known.tail
    return Limit(
        max(known.relative, min(shift, MOST_SHARE)),
        known.absolute,
        known.maximum,
        max(usual, min(tail, MOST_SHARE)),
    )


def _alarms(
    baseline: _Run, candidate: _Run, slowdown: Slowdown, limits: Mapping[CellKey, Limit], rate: float
) -> bool:
    """Whether the gate would call anything a regression, though nothing is one."""
    moved = {cell: _moved(cell, baseline[cell], candidate[cell]) for cell in limits}
    together = adjusted([each.tests for each in moved.values()])
    for (cell, each), p_values in zip(moved.items(), together, strict=True):
        median = baseline[cell].median
        explained = slowdown.explains(cell, median)
        decision = decide(cell, each, p_values, limits[cell], median, rate=rate, explained=explained)
        if decision.direction == worse_direction(cell):
            return True
    return False


def _calibrated(
    cell: CellKey,
    differences: _Differences,
    cases: Sequence[tuple[_Run, _Run, Slowdown]],
    settings: GateSettings,
) -> CalibratedCell:
    limit = _limit(cell, differences, settings)
    # All tests of every cell share the rate; the worst case is that nothing else changed.
    level = settings.rate / (len(Adjusted._fields) * len(cases[0][0]))
    sides = [(baseline[cell], candidate[cell], slowdown) for baseline, candidate, slowdown in cases]
    detected = next((share for share in _TRIED if _power(cell, share, sides, limit, level) >= POWER), None)
    return CalibratedCell(cell, max(pair[0] for pair in differences.values()), limit, detected)


def _power(
    cell: CellKey, share: float, nights: Sequence[tuple[_Cell, _Cell, Slowdown]], limit: Limit, level: float
) -> float:
    """How often a regression of this share is detected; each night is a baseline and a candidate."""
    direction = worse_direction(cell)
    factor = (1 + share) ** direction
    found = 0
    for baseline, candidate, slowdown in nights:
        each = _moved(cell, baseline, candidate.times(factor))
        median, tests = baseline.median, alone(each.tests)
        explained = slowdown.explains(cell, median)
        decision = decide(cell, each, tests, limit, median, rate=level, explained=explained)
        found += decision.direction == direction
    return found / len(nights)


def _upper_bound(alarms: int, nights: int) -> float:
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import

    return 1.0 if alarms == nights else float(betaincinv(alarms + 1, nights - alarms, 0.975))
