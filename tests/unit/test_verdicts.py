"""The gate and the audit: a new leak is a regression, whatever the figures say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gate_runs import night_run

from pybench.harness.audit.model import Outcome
from pybench.harness.audit.record import SCENARIO, VALUES
from pybench.harness.cli.main import run as command_line
from pybench.harness.gate import GateSettings, Measured, gate
from pybench.harness.model import Sample
from pybench.harness.store import Store
from pybench.harness.verdicts import ERROR, LEAK, PREFIX, UNIT, VERDICT


def verdicts(**outcomes: Outcome) -> list[Sample]:
    """The samples of an audit of one container, by probe."""
    return [
        Sample(
            workload=SCENARIO,
            target="container",
            metric=f"{PREFIX}{probe}",
            unit=UNIT,
            value=VALUES.get(outcome),
            repetition=0,
            warmup=False,
            order=order,
            channel="audit",
            resolution=0.0,
            qualifiers={VERDICT: outcome.value, "severity": "high"},
            status="failed" if outcome is Outcome.ERROR else "ok",
            reason="a process of the host can be signalled\nkill(17, 0) succeeded",
        )
        for order, (probe, outcome) in enumerate(outcomes.items())
    ]


def found(before: list[Sample], after: list[Sample]) -> tuple[str, list[tuple[str, str]]]:
    """The outcome of the gate, and its findings by kind and metric."""
    result = gate(Measured("before", before), Measured("after", after), GateSettings())
    return result.outcome, [(each.kind, each.cell[2]) for each in result.findings]


def test_the_words_are_those_of_the_audit() -> None:
    """What the gate reads in a sample is what the audit writes there."""
    assert (Outcome.LEAK.value, Outcome.ERROR.value) == (LEAK, ERROR)


@pytest.mark.parametrize("before", [Outcome.ISOLATED, Outcome.SHARED, Outcome.NOT_APPLICABLE, Outcome.ERROR])
def test_a_new_leak_is_a_regression(before: Outcome) -> None:
    """One verdict is enough, and which it was before does not matter."""
    outcome, findings = found(verdicts(P2=before), verdicts(P2=Outcome.LEAK))
    assert (outcome, findings) == ("regression", [("leak", "isolation.P2")])


def test_what_leaked_before_or_was_not_asked_is_no_news() -> None:
    """An old leak, a probe that is new, and one that is mended."""
    before = verdicts(P1=Outcome.LEAK, P2=Outcome.LEAK)
    assert found(before, verdicts(P1=Outcome.LEAK, P2=Outcome.ISOLATED, N9=Outcome.LEAK)) == ("pass", [])


def test_a_probe_without_an_answer_is_inconclusive() -> None:
    """It was answered before, and whether it leaks now is not known."""
    outcome, findings = found(verdicts(P1=Outcome.ISOLATED), verdicts(P1=Outcome.ERROR))
    assert (outcome, findings) == ("inconclusive", [("missing", "isolation.P1")])
    assert found(verdicts(P1=Outcome.ERROR), verdicts(P1=Outcome.ERROR)) == ("pass", [])


def test_audits_in_the_record_are_gated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 with the probe and the reason in one line; that verdicts differ forbids no comparison."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    Path("results").mkdir()
    with Store.open(Path("results/pybench.sqlite")) as store:
        for number, outcome in ((1, Outcome.ISOLATED), (2, Outcome.ISOLATED), (3, Outcome.LEAK)):
            run = replace(night_run(number), scenario=SCENARIO, definition="")
            store.begin_run(run)
            store.add_samples(run.id, verdicts(P1=Outcome.ISOLATED, P2=outcome))
            store.finish_run(run.id, "done", run.started)
    assert command_line(["gate", "night-02", "--baseline", "night-01"]) == 0
    assert command_line(["gate", "night-03", "--baseline", "main"]) == 1
    out = capsys.readouterr().out
    assert "leak: audit container isolation.P2: a process of the host can be signalled\n" in out
    assert command_line(["gate", "night-03", "--baseline", "main", "--metric", "isolation.P1"]) == 0
