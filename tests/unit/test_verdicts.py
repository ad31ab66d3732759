"""The gate and the audit: a new leak is a regression, whatever the figures say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gate_runs import night_run

from pybench.harness.audit.model import Outcome
from pybench.harness.audit.record import SCENARIO, VALUES
from pybench.harness.cli.main import run as command_line
from pybench.harness.gate.check import GateSettings, Measured, gate
from pybench.harness.gate.verdicts import ERROR, INDEX, LEAK, PREFIX, UNIT, VERDICT, Accepted
from pybench.harness.model import Sample
from pybench.harness.store import Store


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


def test_an_accepted_leak_is_told_but_fails_nothing() -> None:
    """On its target alone; and no figure that sums the verdicts up does in its place."""
    index = replace(verdicts(P1=Outcome.LEAK)[0], metric=INDEX, unit="%", qualifiers={})
    before = [*verdicts(P2=Outcome.ISOLATED), replace(index, value=1.0)]
    after = [*verdicts(P2=Outcome.LEAK), replace(index, value=9.0)]
    for target, outcome in (("container", "pass"), ("vm", "regression")):
        settings = GateSettings(accepted=(Accepted(f"{PREFIX}P2", target, "until the kernel is new"),))
        result = gate(Measured("before", before), Measured("after", after), settings)
        assert result.outcome == outcome
        assert bool(result.waived) == (outcome == "pass")
    errors = gate(Measured("b", before), Measured("a", verdicts(P2=Outcome.ERROR)), settings)
    assert errors.outcome == "inconclusive"


def test_waivers_are_those_of_the_audit(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`audit-waivers.yaml` is read, or the file that is named; an expired one is bad input."""
    gate_it = ["gate", "night-03", "--baseline", "main"]
    text = "waivers: [{{probe: P2, target: container, reason: accepted for now, expiry: '{}'}}]\n"
    mine = record / "mine.yaml"
    mine.write_text(text.format("9999-12-31"), encoding="utf-8")
    assert command_line([*gate_it, "--waivers", str(mine)]) == 0
    assert "accepted leak: audit container isolation.P2" in capsys.readouterr().out
    usual = record / "audit-waivers.yaml"
    usual.write_text(text.format("9999-12-31"), encoding="utf-8")
    assert command_line([*gate_it, "--format", "json"]) == 0
    (waived,) = json.loads(capsys.readouterr().out)["waived"]
    assert "waived until 9999-12-31: accepted for now" in waived["said"]
    usual.write_text(text.format("2026-01-01"), encoding="utf-8")
    assert command_line(gate_it) == 2
    assert "the waiver of P2 on container expired on 2026-01-01" in capsys.readouterr().err


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three audits in its record, of which the last has a leak."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    Path("results").mkdir()
    with Store.open(Path("results/pybench.sqlite")) as store:
        for number, outcome in ((1, Outcome.ISOLATED), (2, Outcome.ISOLATED), (3, Outcome.LEAK)):
            run = replace(night_run(number), scenario=SCENARIO, definition="")
            store.begin_run(run)
            store.add_samples(run.id, verdicts(P1=Outcome.ISOLATED, P2=outcome))
            store.finish_run(run.id, "done", run.started)
    return tmp_path


@pytest.mark.usefixtures("record")
def test_audits_in_the_record_are_gated(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 with the probe and the reason in one line; that verdicts differ forbids no comparison."""
    assert command_line(["gate", "night-02", "--baseline", "night-01"]) == 0
    assert command_line(["gate", "night-03", "--baseline", "main"]) == 1
    out = capsys.readouterr().out
    assert "(night-02 against night-01, 2 verdicts)" in out
    assert "leak: audit container isolation.P2: a process of the host can be signalled\n" in out
    assert command_line(["gate", "night-03", "--baseline", "main", "--metric", "isolation.P1"]) == 0
    assert ", 1 verdict)" in capsys.readouterr().out
