"""Verdicts as samples of the record, and back: `isolation.<probe>` in the unit `verdict`.

A value is 0 for isolated, 1 for shared by design, 2 for a leak and -1 for what does not apply, so that
worse is more; an error is a failed sample without a value. The qualifiers tell verdict and severity, the
sample's reason tells why, with the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.model import Outcome
from pybench.harness.errors import InputError
from pybench.harness.gate.verdicts import PREFIX, UNIT, VERDICT
from pybench.harness.model import Run, Sample

if TYPE_CHECKING:
    from pybench.harness.audit.model import Audit, AuditedTarget, Judged
    from pybench.harness.environment import ImageFacts
    from pybench.harness.store import Recorder

SCENARIO: Final = "audit"
VALUES: Final[Mapping[Outcome, float]] = {
    Outcome.ISOLATED: 0.0,
    Outcome.SHARED: 1.0,
    Outcome.LEAK: 2.0,
    Outcome.NOT_APPLICABLE: -1.0,
}


def samples(audit: Audit) -> list[Sample]:
    """One sample for each verdict."""
    targets = {target.label: target for target in audit.targets}
    return [_sample(each, targets[each.target], order) for order, each in enumerate(audit.judged)]


def _sample(judged: Judged, target: AuditedTarget, order: int) -> Sample:
    verdict = judged.verdict
    value = VALUES.get(verdict.outcome)
    return Sample(
        workload=SCENARIO,
        target=judged.target,
        metric=f"{PREFIX}{judged.probe.id}",
        unit=UNIT,
        value=value,
        repetition=0,
        warmup=False,
        order=order,
        channel="audit",
        resolution=0.0,
        qualifiers={
            **target.qualifiers,
            VERDICT: verdict.outcome.value,
            "severity": judged.probe.severity,
        },
        status="failed" if value is None else "ok",
        reason="\n".join((verdict.reason, *verdict.evidence)),
    )


def save(audit: Audit, store: Recorder, command: str, image: ImageFacts) -> str:
    """Store an audit as a run; returns the run's id."""
    from pybench.harness.environment import capture  # noqa: PLC0415 - slow, and after the audit
    from pybench.harness.store import new_run_id, timestamp  # noqa: PLC0415

    now = datetime.now(UTC)
    run = Run(
        id=new_run_id(SCENARIO, now),
        scenario=SCENARIO,
        source="",
        started=timestamp(now),
        finished=None,
        status="running",
        command=command,
        environment=capture((target.kind for target in audit.targets), {audit.image: image}),
    )
    store.begin_run(run)
    store.add_samples(run.id, samples(audit))
    store.finish_run(run.id, "done", timestamp(datetime.now(UTC)))
    return run.id


def outcomes_of(run: Run, stored: Iterable[Sample]) -> dict[tuple[str, str], Outcome]:
    """The outcomes of a stored audit, by probe and target.

    Raises:
        InputError: the run holds no verdicts.
    """
    found = dict(_outcomes(stored))
    if not found:
        raise InputError(f"the run {run.id} holds no verdicts", "name a run of `pybench audit`")
    return found


def _outcomes(stored: Iterable[Sample]) -> Iterator[tuple[tuple[str, str], Outcome]]:
    for sample in stored:
        if sample.metric.startswith(PREFIX) and sample.unit == UNIT:
            probe = sample.metric.removeprefix(PREFIX)
            yield (probe, sample.target), Outcome(sample.qualifiers.get(VERDICT, Outcome.ERROR.value))
