"""A change in one phase of a start, told by how the other phases of the same launch went; pure.

What disturbs a launch, a neighbour on the other half of the core above all, disturbs most of its phases: on
the reference host their rank correlation within a run is 0.6 to 0.8. A regression is in one of them. So the
others tell how long this one should have taken in this very launch, and what it took beyond that scatters far
less than it does itself, and less again than the whole start does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.attribution import PREFIX, TOTAL, start_of
from pybench.harness.comparison.ranks import Values, cliffs_delta, mann_whitney
from pybench.harness.comparison.shift import Shift, hodges_lehmann
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, counts

Phases = Mapping[str, Values]
"""Seconds of each phase by its name without the prefix, of shape (launches,), launches in one order."""
NO_PHASES: Final[Phases] = {}
_MIDDLE: Final = (0.16, 0.84)
"""Quantiles between which two standard deviations of normal values lie."""
_ENDS: Final = (0.05, 0.95)
"""Quantiles at which values are cut where they tell of others: one interrupt says nothing of other phases."""


class PhaseShift(NamedTuple):
    """The phase that changed most clearly, and by how much, in seconds."""

    phase: str
    shift: Shift
    """Of what the other phases of a launch leave unexplained."""
    p: float
    """That no phase changed by itself."""
    scatter: float
    """Of what is left unexplained, as a share of what whole starts scatter by; at most 1."""


def phases_of(found: Mapping[CellKey, Sequence[Sample]], cell: CellKey) -> Phases:
    """The phases of the launches that count, of a whole start; of any other cell, none.

    Args:
        found: the samples of each cell.
        cell: one of them.
    """
    if cell[2] != TOTAL:
        return NO_PHASES
    by_order = {
        each[2].removeprefix(PREFIX): {sample.order: sample.value for sample in samples if counts(sample)}
        for each, samples in found.items()
        if each[2].startswith(PREFIX) and start_of(each) == start_of(cell)
    }
    if not by_order:
        return NO_PHASES
    whole = sorted(set.intersection(*map(set, by_order.values())))
    return {
        name: np.array([values[order] for order in whole], dtype=np.float64)
        for name, values in by_order.items()
    }


def phase_shift(baseline: Phases, candidate: Phases, fewest: int) -> PhaseShift | None:
    """The change of the one phase that changed most clearly, given the others.

    Of each phase is taken what a linear function of the others leaves, fitted to both sides together: if
    nothing changed these residuals are exchangeable, so that the Mann–Whitney test of them keeps its level
    whatever they are distributed like. The p-value of the clearest phase is multiplied by their number
    (Bonferroni). If one phase alone changed, it is the one whose test is expected to be the clearest, since
    the others' residuals are moved only by what it tells of them (the inequality of Cauchy and Schwarz), and
    its shift is the whole change of the start.

    Args:
        baseline: the phases of one side.
        candidate: those of the other.
        fewest: launches of a side below which nothing is told.

    Returns:
        None where the sides have different phases, fewer than two that vary, or too few launches.
    """
    names = list(baseline)
    if not names or set(names) != set(candidate):
        return None
    x, y = (np.column_stack([side[name] for name in names]) for side in (baseline, candidate))
    launches = np.concatenate([x, y])
    varying = np.ptp(launches, axis=0) > 0
    if min(len(x), len(y)) < fewest or varying.sum() < 2:  # noqa: PLR2004 - one, and another to tell of it
        return None
    names = [name for name, varies in zip(names, varying, strict=True) if varies]
    launches = launches[:, varying]
    told = _cut(launches)
    left = [np.split(_unexplained(launches, told, at), [len(x)]) for at in range(len(names))]
    # By the effect, whose order is that of the p-values: of many launches several of these may be 0.
    clearest = int(np.argmax([abs(cliffs_delta(*sides).value) for sides in left]))
    # Fitted within the sides, or a little of what they differ by would be taken for what the others tell.
    centered = np.concatenate([side - side.mean(axis=0) for side in np.split(told, [len(x)])])
    before, after = np.split(_unexplained(launches, told, clearest, centered), [len(x)])
    part, whole = (sum(map(_scatter, sides)) for sides in ((before, after), (x.sum(axis=1), y.sum(axis=1))))
    return PhaseShift(
        names[clearest],
        hodges_lehmann(before, after),
        min(1.0, mann_whitney(*left[clearest]) * len(names)),
        min(1.0, part / whole) if whole else 1.0,
    )


def _scatter(values: Values) -> float:
    low, high = np.quantile(values, _MIDDLE)
    return float(high - low)


def _cut(launches: Values) -> Values:
    """The columns without their wildest values, around their means."""
    cut = np.clip(launches, *np.quantile(launches, _ENDS, axis=0))
    return np.asarray(cut - cut.mean(axis=0), dtype=np.float64)


def _unexplained(launches: Values, told: Values, at: int, fitted: Values | None = None) -> Values:
    """Of one column what a linear function of the others leaves; of shape (launches,).

    Args:
        launches: of shape (launches, phases).
        told: the same without the wildest values, which is what others are explained by.
        at: the column.
        fitted: what the weights are fitted to; without it, `told`.
    """
    fitted = told if fitted is None else fitted
    weights = np.linalg.lstsq(np.delete(fitted, at, axis=1), fitted[:, at], rcond=None)[0]
    return np.asarray(launches[:, at] - np.delete(told, at, axis=1) @ weights, dtype=np.float64)
