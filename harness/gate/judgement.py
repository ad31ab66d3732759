"""A recorded run held against its baseline: what may be compared, with its history, and with more samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pybench.harness.comparability import mismatched_qualifiers
from pybench.harness.comparison.nights import Series, widened
from pybench.harness.environment import Mismatch, mismatches
from pybench.harness.gate.baselines import branch_of, older_baseline, pace_in, refused, series
from pybench.harness.gate.check import GateResult, GateSettings, Measured, Outcome, gate
from pybench.harness.gate.gathering import LOOKS, Gathering, pooled
from pybench.harness.gate.verdicts import is_verdict
from pybench.harness.stats import cell_key

if TYPE_CHECKING:
    from pybench.harness.comparison.pace import Pace
    from pybench.harness.model import Run, Sample
    from pybench.harness.store import Store


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that was carried out."""

    run: Run
    samples: Sequence[Sample]
    pace: Pace | None = None
    """Of the host; None if it is not known."""

    @classmethod
    def of(cls, record: Store, run: Run) -> Recorded:
        """Everything of it that the record has."""
        return cls(run, record.samples(run.id), pace_in(record, run.id))

    @property
    def measured(self) -> Measured:
        """What the gate sees of it."""
        return Measured(self.run.id, self.samples, self.pace)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of it."""

    candidate: str
    baseline: str
    differences: tuple[Mismatch, ...]
    """Why the two may not be compared; then there is no result."""
    result: GateResult | None
    gathered: tuple[str, ...] = ()
    """Runs whose samples were taken beside the candidate's."""

    @property
    def outcome(self) -> Outcome:
        """Runs that may not be compared are inconclusive."""
        return "inconclusive" if self.result is None else self.result.outcome


def hold_against(
    baseline: Recorded,
    candidate: Recorded,
    settings: GateSettings,
    *,
    allowed: Collection[str] = (),
    record: Store | None = None,
    name: str = "",
    gathering: Gathering | None = None,
) -> Judgement:
    """Gate a candidate.

    Args:
        baseline: the run that it is held against.
        candidate: what is judged.
        settings: limits and rate.
        allowed: fields of the environment in which the two may differ.
        record: where earlier baselines and the level of the runs before are, if there is one.
        name: what the baseline was called: a tag or a branch.
        gathering: where more samples come from while the result is not clear; each look then has its share
            of the rate, the first one too.
    """
    before, run = baseline.run, candidate.run
    differences = [
        *mismatches(before.environment, run.environment),
        *mismatched_qualifiers(baseline.samples, candidate.samples),
    ]
    if forbidding := refused(differences, allowed):
        return Judgement(run.id, before.id, tuple(forbidding), None)
    if gathering is not None:
        settings = replace(settings, rate=settings.rate / LOOKS)
    old = older_baseline(record, name, before, run, allowed) if record else None
    older = Recorded.of(record, old).measured if record and old else None
    metrics = set(filter(settings.gates, {sample.metric for sample in candidate.samples}))
    settings = learnt(settings, record, baseline, candidate, allowed)
    while True:
        level = series(record, run, candidate.samples, metrics, allowed) if record else {}
        result = gate(baseline.measured, candidate.measured, settings, older=older, series=level)
        further = gathering.more() if gathering and more_would_tell(result) else None
        if further is None:
            return Judgement(run.id, before.id, (), result, tuple(gathering.runs if gathering else ()))
        candidate = Recorded(
            run,
            pooled(candidate.samples, further),
            pace_in(record, run.id, *gathering.runs) if record and gathering else candidate.pace,
        )


def learnt(
    settings: GateSettings,
    record: Store | None,
    baseline: Recorded,
    candidate: Recorded,
    allowed: Collection[str] = (),
    *,
    level: Series | None = None,
) -> GateSettings:
    """The settings with usual limits that know what nights differ by.

    The nights are those of the candidate's branch or of the baseline's, whichever has more; `level` are those
    of the candidate's, where they have been read already.
    """
    before, run = baseline.run, candidate.run
    gated = {
        cell for cell in map(cell_key, baseline.samples) if settings.gates(cell[2]) and not is_verdict(cell)
    }
    metrics = {cell[2] for cell in gated}
    nights: Series = {}
    if record is not None:
        branches = dict.fromkeys(branch_of(each) for each in (run, before))
        known = [
            series(record, run, candidate.samples, metrics, allowed, branch=each)
            if level is None or each != branch_of(run)
            else level
            for each in branches
        ]
        nights = max(known, key=lambda found: sum(map(len, found.values())))
    return replace(settings, limits=widened(settings.limits, nights, gated))


def more_would_tell(result: GateResult) -> bool:
    """Whether nothing is wrong but that there are too few samples."""
    return result.outcome == "inconclusive" and any(each.kind == "unsupported" for each in result.findings)
