"""Which target serves best by the reader's own weights: a table, a formula, and a ranking; pure.

A target's score by one criterion is its distance to the best one, from 0 to 1: best / value where less is
better, value / best where more is, and (best + 1) / (index + 1) for the leak index. Its total is the weighted
geometric mean of its scores, since ratios average geometrically: the order does not depend on what they are
taken against (Fleming and Wallace, "How Not to Lie with Statistics", Communications of the ACM 29, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pybench.harness.units import count
from pybench.reports.analysis import MetricTable, Report, Row
from pybench.reports.criteria import CRITERIA, ISOLATION, NEVER_RANKED, REFERENCES, Criterion
from pybench.reports.numbers import DASH

FORMULA = (
    "score = best ÷ value where less is better, value ÷ best where more is better, "
    "(best + 1) ÷ (index + 1) for the leak index; "
    "total = exp( Σ weight · ln score ÷ Σ weight )"
)
FEWEST = 2
_BEST_FROM = 0.995
_SHOWN_FROM = 0.001
_LEAST = 1e-12
"""A score never reaches 0, whose logarithm no weight could outweigh."""


class Score(NamedTuple):
    """From 0 to 1, with the scores of both ends of the value's interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """One cell of the table: what was measured, and its score; both missing where nothing was."""

    text: str
    score: Score | None


@dataclass(frozen=True, slots=True)
class Line:
    """One criterion over all targets, in the order of the decision's targets."""

    criterion: Criterion
    basis: str
    """What the scores rest on."""
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One target in the ranking."""

    target: str
    total: Score
    is_apart: bool
    """Whether its range of totals does not overlap with that of the one before."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Criteria × targets."""

    targets: tuple[str, ...]
    caveats: tuple[str, ...]
    """What must be said beside the numbers of each."""
    ranked: tuple[bool, ...]
    """Which of them are ranked at first."""
    lines: tuple[Line, ...]

    @property
    def weights(self) -> dict[str, int]:
        """The first weights by criterion."""
        return {line.criterion.id: line.criterion.weight for line in self.lines}

    @property
    def missing(self) -> tuple[str, ...]:
        """The titles of criteria that this run has no measurement of."""
        present = {line.criterion.id for line in self.lines}
        return tuple(each.title.lower() for each in CRITERIA if each.id not in present)


def decision(report: Report) -> Decision | None:
    """The decision table of a run; None where fewer than two targets can be told apart by anything."""
    targets = tuple(target for target in report.targets if target not in NEVER_RANKED)
    lines = tuple(line for criterion in CRITERIA if (line := _line(report, criterion, targets)) is not None)
    measured = tuple(
        target
        for position, target in enumerate(targets)
        if any(line.judgements[position].score for line in lines)
    )
    if len(measured) < FEWEST:
        return None
    kept = [targets.index(target) for target in measured]
    lines = tuple(
        Line(line.criterion, line.basis, tuple(line.judgements[position] for position in kept))
        for line in lines
    )
    chosen = tuple(target not in REFERENCES for target in measured)
    caveats = tuple("; ".join(_caveats(report, target)) for target in measured)
    return Decision(measured, caveats, chosen if sum(chosen) >= FEWEST else (True,) * len(measured), lines)


def ranking(
    decided: Decision, weights: Mapping[str, float], ranked: Sequence[bool] | None = None
) -> tuple[Place, ...]:
    """The targets by their totals, the best first; one without a score that has weight is left out."""
    totals = []
    for position, target in enumerate(decided.targets):
        if not (ranked or decided.ranked)[position]:
            continue
        total = _total(decided, position, weights)
        if total is not None:
            totals.append((target, total))
    totals.sort(key=lambda item: -item[1].value)
    return tuple(
        Place(target, total, index == 0 or total.high < totals[index - 1][1].low)
        for index, (target, total) in enumerate(totals)
    )


def score_text(score: float) -> str:
    """With two digits, which is what a choice can rest on."""
    if score >= _BEST_FROM:
        return "1"
    return f"{score:.2g}" if score >= _SHOWN_FROM else f"< {_SHOWN_FROM}"


