"""The check of one run against its baseline; pure, so that calibration and self-test judge as it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from statistics import median
from typing import Final, Literal

from pybench.harness.comparison.attribution import PREFIX, Attribution, attributions, start_of
from pybench.harness.comparison.cells import Change, Movement, changes
from pybench.harness.comparison.changepoints import ChangePoint, change_points
from pybench.harness.comparison.direction import worse_direction
from pybench.harness.comparison.limits import Limits
from pybench.harness.comparison.nights import Night, Series
from pybench.harness.comparison.pace import UNKNOWN, Pace, Slowdown, unexplained
from pybench.harness.comparison.runs import HOST, TAIL, Judged, judge
from pybench.harness.gate.verdicts import INDEX, Accepted, Held, held, is_verdict, worsened
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, cell_key, cells

Outcome = Literal["pass", "regression", "inconclusive"]
Kind = Literal[
    "regression", "maximum", "drift", "failures", "change point", "leak", "missing", "unsupported", "host"
]
FAILING: Final[frozenset[Kind]] = frozenset(
    {"regression", "maximum", "drift", "failures", "change point", "leak"}
)
RATE: Final = 0.02
"""The false discovery rate of two-sided tests.

Where nothing changed it bounds the probability of any discovery, half of which would be for the better: one
night in a hundred raises an alarm, before the limits.
"""
EARLY: Final = 5
LATE: Final = 5
"""Runs at the beginning and at the end of a drift, of which the middle ones must differ as well."""
RECENT: Final = 7
"""Runs for which a change point that no single night showed keeps failing the gate."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What is gated, and how."""

    limits: Limits = field(default_factory=Limits)
    metrics: tuple[str, ...] = ()
    """Patterns as in a shell; without any, everything but phases and the leak index.

    These are made of what is gated.
    """
    rate: float = RATE
    accepted: tuple[Accepted, ...] = ()
    """Leaks that do not fail the gate."""

    def gates(self, metric: str) -> bool:
        """Whether cells of this metric can fail the gate."""
        if not self.metrics:
            return not metric.startswith(PREFIX) and metric != INDEX
        return any(fnmatchcase(metric, pattern) for pattern in self.metrics)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that keeps the gate from passing."""

    kind: Kind
    cell: CellKey
    against: str
    """The run that the candidate was held against."""
    judged: Judged | None = None
    point: ChangePoint | None = None
    said: str = ""
    """Why, where no figure tells it."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate found."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    cells: tuple[Judged, ...]
    """Every gated cell, against the baseline."""
    drift: tuple[Judged, ...]
    """Every gated cell, against the older baseline."""
    attributions: tuple[Attribution, ...]
    """Of the starts that regressed."""
    waived: tuple[Finding, ...] = ()
    """New leaks that are accepted."""
    verdicts: int = 0
    """How many verdicts of the audit were held against the baseline's."""
    slowdown: Slowdown = UNKNOWN
    """Of the host, since the baseline."""

    @property
    def blind(self) -> tuple[Judged, ...]:
        """Unchanged cells in which a change of the size of the limit would be missed more often than not."""
        return tuple(
            each
            for each in self.cells
            if each.verdict in {"same", "inconclusive"}
            and (each.detectable is None or each.detectable > each.margin)
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """A run that takes part: its id, its samples, and the host's pace meanwhile."""

    run: str
    samples: Sequence[Sample]
    pace: Pace | None = None
    """None where it is not known, and between two sides that were measured in turns."""


def gate(
    baseline: Measured,
    candidate: Measured,
    settings: GateSettings,
    older: Measured | None = None,
    series: Series | None = None,
) -> GateResult:
    """Hold a candidate against its baseline, an older one, and the level of the runs before it.

    All tests against both baselines are judged together. A regression needs a supported change for the worse
    that exceeds the limit. One against the older baseline alone is drift: each night too small to see,
    together too large. More failed launches than the baseline's, supported, are a regression whatever the
    times say. A change for the worse that exceeds the limit without support is told as unsupported, and the
    gate is inconclusive if there is nothing worse; more samples would settle it. One that the host's own pace
    explains is the host's, and inconclusive too. Of an audit, a leak that the baseline did not have is a
    regression unless it is accepted; verdicts are compared as they are.
    """
    changes = _changes(baseline, candidate, settings)
    old = _changes(older, candidate, settings) if older else []
    judged = judge([*changes, *old], settings.limits, settings.rate)
    now, drift = judged[: len(changes)], judged[len(changes) :]
    findings = [found for each in now for found in _findings(each, baseline.run, settings, len(now))]
    known = {found.cell for found in findings if found.kind in FAILING}
    if older:
        findings += [
            Finding("drift", each.change.cell, older.run, each)
            for each in drift
            if each.worse and each.change.cell not in known and _crept_in(each, older.run, series or {})
        ]
        known |= {found.cell for found in findings if found.kind == "drift"}
    findings += _level_changes(series or {}, known, settings)
    verdicts = held(baseline.samples, candidate.samples, settings.gates)
    worse, waived = _worse_verdicts(verdicts, baseline.run, settings)
    findings += worse
    guilty = {start_of(found.cell) for found in findings if found.kind in {"regression", "drift"}}
    parts = attributions(
        [sample for sample in baseline.samples if start_of(cell_key(sample)) in guilty],
        [sample for sample in candidate.samples if start_of(cell_key(sample)) in guilty],
    )
    return GateResult(
        _outcome(findings),
        tuple(findings),
        now,
        drift,
        tuple(parts),
        tuple(waived),
        len(verdicts),
        Slowdown.between(baseline.pace, candidate.pace),
    )


def _worse_verdicts(
    verdicts: Sequence[Held], baseline: str, settings: GateSettings
) -> tuple[list[Finding], list[Finding]]:
    """What the audit found anew, and what of it is accepted."""
    accepted = {(each.metric, each.target): each.said for each in settings.accepted}
    findings, waived = [], []
    for each in worsened(verdicts):
        kind: Kind = "leak" if each.is_leak else "missing"
        said = accepted.get((each.cell[2], each.cell[1])) if each.is_leak else None
        if said is None:
            findings.append(Finding(kind, each.cell, baseline, said=each.reason))
        else:
            waived.append(Finding(kind, each.cell, baseline, said=f"{each.reason} ({said})"))
    return findings, waived


def _changes(baseline: Measured, candidate: Measured, settings: GateSettings) -> list[Change]:
    left, right = cells(baseline.samples), cells(candidate.samples)
    slowdown = Slowdown.between(baseline.pace, candidate.pace)
    # What only the candidate has is new, and cannot have become worse.
    chosen = [
        cell
        for cell, samples in left.items()
        if settings.gates(cell[2]) and not is_verdict(cell) and any(not sample.warmup for sample in samples)
    ]
    return changes(left, right, chosen, slowdown)


def _findings(each: Judged, baseline: str, settings: GateSettings, number: int) -> list[Finding]:
    change, cell = each.change, each.change.cell
    failed, before = change.candidate.failed, change.baseline.failed
    # Each cell's failures are tested by themselves: Bonferroni's share of the rate.
    supported = change.failure_p <= settings.rate / number and failed > before
    if failed and (failed == change.candidate.launched or supported):
        return [Finding("failures", cell, baseline, each)]
    maximum = settings.limits.of(cell).maximum
    if maximum is not None and change.candidate.median > maximum:
        return [Finding("maximum", cell, baseline, each)]
    if each.worse:
        return [Finding("regression", cell, baseline, each)]
    if change.movement is None:
        return [Finding("missing", cell, baseline, each)] if change.baseline.n else []
    return [Finding(kind, cell, baseline, each) for kind in _undecided(each, change.movement)]


def _undecided(each: Judged, moved: Movement) -> Iterator[Kind]:
    """Why a cell that may have become worse by more than its limit is not called so."""
    direction = worse_direction(each.change.cell)
    shift = moved.shift.value
    if each.verdict == "inconclusive" and shift * direction > each.margin:
        yield "unsupported" if unexplained(shift, each.explained.median) > each.margin else "host"
    elif each.reason == HOST and (
        max(told.value * direction for told in moved.shifts) > each.margin
        or moved.tail * direction > each.tail_margin
    ):
        yield "host"


def _crept_in(each: Judged, older: str, series: Series) -> bool:
    """Whether the runs after an older baseline were better too, and those before the candidate as bad.

    Either of the two by itself may have had a lucky or an unlucky night, which is no drift.
    """
    cell = each.change.cell
    nights = series.get(cell, ())
    begin = next((at for at, night in enumerate(nights) if night.run == older), None)
    if begin is None:
        return True
    since = nights[begin:]
    few, many = (min(most, max(1, len(since) // part)) for most, part in ((EARLY, 3), (LATE, 4)))
    early, late = since[:few], since[-many:]
    explained = _slowdown(early, late).explains(cell, median(night.median for night in early))
    if each.reason != TAIL:
        crept = median(night.median for night in late) - median(night.median for night in early)
        return crept * worse_direction(cell) > 0 and unexplained(crept, explained.median) > each.margin
    crept = median(night.tail for night in late) - median(night.tail for night in early)
    return crept * worse_direction(cell) > 0 and unexplained(crept, explained.tail) > each.tail_margin


def _slowdown(before: Sequence[Night], after: Sequence[Night]) -> Slowdown:
    """Of the host from some nights to later ones."""
    paces = [[night.pace for night in nights if night.pace is not None] for nights in (before, after)]
    levels = [
        Pace(median(pace.median for pace in each), median(pace.tail for pace in each)) if each else None
        for each in paces
    ]
    return Slowdown.between(*levels)


def _level_changes(series: Series, known: set[CellKey], settings: GateSettings) -> list[Finding]:
    """New levels for the worse that began in the last few runs and that nothing else has told."""
    findings = []
    for cell, nights in series.items():
        if cell in known or is_verdict(cell) or not settings.gates(cell[2]):
            continue
        for point in change_points([night.median for night in nights])[-1:]:
            margin = settings.limits.of(cell).margin(point.before)
            sides = nights[point.begin : point.position], nights[point.position :]
            explained = _slowdown(*sides).explains(cell, point.before).median
            risen = point.after - point.before
            worse = risen * worse_direction(cell) > 0 and unexplained(risen, explained) > margin
            if worse and point.position + point.length == len(nights) and point.length <= RECENT:
                findings.append(Finding("change point", cell, nights[point.position].run, None, point))
    return findings


def _outcome(findings: Sequence[Finding]) -> Outcome:
    if any(found.kind in FAILING for found in findings):
        return "regression"
    return "inconclusive" if findings else "pass"
