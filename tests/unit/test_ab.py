"""`pybench ab`: two sides in one run, on pretended targets."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from gate_runs import night_samples
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.ab.blocks import BLOCKS, Collected, blocks
from pybench.harness.ab.sides import check_sides, of_side, side
from pybench.harness.cli.main import run as command_line
from pybench.harness.errors import InputError
from pybench.harness.model import TargetChoice, combine
from pybench.harness.scenario import load_scenario
from pybench.harness.store import RunFilter, Store
from pybench.runtime.journal import state_directory

Captured = pytest.CaptureFixture[str]
TEXT = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 40, latency: 5ms}
measure: [startup]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose second commit is slower than the first, being the current folder."""
    (tmp_path / "scenarios").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", "main"], check=True)
    for latency in ("5ms", "6ms"):
        text = TEXT.replace("5ms", latency)
        (tmp_path / "scenarios" / "mine.yaml").write_text(text, encoding="utf-8")
        subprocess.run([*git, "add", "scenarios"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", latency], check=True)
    return tmp_path


def test_settings_alternate_in_one_run(project: Path, capsys: Captured) -> None:
    """Exit code 1 with the phase at fault where b is worse, 0 where a is; the run is recorded as one."""
    arguments = ["ab", "scenarios/mine.yaml", "--no-report"]
    assert command_line([*arguments, "--b", "targets.fast.latency=7ms"]) == 1
    out = capsys.readouterr().out
    assert "regression: ready fast startup.ready: slower by +16.7 %" in out
    assert "b: targets.fast.latency=7ms" in out
    assert command_line([*arguments, "--a", "targets.fast.latency=7ms", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["outcome"] == "pass"
    with Store.open(project / "results" / "pybench.sqlite") as store:
        runs = store.runs(RunFilter(scenario="pretended.ab"))
        assert [run.id for run in runs][-1] == document["run"]
        assert "# side b: targets.fast.latency=7ms\n" in runs[0].definition
        launches = {sample.order: sample.target for sample in store.samples(runs[0].id)}
    order = [launches[number] for number in sorted(launches)]
    # Within each pair of launches both sides are there.
    assert all({"fast.a", "fast.b"} == set(order[at : at + 2]) for at in range(2, len(order) - 1, 2))


def test_revisions_of_a_project_alternate_block_by_block(project: Path, capsys: Captured) -> None:
    """Each side measures the scenario of its revision; neither the repository nor the host keeps anything."""
    before = sorted(project.iterdir())
    command = ["ab", "--a", "HEAD~1", "--b", "main", "scenarios/mine.yaml", "--repeat", "2", "--no-report"]
    # Two launches a side support nothing, whatever they differ by.
    assert command_line([*command, "--format", "json"]) == 4
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    (cell,) = [each for each in document["cells"] if each["metric"] == "startup.ready"]
    assert cell["shift"]["value"] == pytest.approx(0.2 * cell["baseline"]["median"])
    assert [line for line in captured.err.splitlines() if line.startswith("block")] == [
        *("block 1 of 2, side a", "block 1 of 2, side b", "block 2 of 2, side b", "block 2 of 2, side a")
    ]
    assert sorted(project.iterdir()) == sorted([*before, project / "results"])
    # A journal stays while anything that it names does.
    assert not list(state_directory().glob(f"{os.getpid()}-*.journal"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--a", "main"], "one side is a revision and the other is none"),
        ([], "both sides are the same"),
        (["--a", "main", "--b", "main"], "both sides are the same"),
        (["--a", "main", "--b", "absent"], "there is no such revision"),
        (["--a", "main", "--b", "HEAD", "--a", "HEAD"], "said twice"),
        (["--a", "image=x", "--b", "image="], "neither a revision nor key=value"),
        (["--b", "--oops"], "neither a revision nor key=value"),
        (["--a", "main", "--b", "HEAD~1", "--b", "kernel=tiny"], "an image or a kernel beside it"),
        (["--b", "schedule.seed=3"], "the sides differ in schedule"),
        (["--b", "targets.fast.latency=much"], "latency"),
        (["--b", "targets.fast.latency=6ms", "--relative", "much"], "--relative much: this is not a share"),
        (["--b", "targets.fast.latency=6ms", "--absolute", "much"], "--absolute much: this is neither"),
    ],
)
@pytest.mark.usefixtures("project")
def test_sides_that_make_no_comparison_are_bad_usage(
    arguments: list[str], said: str, capsys: Captured
) -> None:
    """Exit code 2, and the message says which side is wrong."""
    assert command_line(["ab", "scenarios/mine.yaml", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_scenario_must_be_in_both_revisions(project: Path, capsys: Captured) -> None:
    """A file that is not there at a revision, or not in the repository, is bad input."""
    (project / "scenarios" / "new.yaml").write_text(TEXT, encoding="utf-8")
    assert command_line(["ab", "--a", "HEAD~1", "--b", "HEAD", "scenarios/new.yaml"]) == 2
    assert "there is no scenarios/new.yaml in this revision" in capsys.readouterr().err
    assert command_line(["ab", "--a", "HEAD~1", "--b", "HEAD", "startup"]) == 2
    assert "is not in the repository" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_a_run_of_two_sides_is_no_baseline(capsys: Captured) -> None:
    """The branch means the scenario's own runs alone."""
    ours = ["scenarios/mine.yaml", "--no-report"]
    for arguments in (["run", *ours], ["ab", *ours, "--b", "targets.fast.latency=7ms"], ["run", *ours]):
        command_line(arguments)
    capsys.readouterr()
    assert command_line(["gate", "--baseline", "main"]) == 0
    assert "against pretended-" in capsys.readouterr().out


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5))
def test_blocks_share_the_repetitions_out(repetitions: list[int]) -> None:
    """All of them, evenly to one, in at most ten blocks of which none is empty."""
    scenario = load_scenario(Path(__file__).parents[2] / "scenarios" / "startup.yaml")
    choices = [TargetChoice(f"t{at}", "mock", number) for at, number in enumerate(repetitions)]
    found = blocks(replace(scenario, combinations=combine(scenario.workloads, choices)))
    assert len(found) <= BLOCKS
    assert all(found)
    for choice in choices:
        shares = [block.get(choice.name, 0) for block in found]
        assert sum(shares) == choice.repetitions
        assert max(shares) - min(shares) <= 1


def test_launches_of_blocks_are_numbered_through() -> None:
    """No two launches of a side have the same repetition, none at all the same place in the order."""
    collected = Collected()
    one = night_samples(1)[0]
    block = [replace(one, order=at, repetition=max(0, at - 1), warmup=at == 0) for at in range(4)]
    found = [each for label in "abba" for each in collected.add(block, label)]
    assert [each.order for each in found] == list(range(16))
    ours = of_side(found, "a")
    assert [each.repetition for each in ours if not each.warmup] == list(range(6))
    assert {each.target for each in ours} == {one.target}


def test_a_side_without_settings_is_the_scenario() -> None:
    """It says so, and differs from any other side."""
    assert str(side("a", [])) == "as the scenario says"
    check_sides(side("a", []), side("b", ["kernel=tiny"]))
    with pytest.raises(InputError, match="the same"):
        check_sides(side("a", ["image=x"]), side("b", ["image=x"]))
