"""What an audit comes to: counts, the leak index, the matrix, and two audits compared; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pybench.harness.audit.model import (
    CATEGORIES,
    SEVERITIES,
    Audit,
    Category,
    Judged,
    Outcome,
    Probe,
    Severity,
)

WEIGHTS: Final[Mapping[Severity, int]] = {"critical": 8, "high": 4, "medium": 2, "low": 1}
FORMULA: Final = (
    "leak index = 100 × Σ weight of leaks / Σ weight of probes that came out as leak or isolated; "
    "weights: critical 8, high 4, medium 2, low 1"
)
"""Errors, what does not apply and what is shared by design stand on neither side."""
_WORST: Final[Mapping[Outcome, int]] = {
    Outcome.LEAK: 0,
    Outcome.ERROR: 1,
    Outcome.SHARED: 2,
    Outcome.ISOLATED: 3,
    Outcome.NOT_APPLICABLE: 4,
}


@dataclass(frozen=True, slots=True)
class Tally:
    """What one target came to."""

    target: str
    outcomes: Mapping[Outcome, int]
    leaks: Mapping[Severity, int]
    leak_index: float | None
    """0 to 100; None where no probe came out as leak or isolated."""


def tally(target: str, judged: Iterable[Judged]) -> Tally:
    """Count the verdicts of one target."""
    own = [each for each in judged if each.target == target]
    outcomes = Counter(each.verdict.outcome for each in own)
    leaks = Counter(each.probe.severity for each in own if each.verdict.is_leak)
    weighed = {Outcome.LEAK, Outcome.ISOLATED}
    whole = sum(WEIGHTS[each.probe.severity] for each in own if each.verdict.outcome in weighed)
    leaked = sum(WEIGHTS[each.probe.severity] for each in own if each.verdict.is_leak)
    return Tally(target, outcomes, leaks, 100 * leaked / whole if whole else None)


@dataclass(frozen=True, slots=True)
class Row:
    """One probe on every target."""

    probe: Probe
    cells: Mapping[str, Judged]
    """Target → its verdict."""


def matrix(audit: Audit) -> list[tuple[Category, list[Row]]]:
    """The probes by category; within one, those that leak most severely first.

    The bare process does not count for the order: there, everything leaks.
    """
    rows: dict[str, dict[str, Judged]] = {}
    for each in audit.judged:
        rows.setdefault(each.probe.id, {})[each.target] = each
    found = [Row(next(iter(cells.values())).probe, cells) for cells in rows.values()]
    found.sort(key=_badness)
    grouped = [
        (category, [row for row in found if row.probe.category == category]) for category in CATEGORIES
    ]
    return [(category, own) for category, own in grouped if own]


def _badness(row: Row) -> tuple[int, int]:
    """The worst first; the order of the catalogue otherwise."""
    others = [each for each in row.cells.values() if each.kind != "process"] or list(row.cells.values())
    worst = min(_WORST[each.verdict.outcome] for each in others)
    return worst, SEVERITIES.index(row.probe.severity)


def at_least(severity: Severity, floor: Severity) -> bool:
    """Whether a severity is as bad as another one, or worse."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(floor)


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that is not what it was."""

    probe: str
    target: str
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one audit to another."""

    new_leaks: tuple[Change, ...]
    fixed_leaks: tuple[Change, ...]
    other: tuple[Change, ...]
    """Neither, such as what became an error."""


def difference(
    before: Mapping[tuple[str, str], Outcome], after: Mapping[tuple[str, str], Outcome]
) -> Difference:
    """Compare the outcomes of two audits, by probe and target; what only one of them asked is left out.

    A leak that became an error is not fixed: nothing is known of it any more.
    """
    new, fixed, other = [], [], []
    for key in sorted(before.keys() & after.keys()):
        change = Change(*key, before[key], after[key])
        if change.before is change.after:
            continue
        if change.after is Outcome.LEAK:
            new.append(change)
        elif change.before is Outcome.LEAK and change.after is not Outcome.ERROR:
            fixed.append(change)
        else:
            other.append(change)
    return Difference(tuple(new), tuple(fixed), tuple(other))


def outcomes(judged: Sequence[Judged]) -> dict[tuple[str, str], Outcome]:
    """By probe and target."""
    return {(each.probe.id, each.target): each.verdict.outcome for each in judged}