def _total(decided: Decision, position: int, weights: Mapping[str, float]) -> Score | None:
    parts = [(weights.get(line.criterion.id, 0.0), line.judgements[position].score) for line in decided.lines]
    of_weight = [(weight, score) for weight, score in parts if weight > 0]
    whole = sum(weight for weight, _ in of_weight)
    scores = [(weight, score) for weight, score in of_weight if score is not None]
    if not whole or len(scores) < len(of_weight):
        return None
    return Score(
        *(
            math.exp(sum(weight * math.log(score[end]) for weight, score in scores) / whole)
            for end in range(3)
        )
    )


def _caveats(report: Report, target: str) -> tuple[str, ...]:
    rows = [row for table in report.tables if (row := table.row(target)) is not None]
    tally = report.isolation.tally(target) if report.isolation else None
    words = [*(row.said for row in rows), *([tally.said] if tally else [])]
    return tuple(dict.fromkeys(caveat for each in words for caveat in each.caveats))


def _line(report: Report, criterion: Criterion, targets: Sequence[str]) -> Line | None:
    """The first alternative that tells at least two of the targets apart."""
    if criterion.id == ISOLATION:
        return _isolation_line(report, criterion, targets)
    for name in criterion.metrics:
        tables = [
            table
            for table in report.tables
            if (table.metric.startswith(name) if name.endswith(".") else table.metric == name)
            and sum(table.row(target) is not None for target in targets) >= FEWEST
        ]
        if tables:
            return Line(criterion, _basis(tables), tuple(_judged(criterion, tables, targets)))
    return None


def _isolation_line(report: Report, criterion: Criterion, targets: Sequence[str]) -> Line | None:
    """By the leak index; it has no interval, since verdicts do not scatter."""
    found = report.isolation
    tallies = [found.tally(target) if found else None for target in targets]
    indices = [tally.index if tally else None for tally in tallies]
    known = [index for index in indices if index is not None]
    if len(known) < FEWEST:
        return None
    judgements = []
    for index in indices:
        if index is None:
            judgements.append(Judgement(DASH, None))
        else:
            score = (min(known) + 1) / (index + 1)
            judgements.append(Judgement(f"{index:.1f}", Score(score, score, score)))
    return Line(criterion, "Leak index, 0 to 100", tuple(judgements))


def _basis(tables: Sequence[MetricTable]) -> str:
    if len(tables) == 1:
        return tables[0].text.title
    return f"geometric mean over {count(len(tables), 'table')} of {tables[0].text.title} and others"


def _judged(criterion: Criterion, tables: Sequence[MetricTable], targets: Sequence[str]) -> list[Judgement]:
    judgements = []
    for target in targets:
        rows = [row for table in tables if (row := table.row(target)) is not None]
        scores = [
            _score(criterion, row, _best(criterion, table, targets))
            for table in tables
            if (row := table.row(target)) is not None
        ]
        # A mean over other tables than the others' would compare unlike things.
        known = [each for each in scores if each is not None]
        if len(known) < len(tables):
            judgements.append(Judgement(rows[0].median if rows and len(tables) == 1 else DASH, None))
            continue
        score = Score(
            *(math.exp(sum(math.log(each[end]) for each in known) / len(known)) for end in range(3))
        )
        judgements.append(Judgement(rows[0].median if len(tables) == 1 else "", score))
    return judgements


def _best(criterion: Criterion, table: MetricTable, targets: Sequence[str]) -> float:
    medians = [
        row.estimate.median for row in table.measured if row.estimate is not None and row.target in targets
    ]
    return min(medians) if criterion.better == "less" else max(medians)


def _score(criterion: Criterion, row: Row, best: float) -> Score | None:
    if row.estimate is None:
        return None
    ends = (row.estimate.ci_low, row.estimate.median, row.estimate.ci_high)
    if best <= 0 or min(ends) <= 0:
        return None
    ratios = [best / each for each in ends]
    if criterion.better == "more":
        ratios = [1 / each for each in ratios]
    low, high = min(ratios), max(ratios)
    return Score(*(max(_LEAST, each) for each in (low, ratios[1], high)))
