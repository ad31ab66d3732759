"""`pybench nightly`, on pretended targets, and the examples that the documentation offers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from pybench import scenarios
from pybench.harness.cli.main import run as command_line
from pybench.harness.cli.overview import VERBS
from pybench.harness.cli.show_nightly import junit, markdown, openmetrics
from pybench.harness.nightly import WORST_LAST, Result, read_night, worst
from pybench.harness.store import RunFilter, Store
from pybench.reports.site_state import write_state

Captured = pytest.CaptureFixture[str]
EXAMPLES = Path(__file__).parents[2] / "docs" / "nightly"
TEXT = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 20, latency: 5ms}
measure: [startup]
"""
NIGHT = """\
scenarios:
  - scenario: mine.yaml
  - {scenario: mine.yaml, repeat: 10, set: [name=other]}
outputs: {junit: junit.xml, markdown: summary.md, openmetrics: pybench.prom}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a scenario and a night of two entries, being the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], check=True)
    Path("mine.yaml").write_text(TEXT, encoding="utf-8")
    Path("nightly.yaml").write_text(NIGHT, encoding="utf-8")
    return tmp_path


def test_a_slower_night_fails_in_every_output(project: Path, capsys: Captured) -> None:
    """The first night has no baseline and passes; the next one is a regression, told everywhere."""
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "nightly: pretended no baseline yet, other no baseline yet" in capsys.readouterr().out
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "nightly: pretended pass, other pass" in capsys.readouterr().out
    slower = NIGHT.replace(
        "- scenario: mine.yaml", "- {scenario: mine.yaml, set: [targets.fast.latency=6ms]}"
    )
    Path("nightly.yaml").write_text(slower, encoding="utf-8")
    Path("summary.md").unlink()
    assert command_line(["nightly", "nightly.yaml"]) == 1
    assert "nightly: pretended regression, other pass" in capsys.readouterr().out

    suites = {suite.name: suite for suite in JUnitXml.fromfile(str(project / "junit.xml"))}
    assert {name: suite.failures for name, suite in suites.items()} == {"pretended": 2, "other": 0}
    failed = [case for case in suites["pretended"] if case.result]
    assert {case.name for case in failed} == {"ready startup.exec", "ready startup.ready"}
    assert failed[0].classname == "pretended.fast"

    summary = Path("summary.md").read_text(encoding="utf-8")
    assert summary.startswith("## pybench nightly: regression\n")
    assert re.search(r"\| pretended \| regression \| pretended-\S+ \| pretended-\S+ \| 2 \|", summary)

    text = Path("pybench.prom").read_text(encoding="utf-8")
    found = {
        (sample.name, sample.labels.get("scenario")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["pybench_nightly_exit_code", None] == 1
    assert found["pybench_gate_exit_code", "pretended"] == 1
    assert found["pybench_gate_exit_code", "other"] == 0
    assert found["pybench_startup_ready_seconds", "pretended"] == pytest.approx(6.18e-3)
    with Store.open(project / "results" / "pybench.sqlite") as store:
        assert len(store.runs(RunFilter(scenario="pretended"))) == 3

    # The night after is as slow as its baseline, but not as the oldest one.
    assert command_line(["nightly", "nightly.yaml", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [each["outcome"] for each in document["scenarios"]] == ["regression", "pass"]
    assert {each["kind"] for each in document["scenarios"][0]["judgement"]["findings"]} == {"drift"}


def test_a_branch_that_was_not_measured_yet_is_waited_for(
    project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nights of a feature pass until there is a run of the baseline's branch, and are then held to that."""
    monkeypatch.setenv("PYBENCH_BRANCH", "feature")
    for _ in range(2):
        assert command_line(["nightly", "nightly.yaml"]) == 0
        assert "nightly: pretended no baseline yet, other no baseline yet" in capsys.readouterr().out
    summary = Path("summary.md").read_text(encoding="utf-8")
    assert "no run of this scenario on the branch main yet" in summary
    monkeypatch.setenv("PYBENCH_BRANCH", "main")
    assert command_line(["run", "mine.yaml", "--no-report"]) == 0
    monkeypatch.setenv("PYBENCH_BRANCH", "feature")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "nightly: pretended pass, other no baseline yet" in capsys.readouterr().out
    # So does the first night of a branch that is its own baseline.
    (project / "nightly.yaml").write_text(NIGHT + "gate: {baseline: trunk}\n", encoding="utf-8")
    monkeypatch.setenv("PYBENCH_BRANCH", "trunk")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "nightly: pretended no baseline yet" in capsys.readouterr().out


