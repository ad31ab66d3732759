"""What an audit found, probe by probe; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from pybench.harness.audit.model import SEVERITIES, Outcome, Severity
from pybench.harness.audit.results import WEIGHTS
from pybench.harness.gate.verdicts import PREFIX, UNIT, VERDICT
from pybench.harness.model import Sample
from pybench.harness.units import count
from pybench.reports.numbers import DASH, one_line, visible
from pybench.reports.vocabulary import BASELINE, CONTAINER, Said, noun, said, target_order

LEAK_INDEX: Final = "isolation.leak_index"
"""What the history of a target is drawn of."""
SEVERITY: Final = "severity"
GRAVE: Final[tuple[Severity, ...]] = ("critical", "high")
LONGEST_REASON: Final = 2000
_WORST: Final = (Outcome.LEAK, Outcome.ERROR, Outcome.SHARED, Outcome.ISOLATED, Outcome.NOT_APPLICABLE)
WORDS: Final[Mapping[Outcome, str]] = {
    Outcome.LEAK: "leak",
    Outcome.ERROR: "error",
    Outcome.SHARED: "shared",
    Outcome.ISOLATED: "isolated",
    Outcome.NOT_APPLICABLE: "n/a",
}
CATEGORIES: Final[Mapping[str, str]] = {
    "P": "Processes",
    "U": "Users",
    "N": "Network",
    "M": "File systems",
    "I": "IPC, host name and keys",
    "G": "Control groups",
    "R": "Limits",
    "T": "Time",
    "K": "Kernel",
    "X": "Information and co-residency",
    "D": "Devices",
    "C": "Privilege",
    "F": "Descriptors and environment",
    "E": "Ways out through /proc",
    "V": "Virtual machines",
}
"""By the letter that the ids of a category begin with."""


@dataclass(frozen=True, slots=True)
class VerdictCell:
    """One probe on one target: what came out, and why; the texts are bounded and safe to show."""

    outcome: Outcome
    reason: str
    evidence: str

    @property
    def word(self) -> str:
        """The outcome in a word."""
        return WORDS[self.outcome]


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One probe on every target; None where it was not asked."""

    id: str
    title: str
    severity: str
    cells: tuple[VerdictCell | None, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What one target came to."""

    target: str
    said: Said
    leaks: Mapping[str, int]
    """Severity → number."""
    outcomes: Mapping[Outcome, int]
    index: float | None
    """The leak index, 0 to 100; None where no probe came out as leak or isolated."""

    @property
    def index_text(self) -> str:
        """With one digit after the point."""
        return DASH if self.index is None else f"{self.index:.1f}"

    @property
    def leaks_by_severity(self) -> str:
        """`1 high, 4 low`, the worst first; empty without any leak."""
        return ", ".join(f"{self.leaks[each]} {each}" for each in SEVERITIES if self.leaks.get(each))


@dataclass(frozen=True, slots=True)
class Isolation:
    """Everything that an audit found."""

    targets: tuple[str, ...]
    groups: tuple[tuple[str, tuple[ProbeRow, ...]], ...]
    """Category, and its probes, the worst first."""
    tallies: tuple[Tally, ...]
    """In the order of the targets."""

    def tally(self, target: str) -> Tally | None:
        """What a target came to, if it was audited."""
        return next((each for each in self.tallies if each.target == target), None)


def is_verdict(sample: Sample) -> bool:
    """Whether a sample is a verdict of the audit, which is no quantity."""
    return sample.unit == UNIT and sample.metric.startswith(PREFIX)


def isolation(samples: Sequence[Sample], titles: Mapping[str, str]) -> Isolation | None:
    """What the verdicts among some samples say; None without any.

    Args:
        samples: all of a run, of which a probe may have been asked more than once: the worst counts.
        titles: of the probes by id, as far as they are known.
    """
    found: dict[tuple[str, str], Sample] = {}
    for sample in filter(is_verdict, samples):
        key = sample.metric.removeprefix(PREFIX), sample.target
        if key not in found or _badness(sample) < _badness(found[key]):
            found[key] = sample
    if not found:
        return None
    targets = tuple(sorted({target for _, target in found}, key=target_order))
    rows = [
        ProbeRow(
            one_line(probe, 12),
            one_line(titles.get(probe, ""), 120),
            next(one_line(s.qualifiers.get(SEVERITY, ""), 12) for (p, _), s in found.items() if p == probe),
            tuple(_cell(found[probe, target]) if (probe, target) in found else None for target in targets),
        )
        for probe in dict.fromkeys(probe for probe, _ in found)
    ]
    return Isolation(targets, tuple(_groups(rows, targets)), tuple(_tally(found, each) for each in targets))


def isolation_sentence(found: Isolation) -> str:
    """What the container leaks, or the first target that is no reference, against the positive control."""
    others = [each for each in found.tallies if each.target != BASELINE] or list(found.tallies)
    tally = next((each for each in others if each.target == CONTAINER), others[0])
    asked = sum(tally.outcomes.get(each, 0) for each in (Outcome.LEAK, Outcome.ISOLATED))
    leaks = tally.outcomes.get(Outcome.LEAK, 0)
    grave = sum(tally.leaks.get(each, 0) for each in GRAVE)
    who = noun(tally.target, tally.said.caveats)
    listed = tally.leaks_by_severity
    text = f"{who} leaks by {leaks} of {count(asked, 'probe')}" + (f" ({listed})" if listed else "")
    if not grave:
        text += ", none of severity high or critical" if leaks else ""
    control = found.tally(BASELINE)
    if control is not None and control is not tally:
        text += f"; {noun(BASELINE)}, the positive control, by {control.outcomes.get(Outcome.LEAK, 0)}"
    return text[:1].upper() + text[1:] + "."


def _outcome(sample: Sample) -> Outcome:
    try:
        return Outcome(sample.qualifiers.get(VERDICT, ""))
    except ValueError:
        return Outcome.ERROR


def _badness(sample: Sample) -> int:
    return _WORST.index(_outcome(sample))


def _cell(sample: Sample) -> VerdictCell:
    reason, _, evidence = visible(sample.reason, LONGEST_REASON).partition("\n")
    return VerdictCell(_outcome(sample), reason, evidence)


def _groups(rows: Sequence[ProbeRow], targets: Sequence[str]) -> Iterator[tuple[str, tuple[ProbeRow, ...]]]:
    order = tuple(CATEGORIES)

    def letter(row: ProbeRow) -> str:
        return row.id[:1].upper()

    def category(row: ProbeRow) -> int:
        return order.index(letter(row)) if letter(row) in order else len(order)

    def badness(row: ProbeRow) -> tuple[int, int]:
        # The bare process does not count for the order: there, everything leaks.
        outcomes = [
            _WORST.index(cell.outcome)
            for target, cell in zip(targets, row.cells, strict=True)
            if cell is not None and (target != BASELINE or len(targets) == 1)
        ]
        severity = SEVERITIES.index(row.severity) if row.severity in SEVERITIES else len(SEVERITIES)
        return min(outcomes, default=len(_WORST)), severity

    for _, own in groupby(sorted(rows, key=category), key=category):
        members = sorted(own, key=badness)
        yield CATEGORIES.get(letter(members[0]), "Others"), tuple(members)


def _tally(found: Mapping[tuple[str, str], Sample], target: str) -> Tally:
    own = [sample for (_, name), sample in found.items() if name == target]
    outcomes = Counter(map(_outcome, own))
    leaks = Counter(each.qualifiers.get(SEVERITY, "") for each in own if _outcome(each) is Outcome.LEAK)
    weighed = [each for each in own if _outcome(each) in {Outcome.LEAK, Outcome.ISOLATED}]
    weights = {str(severity): weight for severity, weight in WEIGHTS.items()}
    whole = sum(weights.get(each.qualifiers.get(SEVERITY, ""), 0) for each in weighed)
    leaked = sum(weights.get(severity, 0) * number for severity, number in leaks.items())
    words = said(
        {key: value for key, value in each.qualifiers.items() if key not in {VERDICT, SEVERITY}}
        for each in own
    )
    return Tally(target, words, leaks, outcomes, 100 * leaked / whole if whole else None)
