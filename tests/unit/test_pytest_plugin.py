"""Scenarios as benchmarks of pytest, on pretended targets; each pytest is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

TEXT = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 8, latency: 5ms}
  slow: {kind: mock, repetitions: 8, latency: 9ms}
measure: [startup, memory]
schedule: {warmups: 1}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project with one scenario, being the current folder."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "mine.yaml").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    return tmp_path


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest, as in a project of somebody else."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def launches(project: Path) -> dict[str, int]:
    """Target → launches that count, in the newest run of the record."""
    with Store.open(project / "results" / "pybench.sqlite", create=False) as store:
        samples = store.samples(store.run().id)
    wanted = [each for each in samples if each.metric == "startup.ready" and not each.warmup]
    return {name: sum(each.target == name for each in wanted) for name in {each.target for each in wanted}}


def named(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → benchmark."""
    return {each["name"]: each for each in content["benchmarks"]}


def test_every_cell_is_a_result_of_pytest_benchmark(project: Path) -> None:
    """Seconds and bytes with all their values; the run is in the record beside the scenario."""
    done = run_pytest("scenarios/mine.yaml", "--benchmark-json", "out.json", "-q")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    found = named(json.loads((project / "out.json").read_text(encoding="utf-8")))
    slow = found["ready[slow] startup.ready"]
    assert slow["fullname"] == "scenarios/mine.yaml::ready[slow] startup.ready"
    assert (slow["stats"]["rounds"], slow["stats"]["min"]) == (8, pytest.approx(9e-3))
    assert found["ready[fast] memory.host.cgroup"]["stats"]["median"] == 2**20
    assert slow["extra_info"]["pybench"]["qualifiers"]["pretended"] == "yes"
    assert "Name (time in bytes)" in done.stdout
    assert launches(project) == {"fast": 8, "slow": 8}


def test_saved_results_fail_a_slower_run(project: Path) -> None:
    """`--benchmark-autosave`, then `--benchmark-compare-fail`, as with any benchmark."""
    assert run_pytest("scenarios/mine.yaml", "--benchmark-autosave").returncode == 0
    assert list((project / ".benchmarks").rglob("0001*.json"))
    compare = ["scenarios/mine.yaml", "--benchmark-compare", "--benchmark-compare-fail=median:5%"]
    assert run_pytest(*compare).returncode == 0
    done = run_pytest(*compare, "--pybench-set", "targets.fast.latency=6ms")
    assert done.returncode != 0
    assert "ready[fast] startup.ready" in (done.stdout + done.stderr).split("Performance has regressed")[1]


def test_only_what_is_selected_is_launched(project: Path) -> None:
    """By -k, and once each where benchmarks are disabled."""
    assert run_pytest("scenarios/mine.yaml", "-k", "slow", "--pybench-quick").returncode == 0
    assert launches(project) == {"slow": 5}
    done = run_pytest("scenarios/mine.yaml", "--benchmark-disable", "--pybench-results", "elsewhere")
    assert done.returncode == 0
    assert launches(project) == {"slow": 5}
    (project / "results").rename(project / "before")
    (project / "elsewhere").rename(project / "results")
    assert launches(project) == {"fast": 1, "slow": 1}
    assert "2 skipped" in run_pytest("scenarios/mine.yaml", "--benchmark-skip").stdout


