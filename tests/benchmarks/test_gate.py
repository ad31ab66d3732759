"""The gate on real containers: what it must find, and how often it is wrong. Takes a quarter of an hour.

Only on a host that is left alone: other work adds what no gate can tell from a regression. The numbers are
printed with `-s`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from pybench.harness.execution import prepare
from pybench.harness.gate import GateSettings, Measured, gate
from pybench.harness.injection import InjectedTarget, Injection
from pybench.harness.model import Sample
from pybench.harness.scenario import load_scenario
from pybench.harness.self_test import WARMUPS
from pybench.harness.store import Store
from pybench.harness.targets.base import Target

REPETITIONS = 60
ROUNDS, FEWEST_FOUND = 40, 35
"""A gate that finds 95 % finds fewer than 35 of 40 once in a hundred series."""
RUNS, NIGHTS, MOST_ALARMS = 15, 200, 2
SLOWER = Injection("slower", "start slower by 5 %", delay=0.05)


def measured(folder: Path, labels: tuple[str, ...]) -> dict[str, list[Sample]]:
    """One run of a container under several names, by name but called `container` in all samples."""
    options = {"kind": "container", "repetitions": REPETITIONS}
    content = {
        "name": "gate",
        "workloads": {
            "ready": {
                "image": "minimal",
                "command": ["/bin/workload", "ready"],
                "readiness": {"text": "ready"},
                "resources": {"memory": "128MiB", "cpus": 1, "pids": 64},
            }
        },
        "targets": dict.fromkeys(labels, options),
        "measure": ["startup"],
        "schedule": {"warmups": WARMUPS},
    }
    path = folder / "gate.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")

    def change(target: Target, label: str) -> Target:
        return InjectedTarget(target, SLOWER) if label == SLOWER.name else target

    prepared = prepare(load_scenario(path), "", {}, print)
    with Store.open(folder / "gate.sqlite") as store:
        prepared.carry_out(store, folder, change=change)
        samples = store.samples(prepared.run.id)
    return {label: [each for each in samples if each.target == label] for label in labels}


def renamed(samples: list[Sample]) -> list[Sample]:
    """As the same target of two runs would be called."""
    return [replace(sample, target="container") for sample in samples]


def outcome(before: list[Sample], after: list[Sample]) -> str:
    """What the gate says with its usual limits."""
    result = gate(Measured("before", renamed(before)), Measured("after", renamed(after)), GateSettings())
    return result.outcome


def test_five_percent_of_a_start_are_found(tmp_path: Path) -> None:
    """In at least 35 of 40 runs, each of 60 interleaved launches as it is and 60 that are slower."""
    said = []
    for _ in range(ROUNDS):
        found = measured(tmp_path, ("container", SLOWER.name))
        said.append(outcome(found["container"], found[SLOWER.name]))
    print(f"+5 %: {said.count('regression')} of {ROUNDS} found, {said.count('inconclusive')} inconclusive")
    assert said.count("regression") >= FEWEST_FOUND


def test_nights_of_the_same_thing_raise_no_alarm(tmp_path: Path) -> None:
    """At most 2 of 200 nights, each of them two different runs of 15 that nothing was changed between."""
    runs = [measured(tmp_path, ("container",))["container"] for _ in range(RUNS)]
    nights = list(permutations(range(RUNS), 2))[:NIGHTS]
    said = [outcome(runs[one], runs[other]) for one, other in nights]
    print(f"A/A: {said.count('regression')} alarms in {len(said)} nights")
    assert said.count("regression") <= MOST_ALARMS


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No store of the user's is touched."""
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
