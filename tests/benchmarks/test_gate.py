"""The gate on real containers: what it must find, and how often it is wrong. Takes a quarter of an hour.

Only on a host that is left alone: other work adds what no gate can tell from a regression. The numbers are
printed with `-s`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pybench.harness import conditions
from pybench.harness.comparison.runs import PHASE, Judged
from pybench.harness.export.archive import ArchivedRun
from pybench.harness.gate.check import GateResult, GateSettings, Measured, gate
from pybench.harness.gate.injection import LEAK, LEAK_CONTROL, InjectedTarget, Injection
from pybench.harness.gate.judgement import Recorded, hold_against
from pybench.harness.gate.leak_trials import leak_trials
from pybench.harness.gate.self_test import WARMUPS
from pybench.harness.model import Sample
from pybench.harness.runner.execution import host_for_itself, prepare
from pybench.harness.scenario import load_scenario
from pybench.harness.stats import counts
from pybench.harness.store import BRANCH, Store, timestamp
from pybench.harness.targets.base import Target

REPETITIONS = 60
ROUNDS, FEWEST_FOUND = 40, 38
"""95 %."""
RUNS, NIGHTS, MOST_ALARMS = 80, 200, 2
BLOCK = 10
"""Runs that stay beside one another when their order is drawn anew: what drifts goes on drifting."""
AUDITS = 3
MAIN = "main"
PHASES = ("clone", "sandbox", "exec")
"""Of a container's start: the longest one, half of it; what is done between; and the shortest one."""
INJECTED = (
    Injection("again", "nothing"),
    *(
        Injection(f"slower-{phase}", f"start slower by 5 %, in the phase {phase}", delay=0.05, phase=phase)
        for phase in PHASES
    ),
    Injection("slower-evenly", "start slower by 5 %, all phases alike", delay=0.05, phase=""),
    Injection("larger", "2 MiB more in the instance's group", memory=2 << 20),
)


def measured(folder: Path, labels: Sequence[str]) -> ArchivedRun:
    """One run of a container under several names, which alternate, with what they stand for injected."""
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
        "measure": ["startup", "memory"],
        "schedule": {"warmups": WARMUPS, "settle": {"pause": "40ms"}, "cpu_latency": "0s"},
    }
    path = folder / "gate.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    known = {injection.name: injection for injection in INJECTED}

    def change(target: Target, label: str) -> Target:
        return InjectedTarget(target, known[label]) if label in known else target

    scenario = load_scenario(path)
    with (
        host_for_itself(scenario, wait=False, tell=print),
        Store.open(folder / "gate.sqlite") as store,
    ):
        prepared = prepare(scenario, "", {BRANCH: MAIN}, print)
        prepared.carry_out(store, folder, change=change)
        run_id = prepared.run.id
        return ArchivedRun(store.run(run_id), store.samples(run_id), store.conditions(run_id))


def held(samples: Sequence[Sample], label: str) -> GateResult:
    """What the gate says of one name, held against the container as it is, with its usual limits."""
    sides = {
        name: [replace(each, target="container") for each in samples if each.target == name]
        for name in ("container", label)
    }
    return gate(Measured("as it is", sides["container"]), Measured(label, sides[label]), GateSettings())


def regressions(samples: Sequence[Sample], injection: Injection) -> list[Judged]:
    """What the gate calls a regression, of the metrics that an injection changes."""
    metrics = "memory." if injection.memory else "startup."
    return [
        each.judged
        for each in held(samples, injection.name).findings
        if each.kind == "regression" and each.judged and each.cell[2].startswith(metrics)
    ]


def scatter_of(samples: Sequence[Sample]) -> float:
    """Half the distance of the 16th and the 84th percentile of the uninjected starts, of their median."""
    starts = [
        each.value
        for each in samples
        if (each.metric, each.target) == ("startup.ready", "container") and counts(each)
    ]
    assert starts, "every sample was rejected: this machine is not quiet"
    low, middle, high = np.quantile(np.array(starts, dtype=np.float64), (0.16, 0.5, 0.84))
    return float(high - low) / 2 / float(middle)


