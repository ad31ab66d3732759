"""`pybench compare`, from the command line to lines and data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import make_run, make_samples

from pybench.harness.cli.main import run as command_line
from pybench.harness.model import Environment
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record with the runs `before` and, on another kernel with a slower sandbox, `after`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    (tmp_path / "results").mkdir()
    repetitions = {"process": 40, "container": 40}
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        for name, factor in (("before", 1.0), ("after", 2.0)):
            run = make_run(id=name)
            fields = {**run.environment.fields, "host.kernel": f"6.1-{name}"}
            store.begin_run(replace(run, environment=Environment(fields)))
            slowed = {"startup.phase.sandbox"}
            samples = make_samples(repetitions, seed=int(factor))
            extra = {
                sample.order: sample.value * (factor - 1)
                for sample in samples
                if sample.metric in slowed and sample.value
            }
            slowed |= {"startup.ready", "startup.exec"}
            store.add_samples(
                name,
                [
                    replace(sample, value=sample.value + extra.get(sample.order, 0.0))
                    if sample.metric in slowed and sample.value
                    else sample
                    for sample in samples
                ],
            )
    return tmp_path


@pytest.mark.usefixtures("project")
def test_a_change_is_shown_with_its_cause(capsys: Captured) -> None:
    """The cell is slower, its phases are attributed, and what is not alike is said first."""
    assert command_line(["compare", "before", "after"]) == 0
    out = capsys.readouterr().out
    assert "not alike: host.kernel: 6.1-before ≠ 6.1-after" in out
    verdicts = {tuple(line.split()[1:3]): line.split()[-1] for line in out.splitlines() if "startup." in line}
    assert verdicts["container", "startup.ready"] == "slower"
    assert verdicts["process", "startup.ready"] in {"same", "inconclusive"}
    assert "hello container: where the change of the mean start comes from" in out
    (sandbox,) = (line for line in out.splitlines() if line.startswith("  sandbox"))
    assert float(sandbox.split()[-1].rstrip("%")) > 80
    assert "startup.phase" not in out
    command_line(["compare", "before", "after", "--phases"])
    assert "startup.phase.sandbox" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_the_comparison_is_data_on_request(capsys: Captured) -> None:
    """Every figure of every cell, with null where there is none."""
    assert command_line(["compare", "before", "after", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (content["baseline"], content["candidate"]) == ("before", "after")
    assert content["mismatches"][0]["field"] == "host.kernel"
    (ready,) = (
        each
        for each in content["cells"]
        if (each["target"], each["metric"]) == ("container", "startup.ready")
    )
    assert (ready["verdict"], ready["worse"]) == ("slower", True)
    assert ready["shift"]["low"] < ready["shift"]["value"] < ready["shift"]["high"]
    assert ready["cliffs_delta"]["value"] > 0.9
    assert ready["adjusted_p"]["shift"] < 1e-6
    assert [each["probability"] for each in ready["quantiles"]] == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    assert ready["detectable"] > 0
    (container,) = (each for each in content["attributions"] if each["target"] == "container")
    assert max(container["phases"], key=lambda phase: phase["value"])["phase"] == "sandbox"


def test_files_are_compared_like_runs(project: Path, capsys: Captured) -> None:
    """A file of one run, one run of a file of several, and a run of the record may be mixed."""
    command_line(["export", "before", "-o", "one.parquet"])
    command_line(["export", "before", "after", "-o", "two.jsonl"])
    capsys.readouterr()
    assert command_line(["compare", "one.parquet", "two.jsonl:after", "--format", "json"]) == 0
    from_files = capsys.readouterr().out
    (project / "moved").mkdir()
    command_line(["compare", "before", "after", "--format", "json"])
    assert from_files == capsys.readouterr().out
    assert command_line(["compare", "one.parquet", "after"]) == 0


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("befur", "did you mean before"),
        ("absent.parquet", "no such file"),
        ("two.jsonl", "it holds 2 runs"),
        ("two.jsonl:nobody", "there is no run 'nobody'"),
    ],
)
def test_what_is_no_run_is_bad_input(capsys: Captured, name: str, problem: str) -> None:
    """The message says what is wrong, and what there is instead."""
    command_line(["export", "before", "after", "-o", "two.jsonl"])
    assert command_line(["compare", name, "after"]) == 2
    assert problem in capsys.readouterr().err
