"""`pybench gate --self-test`: inject known regressions, and tell which of them the gate detects."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.cli.columns import columns
from pybench.harness.cli.output import Format, note, print_data
from pybench.harness.gate.check import GateSettings
from pybench.harness.gate.self_test import PRETENDED, Trial, inject, trials, with_injections
from pybench.harness.runner.execution import host_for_itself, prepare
from pybench.harness.runner.preflight import check_host
from pybench.harness.scenario import load_scenario
from pybench.harness.scenario.document import parse_document
from pybench.harness.store import Store

if TYPE_CHECKING:
    from pybench.harness.model import Sample

PASSED, FAILED = 0, 1
_CONTAINER: Final = "container"
_STORE: Final = "self-test.sqlite"


def run_self_test(scenario: str, targets: str, repetitions: int, format_: Format) -> int:
    """Measure a scenario with and without each injection, and gate one against the other.

    Nothing enters the record. Returns 0 if every injection was detected and the control was not.
    """
    data: Any = PRETENDED
    if scenario:
        from pybench import scenarios  # noqa: PLC0415 - only for a scenario of the user's

        path = scenarios.resolve(scenario)
        # Read whole first, so that its own faults are told at their own places, and with what it includes.
        data = parse_document(str(path), load_scenario(path).definition).data
    labels = [label for label in targets.split(",") if label]
    done = trials(_measure(with_injections(data, labels, repetitions)), GateSettings())
    described = data["targets"]
    if any((described[label] or {}).get("kind", label) == _CONTAINER for label in labels or described):
        from pybench.harness.gate.leak_trials import leak_trials  # noqa: PLC0415 - only for containers

        done += leak_trials(GateSettings(), note)
    documents = [_document(trial) for trial in done]
    print_data(format_, document=documents, records=documents, lines=lambda: trial_lines(done))
    return PASSED if done and all(trial.passed for trial in done) else FAILED


def pretended_trials() -> list[Trial]:
    """The trials on a pretended target, which take seconds."""
    return trials(_measure(with_injections(PRETENDED)), GateSettings())


def _measure(text: str) -> list[Sample]:
    with tempfile.TemporaryDirectory(prefix="pybench-self-test-") as name:
        folder = Path(name)
        path = folder / "self-test.yaml"
        path.write_text(text, encoding="utf-8")
        scenario = load_scenario(path)
        check_host(scenario)
        with (
            host_for_itself(scenario, wait=False, tell=note),
            Store.open(folder / _STORE) as store,
        ):
            prepared = prepare(scenario, "pybench gate --self-test", {}, note)
            outcome = prepared.carry_out(store, folder, change=inject)
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
            return store.samples(prepared.run.id)


def trial_lines(done: Sequence[Trial]) -> list[str]:
    """A table: what was injected, and what the gate said of it."""
    rows = [
        (
            "ok" if trial.passed else "FAILED",
            trial.target,
            trial.injection.name,
            trial.injection.description,
            _said(trial),
        )
        for trial in done
    ]
    return columns([("", "target", "injected", "", "the gate said"), *rows])


def _said(trial: Trial) -> str:
    findings = [
        f"{each.kind}: {each.cell[2]}"
        for each in trial.result.findings
        if each.kind not in {"unsupported", "host"}
    ]
    return ", ".join(findings) or "nothing"


def _document(trial: Trial) -> dict[str, Any]:
    return {
        "target": trial.target,
        "injection": trial.injection.name,
        "passed": trial.passed,
        "outcome": trial.result.outcome,
        "findings": [[each.kind, *each.cell] for each in trial.result.findings],
    }