def test_nights_of_a_shipped_scenario_are_held_against_each_other(
    tmp_path_factory: pytest.TempPathFactory, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of the project that one is in, not of where pybench is installed."""
    installed = tmp_path_factory.mktemp("installed")
    (project / "mine.yaml").rename(installed / "startup.yaml")
    monkeypatch.setattr(scenarios, "_folder", lambda: installed)
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/trunk"], check=True)
    night = "scenarios: [{scenario: startup}]\ngate: {baseline: trunk}\n"
    Path("nightly.yaml").write_text(night, encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "pretended no baseline yet" in capsys.readouterr().out
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "pretended pass" in capsys.readouterr().out


def test_nights_in_no_repository_are_held_against_each_other(
    tmp_path_factory: pytest.TempPathFactory, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder such as /var/lib/pybench has one line of nights, so that a regression is found there, too."""
    folder = tmp_path_factory.mktemp("nights")
    for name in ("mine.yaml", "nightly.yaml"):
        (project / name).rename(folder / name)
    monkeypatch.chdir(folder)
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "pretended no baseline yet, other no baseline yet" in capsys.readouterr().out
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "pretended pass, other pass" in capsys.readouterr().out


@pytest.mark.parametrize("waiver", ["expiry: '2026-01-01'", "expiry: never"])
def test_a_waiver_that_has_expired_fails_its_audit_alone(
    waiver: str, project: Path, capsys: Captured
) -> None:
    """Bad input before anything is audited, and the other scenarios are measured."""
    (project / "audited.yaml").write_text(
        TEXT.replace("pretended", "audited").replace("[startup]", "[isolation]"), encoding="utf-8"
    )
    (project / "nightly.yaml").write_text(
        NIGHT.replace("- scenario: mine.yaml", "- scenario: audited.yaml"), encoding="utf-8"
    )
    text = f"waivers: [{{probe: X3, target: fast, reason: accepted for now, {waiver}}}]\n"
    (project / "audit-waivers.yaml").write_text(text, encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 2
    captured = capsys.readouterr()
    assert "nightly: audited bad input, other no baseline yet" in captured.out
    assert "audit-waivers.yaml" in captured.err
    with Store.open(project / "results" / "pybench.sqlite") as store:
        assert {run.scenario for run in store.runs()} == {"other"}


def test_a_night_gathers_but_does_not_try_again(project: Path) -> None:
    """More samples while it cannot be told; a regression is measured once."""
    few = NIGHT.replace("- scenario: mine.yaml", "- {scenario: mine.yaml, repeat: 4, gate: {gather: 1min}}")
    Path("nightly.yaml").write_text(few, encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    Path("mine.yaml").write_text(TEXT.replace("5ms", "6ms"), encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 1
    with Store.open(project / "results" / "pybench.sqlite") as store:
        counts = {name: len(store.runs(RunFilter(scenario=name))) for name in ("pretended", "other")}
        gathered = store.runs(RunFilter(scenario="pretended.gather"))
    assert counts == {"pretended": 2, "other": 2}
    assert gathered


def test_one_that_cannot_be_run_keeps_nobody_from_it(project: Path, capsys: Captured) -> None:
    """Its reason is told, in the XML too, and the others are measured."""
    text = "gate: {baseline: main}\n" + NIGHT.replace(
        "- scenario: mine.yaml", "- {scenario: mine.yaml, gate: {baseline: mian}}"
    )
    Path("nightly.yaml").write_text(text, encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert command_line(["nightly", "nightly.yaml"]) == 2
    captured = capsys.readouterr()
    assert "nightly: pretended bad input, other pass" in captured.out
    assert "there is no run, tag or branch 'mian'" in captured.err
    suite = next(iter(JUnitXml.fromfile(str(project / "junit.xml"))))
    assert suite.errors == 1
    assert "mian" in next(iter(suite)).result[0].message


@pytest.mark.usefixtures("project")
def test_a_site_that_cannot_be_drawn_hides_nothing(capsys: Captured) -> None:
    """What the gates say is told and written all the same; a folder of something else is refused at once."""
    Path("nightly.yaml").write_text(NIGHT.replace("{junit", "{site: site, junit"), encoding="utf-8")
    site = Path("site")
    site.mkdir()
    (site / "runs").write_text("no folder", encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 2
    assert "no site of ours" in capsys.readouterr().err
    assert not Path("results").exists()
    write_state(site, [])
    assert command_line(["nightly", "nightly.yaml"]) == 2
    captured = capsys.readouterr()
    assert "nightly: pretended no baseline yet, other no baseline yet, site bad input" in captured.out
    assert "site: cannot make the site" in captured.err
    suites = {suite.name: suite.errors for suite in JUnitXml.fromfile("junit.xml")}
    assert suites == {"pretended": 0, "other": 0, "site": 1}


def test_the_self_test_is_part_of_a_night(project: Path, capsys: Captured) -> None:
    """The gate shows first that it works."""
    (project / "nightly.yaml").write_text(NIGHT + "self_test: true\n", encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 0
    assert "nightly: gate self-test pass, pretended no baseline yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenarios: []\n", "scenarios"),
        (
            "scenarios: [{scenario: absent.yaml}]\n",
            "nightly.yaml:1:13: scenarios[0]: absent.yaml: cannot read",
        ),
        ("scenarios: [{scenario: mine.yaml, targets: [slow]}]\n", "target 'slow' is not in the scenario"),
        ("scenarios: [{scenario: mine.yaml, set: [measure=1]}]\n", "measure"),
        ("scenarios: [{scenario: mine.yaml}]\ngate: {limits: absent.yaml}\n", "absent.yaml: cannot read"),
        ("scenarios: [{scenario: mine.yaml}]\ngate: {gather: long}\n", "gate.gather"),
        ("scenarios: [{scenario: mine.yaml}]\nself-test: true\n", "did you mean 'self_test'?"),
        ("scenarios: [{scenario: mine.yaml}]\noutputs: {junit: absent/junit.xml}\n", "does not exist"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    text: str, said: str, project: Path, capsys: Captured
) -> None:
    """Exit code 2, with the place."""
    (project / "nightly.yaml").write_text(text, encoding="utf-8")
    assert command_line(["nightly", "nightly.yaml"]) == 2
    assert said in capsys.readouterr().err
    assert not (project / "results").exists()


def test_the_worst_code_is_a_regression() -> None:
    """It does not hide behind what could not be told."""
    assert [worst(codes) for codes in ([], [0, 4], [4, 3], [3, 2], [2, 1, 0], [1, 130])] == [*WORST_LAST]


def test_hostile_text_stays_text() -> None:
    """In every output: no markup, no control characters, no line of its own."""
    result = Result("x", 3, said="<script>|`\x1b[31m\n# HELP evil\x00")
    assert [suite.name for suite in JUnitXml.fromstring(junit([result]))] == ["x"]
    assert "<script>" not in markdown([result], 3)
    assert "\n# HELP" not in markdown([result], 3)
    assert b"evil" not in openmetrics([result], 3)


def commands() -> Iterator[list[str]]:
    """Every command line of pybench in the examples."""
    for path in sorted(EXAMPLES.iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.lstrip().startswith("#"):
                for found in re.findall(r"(?:^|[ /=`])pybench ([a-z]+(?: [^|&>;`]+)?)", line):
                    yield found.split()


def test_commands_of_the_examples_exist(capsys: Captured) -> None:
    """Verbs and options are those of the command line."""
    found = list(commands())
    assert {words[0] for words in found} >= {"nightly", "ab", "gate", "audit"}
    for verb, *words in found:
        if verb not in VERBS:
            continue
        command_line([verb, "--help"])
        described = capsys.readouterr().out
        for option in (word for word in words if word.startswith("--")):
            assert option in described, (verb, option)


def test_the_example_of_a_night_is_valid() -> None:
    """It reads, with the shipped scenario."""
    night = read_night(EXAMPLES / "nightly.yaml")
    assert [entry.scenario.name for entry in night.entries] == ["startup", "startup-vm", "isolation"]


def test_examples_for_ci_are_whole() -> None:
    """Each job says where it runs and what it runs, and keeps the results of a night that failed."""
    github = yaml("github-actions.yaml")
    steps = github["jobs"]["pybench"]["steps"]
    assert any("pybench nightly" in step.get("run", "") for step in steps)
    assert steps[-1]["if"] == "always()"
    assert all("runs-on" in job for job in github["jobs"].values())
    for step in steps:
        if "run" in step:
            subprocess.run(["sh", "-n", "-c", step["run"]], check=True)
    gitlab = yaml("gitlab-ci.yaml")
    assert gitlab["nightly"]["artifacts"]["reports"] == {"junit": "junit.xml"}
    assert gitlab["nightly"]["artifacts"]["when"] == "always"
    outputs = read_night(EXAMPLES / "nightly.yaml").model.outputs
    assert {outputs.junit, outputs.markdown, outputs.site} <= set(gitlab["nightly"]["artifacts"]["paths"])


def test_the_cron_line_has_five_fields_a_user_and_a_command() -> None:
    """As in /etc/cron.d (crontab(5)), where a percent sign would end the command."""
    (line,) = [
        line
        for line in (EXAMPLES / "crontab").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#") and "=" not in line.split()[0]
    ]
    *times, user, command = line.split(maxsplit=6)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in times)
    assert (len(times), user, "%" in command) == (5, "root", False)
    subprocess.run(["sh", "-n", "-c", command], check=True)


def yaml(name: str) -> dict[str, Any]:
    """An example as data."""
    loaded = YAML(typ="safe", pure=True).load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded
