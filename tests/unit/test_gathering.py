"""`pybench gate --gather`: more samples while it cannot be told, without more false alarms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pybench.harness.cli.main import run as command_line
from pybench.harness.comparison.ranks import mann_whitney
from pybench.harness.gate.gathering import GATHERED_FOR, LOOKS
from pybench.harness.store import RunFilter, Store

Captured = pytest.CaptureFixture[str]
TEXT = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 5, latency: 5ms}
measure: [startup]
"""
SLOWER = "targets.fast.latency=6ms"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline called `good` and a slower candidate, each of too few launches to tell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    Path("mine.yaml").write_text(TEXT, encoding="utf-8")
    assert command_line(["run", "mine.yaml", "--no-report"]) == 0
    assert command_line(["history", "tag", "latest", "good"]) == 0
    assert command_line(["run", "mine.yaml", "--no-report", "--repeat", "3", "--set", SLOWER]) == 0
    return tmp_path / "results" / "pybench.sqlite"


def gathered(record: Path) -> list[str]:
    """The runs that were gathered for some candidate."""
    with Store.open(record) as store:
        return [run.id for run in store.runs() if GATHERED_FOR in run.environment.fields]


def test_a_change_that_was_not_supported_becomes_so(record: Path, capsys: Captured) -> None:
    """Two runs more settle it; they are of the candidate's own settings, and stay runs of their own."""
    assert command_line(["gate", "--baseline", "good"]) == 4
    capsys.readouterr()
    gate = ["gate", "--baseline", "good", "--gather", "1min"]
    assert command_line([*gate, "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["gathered"] == gathered(record)
    (cell,) = [each for each in document["cells"] if each["metric"] == "startup.ready"]
    assert (cell["baseline"]["n"], cell["candidate"]["n"]) == (5, 9)
    with Store.open(record) as store:
        assert len(store.runs(RunFilter(scenario="pretended"))) == 2
        assert store.run(document["gathered"][0]).environment.fields[GATHERED_FOR] == document["candidate"]
    # Asked again, the newest run still means the candidate, and what was gathered is not gathered twice.
    assert command_line(gate) == 1
    assert f"with 2 runs more: {', '.join(document['gathered'])}" in capsys.readouterr().out
    assert len(gathered(record)) == 2


def test_looks_are_limited(record: Path, capsys: Captured) -> None:
    """What three runs more do not settle stays inconclusive."""
    with Store.open(record) as store:
        fewer = store.run("good")
        samples = [each for each in store.samples(fewer.id) if each.repetition < 2]
        # Two values support nothing, however many stand against them.
        store.remove_runs([fewer.id])
        store.put_run(fewer, samples)
        store.tags.set("good", fewer.id)
    arguments = ["gate", "--baseline", "good", "--gather", "10min"]
    assert command_line(arguments) == 4
    assert len(gathered(record)) == LOOKS - 1
    assert command_line(arguments) == 4
    assert len(gathered(record)) == LOOKS - 1
    assert "with 3 runs more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: Path("mine.yaml").unlink(), "cannot read the scenario"),
        (
            lambda: Path("mine.yaml").write_text(TEXT.replace("repetitions: 5", "repetitions: 6")),
            "is not what",
        ),
    ],
)
def test_what_has_changed_is_not_gathered(record: Path, change: object, said: str, capsys: Captured) -> None:
    """The reason is told, and the result stays inconclusive."""
    assert callable(change)
    change()
    capsys.readouterr()
    assert command_line(["gate", "--baseline", "good", "--gather", "1min"]) == 4
    assert said in capsys.readouterr().err
    assert not gathered(record)


def test_the_time_for_gathering_is_a_limit(record: Path, capsys: Captured) -> None:
    """No launch begins after it; a text that is no time is bad usage."""
    assert command_line(["gate", "--baseline", "good", "--gather", "0s"]) == 4
    assert "the time for it is over" in capsys.readouterr().err
    assert not gathered(record)
    assert command_line(["gate", "--baseline", "good", "--gather", "long"]) == 2


def test_repeated_looks_keep_the_rate_of_false_alarms() -> None:
    """Simulated: shared among the looks, a rate of 10 % holds; at its full rate each look adds alarms."""
    generator = np.random.default_rng(7)
    rate, shared, naive, nights = 0.1, 0, 0, 1500
    for _ in range(nights):
        baseline = generator.lognormal(0, 0.1, 40)
        candidate = generator.lognormal(0, 0.1, 40 * LOOKS)
        smallest = min(mann_whitney(baseline, candidate[: 40 * look]) for look in range(1, LOOKS + 1))
        shared += smallest <= rate / LOOKS
        naive += smallest <= rate
    assert shared / nights <= rate
    assert naive / nights > rate
