"""How a run stands against its past, as a report tells it; drawn from a `Standing`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pybench.harness.comparison.direction import worse_direction
from pybench.harness.comparison.runs import Judged
from pybench.harness.gate.check import FAILING, Finding, Kind
from pybench.harness.gate.standing import Standing
from pybench.harness.gate.verdicts import UNIT
from pybench.harness.stats import CellKey
from pybench.reports.colours import Ink
from pybench.reports.figures import Figure
from pybench.reports.numbers import DASH, one_line, percent_change, quantity, single, tied
from pybench.reports.slowdown import slowdown_told
from pybench.reports.trends import Trend, trend_figure, trends
from pybench.reports.vocabulary import metric_order, metric_text, target_order

MOST_PANELS = 8
_WORDS: Mapping[Kind, str] = {
    "regression": "worse than its baseline by more than the limit",
    "maximum": "above the largest value that is allowed",
    "drift": "worse than an older baseline, in steps too small to see",
    "failures": "fails more often than its baseline",
    "change point": "on a level for the worse for the last runs",
    "leak": "leaks what it did not leak before",
    "missing": "no longer measured",
    "host": "worse by more than the limit, as the host itself was",
    "unsupported": "worse by more than the limit, which too few samples support",
}
_OUTCOMES = {
    "pass": "No cell is worse than the baseline by more than its limit.",
    "regression": "At least one cell is worse than it may be.",
    "inconclusive": "Whether a cell is worse than it may be cannot be told from these samples.",
}


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One cell beside its limit, in words."""

    target: str
    cell: str
    baseline: str
    candidate: str
    shift: str
    """With its interval."""
    told_by: str
    """What the shift is that of, if not the middle's; or nothing."""
    limit: str
    verdict: str
    worse: bool
    p: str


@dataclass(frozen=True, slots=True)
class History:
    """What the section on history shows."""

    baseline: str
    """The id of the baseline; empty where there is none."""
    outcome: str
    host: str
    """That the host itself was slower or faster, or nothing."""
    forbidding: tuple[str, ...]
    findings: tuple[str, ...]
    rows: tuple[VerdictRow, ...]
    figure: Figure | None
    unshown: int
    """Cells with a trend that the figure has no room for."""


def history(standing: Standing, inks: Mapping[str, Ink]) -> History | None:
    """The past of a run; None where it has none."""
    if standing.baseline is None and not any(len(each) > 1 for each in standing.series.values()):
        return None
    result = standing.result
    limits = {each.change.cell: _limit(each) for each in result.cells if each.change.shift} if result else {}
    quantities = {
        cell: [(night.run, night.median) for night in nights]
        for cell, nights in standing.series.items()
        if cell[3] != UNIT
    }
    found = sorted(trends(quantities, limits), key=lambda trend: _order(trend.cell))
    shown = _most_telling(found)
    return History(
        baseline=one_line(standing.baseline.id, 80) if standing.baseline else "",
        outcome=_outcome(standing),
        host=slowdown_told(result.slowdown) if result else "",
        forbidding=tuple(one_line(each) for each in standing.forbidding),
        findings=tuple(map(_said, sorted(result.findings, key=_gravity))) if result else (),
        rows=tuple(verdict_rows([each for each in result.cells if each.change.cell[3] != UNIT]))
        if result
        else (),
        figure=trend_figure(shown, inks, standing.started, "history") if shown else None,
        unshown=len(found) - len(shown),
    )


def verdict_rows(cells: Sequence[Judged]) -> list[VerdictRow]:
    """Every cell of a comparison, the ones for the worse first."""
    ordered = sorted(cells, key=lambda each: (not each.worse, _order(each.change.cell)))
    return [_verdict(each) for each in ordered]


def _outcome(standing: Standing) -> str:
    if standing.baseline is None:
        return "There is no baseline to hold this run against: `pybench history tag RUN main` makes one."
    if standing.result is None:
        return "This run is not held against its baseline, since they are not alike."
    return _OUTCOMES[standing.result.outcome]


def _gravity(finding: Finding) -> tuple[bool, tuple[int, str]]:
    return finding.kind not in FAILING, metric_order(finding.cell[2])


def _said(finding: Finding) -> str:
    workload, target, metric, _, parameters = finding.cell
    of = ", ".join(each for each in (workload, parameters) if each)
    why = f": {one_line(finding.said, 200)}" if finding.said else ""
    told = _told_by(finding.judged) if finding.judged else ""
    said = ", ".join(each for each in (_WORDS[finding.kind], told) if each)
    return tied(f"{one_line(target, 40)}, {metric_text(metric).title} ({one_line(of)}): {said}{why}.")


def _told_by(each: Judged) -> str:
    return f"by the {one_line(each.told_by, 48)}" if each.told_by else ""


def _verdict(each: Judged) -> VerdictRow:
    change = each.change
    workload, target, metric, unit, parameters = change.cell
    of = ", ".join(part for part in (workload, parameters) if part)
    shift, p = DASH, DASH
    if each.telling is not None:
        moved_by, value = each.telling
        p = f"{value:.1g}"
        ends = moved_by.low, moved_by.high
        # By the larger end: a shift near 0 has no digits of its own.
        moved = quantity(max(*ends, key=abs), *ends, unit)
        shift = f"{_signed(moved.alike(moved_by.value))} ({moved.low} to {moved.high} {moved.unit})"
        if change.baseline.median > 0:
            shift += f", {percent_change(moved_by.value / change.baseline.median)}"
    return VerdictRow(
        target=one_line(target, 40),
        cell=f"{metric_text(metric).title} ({one_line(of)})",
        baseline=_median(change.baseline.median, unit),
        candidate=_median(change.candidate.median, unit),
        shift=tied(shift),
        told_by=_told_by(each),
        limit=single(each.margin, unit, 2) if math.isfinite(each.margin) else DASH,
        verdict=each.verdict,
        worse=each.worse,
        p=p,
    )


def _signed(text: str) -> str:
    return text if text.startswith(("-", "−")) else f"+{text}"


def _median(value: float, unit: str) -> str:
    return single(value, unit) if math.isfinite(value) else DASH


def _limit(each: Judged) -> float:
    """Where a change for the worse begins to count."""
    return each.change.baseline.median + worse_direction(each.change.cell) * each.margin


def _most_telling(found: Sequence[Trend]) -> list[Trend]:
    """Those whose level changed before the others, as many as there is room for, in their fixed order."""
    chosen = sorted(found, key=lambda trend: not trend.points)[:MOST_PANELS]
    return [trend for trend in found if trend in chosen]


def _order(cell: CellKey) -> tuple[tuple[int, str], str, str, tuple[int, str]]:
    workload, target, metric, _, parameters = cell
    return metric_order(metric), workload, parameters, target_order(target)