def test_a_target_that_never_starts_fails(project: Path) -> None:
    """With the reason, and the others pass."""
    (project / "scenarios" / "mine.yaml").write_text(
        TEXT.replace("latency: 9ms", "failures: x"), encoding="utf-8"
    )
    done = run_pytest("scenarios/mine.yaml")
    assert "1 failed, 1 passed" in done.stdout
    assert "ready[slow]: every launch failed: the pretended instance failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_scenario_that_makes_no_sense_is_told_with_its_place(project: Path) -> None:
    """File, line, column and key, while collecting."""
    (project / "scenarios" / "mine.yaml").write_text(TEXT.replace("latency", "latncy"), encoding="utf-8")
    done = run_pytest("scenarios/mine.yaml")
    assert done.returncode == 2
    assert "mine.yaml:5:38: targets.fast.latncy: unknown key; did you mean 'latency'?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_other_files_and_folders_are_left_alone(project: Path) -> None:
    """Neither a scenario in a folder that is collected, nor a named file that is none."""
    (project / "test_it.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    (project / "other.yaml").write_text("targets: 1\nname: x\n", encoding="utf-8")
    assert "1 passed" in run_pytest(".").stdout
    assert run_pytest("other.yaml").returncode != 0
    assert "collected 0 items" in run_pytest("other.yaml").stdout
    assert not (project / "results").exists()


def test_other_runs_of_pytest_load_nothing(project: Path) -> None:
    """The plugin is one small module, also without pytest-benchmark; a fixture of its name may be theirs."""
    (project / "test_it.py").write_text(
        "import sys, pytest\n"
        "@pytest.fixture\n"
        "def sandbox():\n"
        "    return 'mine'\n"
        "def test_it(sandbox):\n"
        "    assert sandbox == 'mine'\n"
        "    ours = {name for name in sys.modules if name.startswith('pybench.')}\n"
        "    assert ours == {'pybench.harness', 'pybench.harness.pytest_plugin'}\n"
        "    assert not {'numpy', 'sqlalchemy', 'pydantic', 'libvirt', 'typer'} & sys.modules.keys()\n",
        encoding="utf-8",
    )
    for arguments in ([], ["-p", "no:benchmark"]):
        done = run_pytest("test_it.py", *arguments, "-W", "error", "--strict-markers")
        assert "1 passed" in done.stdout, done.stdout


def test_runs_go_out_and_in_as_documents_of_pytest_benchmark(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What counts comes back, and a comparison with the record shows no change."""
    assert command_line(["run", "scenarios/mine.yaml", "--no-report"]) == 0
    export = ["export", "latest", "--format", "pytest-benchmark", "--output"]
    assert command_line([*export, "out.json"]) == 0
    assert command_line(["history", "import", "out.json", "--store", "other.sqlite"]) == 0
    with Store.open("other.sqlite") as other, Store.open(project / "results" / "pybench.sqlite") as store:
        run = store.run()
        assert other.run() == run
        ours = [each for each in store.samples(run.id) if not each.warmup and each.value]
        assert sorted((each.target, each.metric, each.value) for each in ours) == sorted(
            (each.target, each.metric, each.value) for each in other.samples(run.id)
        )
    capsys.readouterr()
    assert command_line(["compare", "out.json", "latest"]) == 0
    out = capsys.readouterr().out
    assert "slower" not in out
    assert "faster" not in out
    assert command_line([*export, "out.csv"]) == 2
    assert command_line(["export", "latest", "--output", "out.json"]) == 2


def test_results_of_other_tests_are_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each test is a workload; without its data, or damaged, a file is refused with a hint."""
    (project / "test_it.py").write_text(
        "def test_sum(benchmark):\n    benchmark.pedantic(sum, args=([1, 2],), rounds=7)\n", encoding="utf-8"
    )
    assert run_pytest("test_it.py", "--benchmark-json", "out.json", "--benchmark-autosave").returncode == 0
    assert command_line(["history", "import", "out.json", "--store", "other.sqlite"]) == 0
    with Store.open("other.sqlite") as store:
        run = store.run()
        samples = store.samples(run.id)
    assert (run.scenario, len(samples), samples[0].unit) == ("pytest-benchmark", 7, "s")
    assert samples[0].workload == "test_it.py::test_sum"
    (saved,) = (project / ".benchmarks").rglob("0001*.json")
    assert command_line(["history", "import", str(saved), "--store", "other.sqlite"]) == 2
    assert "--benchmark-save-data" in capsys.readouterr().err
    for content in ("[1]", '{"a": {}}', '[{"stats": {"data": ["x"]}}]'):
        damaged = project / "damaged.json"
        text = '{"machine_info": {}, "datetime": "2026-01-01T00:00:00", "benchmarks": ' + content + "}"
        damaged.write_text(text, encoding="utf-8")
        assert command_line(["history", "import", str(damaged), "--store", "other.sqlite"]) == 2
    assert "Traceback" not in capsys.readouterr().err
