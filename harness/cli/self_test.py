"""`pybench gate --self-test`: inject known regressions, and tell which of them the gate detects."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pybench.harness.calibration import calibrate
from pybench.harness.cli.columns import columns
from pybench.harness.cli.run import find_images, host_for_itself
from pybench.harness.environment import capture
from pybench.harness.gate import GateSettings
from pybench.harness.model import Run
from pybench.harness.preflight import check_host
from pybench.harness.runner import Runner
from pybench.harness.scenario import load_scenario
from pybench.harness.scenario.document import parse_document
from pybench.harness.self_test import PRETENDED, Trial, inject, trials, with_injections
from pybench.harness.store import Store, new_run_id, timestamp
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.journal import open_journal
from pybench.runtime.leftovers import remove_leftovers

if TYPE_CHECKING:
    from pybench.harness.model import Sample

PASSED, FAILED = 0, 1
_STORE: Final = "self-test.sqlite"


def run_self_test(scenario: str, targets: str, repetitions: int, *, as_json: bool) -> int:
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
    _print(done, as_json=as_json)
    return PASSED if done and all(trial.passed for trial in done) else FAILED


def _measure(text: str) -> list[Sample]:
    for line in remove_leftovers():
        typer.echo(f"left by a run that was killed: {line}", err=True)
    with tempfile.TemporaryDirectory(prefix="pybench-self-test-") as name, open_journal() as journal:
        folder = Path(name)
        path = folder / "self-test.yaml"
        path.write_text(text, encoding="utf-8")
        scenario = load_scenario(path)
        check_host(scenario)
        images = find_images(scenario)
        kinds = [target.kind for target in scenario.targets]
        calibration = calibrate(kinds)
        started = datetime.now(UTC)
        run = Run(
            id=new_run_id(scenario.name, started),
            scenario=scenario.name,
            source=scenario.source,
            started=timestamp(started),
            finished=None,
            status="running",
            command="pybench gate --self-test",
            environment=capture(kinds, images),
            definition=scenario.definition,
        )
        context = TargetContext(journal, folder)
        with Store.open(folder / _STORE) as store:
            runner = Runner(
                store,
                lambda choice: inject(open_target(choice, context), choice.name),
                images,
                calibration=calibration,
            )
            with host_for_itself(scenario, wait=False):
                outcome = runner.carry_out(scenario, run)
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
            return store.samples(run.id)


def _print(done: Sequence[Trial], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_document(trial) for trial in done], indent=1))
        return
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
    for line in columns([("", "target", "injected", "", "the gate said"), *rows]):
        typer.echo(line)


def _said(trial: Trial) -> str:
    findings = [
        f"{each.kind}: {each.cell[2]}" for each in trial.result.findings if each.kind != "unsupported"
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