def test_what_is_injected_is_found_and_nothing_else(tmp_path: Path) -> None:
    """Of 40 interleaved runs: 5 % of a start, in any phase, in 38, 2 MiB in all, a control almost never."""
    found: Counter[str] = Counter()
    of_start: Counter[str] = Counter()
    scatter, paces = [], []
    for _ in range(ROUNDS):
        archived = measured(tmp_path, ("container", *(injection.name for injection in INJECTED)))
        paces.append(np.median(conditions.paces(archived.conditions)) * 1e6)
        scatter.append(scatter_of(archived.samples))
        for injection in INJECTED:
            told = regressions(archived.samples, injection)
            found[injection.name] += bool(told)
            of_start[injection.name] += any(judged.reason != PHASE for judged in told)
    print(
        f"a hundred system calls took {min(paces):.1f} to {max(paces):.1f} µs; one start scatters by "
        f"{np.median(scatter):.1%} of its median"
    )
    for injection in INJECTED:
        print(f"{injection.description}: found in {found[injection.name]} of {ROUNDS} runs", end=", ")
        print(f"in {of_start[injection.name]} of them by more than a phase")
    # What all phases have in common is what a slower host does as well: it is told, and has no bound.
    assert all(
        found[injection.name] >= FEWEST_FOUND for injection in INJECTED if injection.delay and injection.phase
    )
    assert found["larger"] == ROUNDS
    assert found["again"] <= MOST_ALARMS


def test_a_leaked_pid_is_always_found() -> None:
    """And in a second audit of the same container nothing."""
    for _ in range(AUDITS):
        trials = leak_trials(GateSettings(), lambda _: None)
        assert [trial.injection for trial in trials] == [LEAK_CONTROL, LEAK]
        assert all(trial.passed for trial in trials)


def nights_of(folder: Path, runs: Sequence[ArchivedRun]) -> Iterator[str]:
    """What a night's gate says of each run but the first, held against its past: one run a night."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    with Store.open(folder / f"{len(list(folder.iterdir()))}.sqlite") as record:
        before: Recorded | None = None
        for night, archived in enumerate(runs):
            instant = timestamp(first + timedelta(days=night))
            now = replace(archived.run, id=f"night-{night:03}", started=instant, finished=instant)
            record.put_run(now, archived.samples, archived.conditions)
            tonight = Recorded.of(record, record.run(now.id))
            if before is not None:
                yield hold_against(before, tonight, GateSettings(), record=record, name=MAIN).outcome
            before = tonight


def reordered(runs: Sequence[ArchivedRun], generator: np.random.Generator) -> list[ArchivedRun]:
    """Whole runs in an order that is drawn by blocks of neighbours."""
    start = int(generator.integers(BLOCK))
    turned = [*runs[start:], *runs[:start]]
    blocks = [turned[at : at + BLOCK] for at in range(0, len(turned), BLOCK)]
    return [run for at in generator.permutation(len(blocks)) for run in blocks[at]]


def test_nights_of_the_same_thing_raise_no_alarm(tmp_path: Path) -> None:
    """At most 2 of 200 nights, each a whole run that nothing was changed before.

    The first are the runs in the order in which they were made, the others the same runs in another order.
    All that a night's gate does is done: the latest and the oldest baseline, new levels, and limits that know
    no more than the nights before have taught them.
    """
    runs = [measured(tmp_path, ("container",)) for _ in range(RUNS)]
    generator = np.random.default_rng(1)
    places = tmp_path / "nights"
    places.mkdir()
    said = list(nights_of(places, runs))
    while len(said) < NIGHTS:
        said += nights_of(places, reordered(runs, generator))
    counts = Counter(said[:NIGHTS])
    paces = [np.median(conditions.paces(run.conditions)) for run in runs]
    print(f"a hundred system calls took {min(paces) * 1e6:.1f} to {max(paces) * 1e6:.1f} µs")
    print(f"A/A: {counts['regression']} alarms in {NIGHTS} nights, {counts['inconclusive']} inconclusive")
    assert counts["regression"] <= MOST_ALARMS


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No store of the user's is touched."""
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
