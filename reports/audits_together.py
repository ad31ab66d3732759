"""The audits of several runs side by side: what leaks where, and which verdicts differ; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pybench.harness.audit.model import Outcome
from pybench.harness.units import count
from pybench.reports.isolation import GRAVE, Isolation, ProbeRow, Tally, VerdictCell
from pybench.reports.numbers import DASH, tied
from pybench.reports.vocabulary import target_order


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """One probe on one target, with its verdict on each side; None where it was not asked."""

    probe: str
    title: str
    severity: str
    target: str
    cells: tuple[VerdictCell | None, ...]


@dataclass(frozen=True, slots=True)
class Audits:
    """What the audits of all sides say."""

    tallies: tuple[tuple[str, tuple[Tally | None, ...]], ...]
    """Target, and what it came to on each side."""
    differing: tuple[VerdictLine, ...]
    alike: tuple[VerdictLine, ...]
    """Verdicts that are the same wherever they were asked for."""

    @property
    def agreement(self) -> str:
        """How many verdicts differ, in a sentence."""
        total = len(self.differing) + len(self.alike)
        differ = f"{len(self.differing)} differ" if self.differing else "none differs"
        return tied(f"Of {count(total, 'verdict')}, {differ} between the runs.")


def audits_together(found: Sequence[Isolation | None]) -> Audits | None:
    """The audits of the sides, in their order; None where fewer than two of them have one."""
    audited = [each for each in found if each is not None]
    if len(audited) < 2:  # noqa: PLR2004 - nothing to compare with
        return None
    targets = sorted({target for each in audited for target in each.targets}, key=target_order)
    tallies = tuple(
        (target, tuple(each.tally(target) if each else None for each in found)) for target in targets
    )
    lines = list(_lines(found, targets))
    differing = [line for line in lines if _differs(line, found)]
    return Audits(tallies, tuple(differing), tuple(line for line in lines if line not in differing))


def leaks_told(tally: Tally | None) -> str:
    """`5 leaks (1 high, 4 low), index 12.3`."""
    if tally is None:
        return DASH
    leaks = tally.outcomes.get(Outcome.LEAK, 0)
    listed = tally.leaks_by_severity
    return tied(f"{count(leaks, 'leak')}{f' ({listed})' if listed else ''}, index {tally.index_text}")


def changes_told(before: Isolation, after: Isolation) -> str:
    """What leaks now and did not before, and the reverse; over the verdicts that both have."""
    verdicts = [_verdicts(before), _verdicts(after)]
    both = [key for key in verdicts[1] if key in verdicts[0]]
    pairs = [(key, verdicts[0][key], verdicts[1][key]) for key in both]
    new = [key for key, was, now in pairs if now is Outcome.LEAK and was is not now]
    gone = [key for key, was, now in pairs if was is Outcome.LEAK and was is not now]
    severities = {row.id: row.severity for _, rows in after.groups for row in rows}
    grave = sum(severities.get(probe, "") in GRAVE for probe, _ in new)
    parts = []
    if new:
        of_them = f" ({grave} of severity high or critical)" if grave else ""
        parts.append(f"{len(new)} became a leak{of_them}")
    if gone:
        parts.append(f"{len(gone)} ceased to be {'one' if new else 'a leak'}")
    listed = ", ".join(parts) or "none became a leak or ceased to be one"
    return tied(f"of {count(len(both), 'verdict')} {listed}")


def _verdicts(found: Isolation) -> dict[tuple[str, str], Outcome]:
    return {
        (row.id, target): cell.outcome
        for _, rows in found.groups
        for row in rows
        for target, cell in zip(found.targets, row.cells, strict=True)
        if cell is not None
    }


def _lines(found: Sequence[Isolation | None], targets: Sequence[str]) -> Iterator[VerdictLine]:
    """Every probe on every target, in the order of the first side that asked the probe."""
    rows: list[dict[str, ProbeRow]] = [
        {row.id: row for _, group in each.groups for row in group} if each else {} for each in found
    ]
    known = {name: row for of_side in reversed(rows) for name, row in of_side.items()}
    for name in dict.fromkeys(name for of_side in rows for name in of_side):
        for target in targets:
            cells = tuple(
                of_side[name].cells[each.targets.index(target)]
                if each and name in of_side and target in each.targets
                else None
                for each, of_side in zip(found, rows, strict=True)
            )
            if any(cells):
                yield VerdictLine(name, known[name].title, known[name].severity, target, cells)


def _differs(line: VerdictLine, found: Sequence[Isolation | None]) -> bool:
    """Whether the sides that audited the target do not all say the same."""
    said = {
        cell.outcome if cell else None
        for cell, each in zip(line.cells, found, strict=True)
        if each is not None and line.target in each.targets
    }
    return len(said) > 1
