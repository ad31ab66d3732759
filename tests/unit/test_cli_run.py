"""`pybench run`, from the command line to files and exit codes, on pretended targets."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

TEXT = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 6}
  slow: {kind: mock, repetitions: 2, latency: 30ms, failures: "..x"}
  broken: {kind: mock, repetitions: 2, failures: x}
measure: [startup, teardown, memory]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project with one scenario, being the current folder."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "mine.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored_runs(project: Path) -> int:
    """How many runs the record of the project has."""
    with Store.open(project / "results" / "pybench.sqlite", create=False) as store:
        return len(store.runs())


def test_a_run_gives_a_table_a_record_a_document_and_a_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and the last lines are the paths of what was written."""
    arguments = ["run", "scenarios/mine.yaml", "--targets", "fast,slow", "--json", "out.json", "--seed", "5"]
    assert command_line(arguments) == 0
    out = capsys.readouterr().out
    content = json.loads((project / "out.json").read_text())
    run_id = content["run"]["id"]
    assert "slow" in out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["record", "json", "report"]
    assert Path(out.splitlines()[-1].split(maxsplit=1)[1]).resolve() == (
        project / "results" / run_id / "report.html"
    )
    assert content["run"]["command"] == "pybench run scenarios/mine.yaml --targets fast,slow --seed 5"
    assert content["run"]["status"] == "done"
    assert {
        entry["target"]: entry["n"] for entry in content["summary"] if entry["metric"] == "startup.ready"
    } == {
        "fast": 6,
        "slow": 1,
    }
    with Store.open(project / "results" / "pybench.sqlite") as store:
        assert store.run(run_id).definition == TEXT
        assert len(store.samples(run_id)) == len(content["samples"])


def test_the_second_report_tells_of_the_first_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report that a run writes holds it against the run before; the first one has nothing to tell of."""
    for _ in range(2):
        assert command_line(["run", "scenarios/mine.yaml", "--targets", "fast"]) == 0
    first, second = [
        Path(line.removeprefix("report").strip()).read_text(encoding="utf-8")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("report ")
    ]
    with Store.open(project / "results" / "pybench.sqlite") as store:
        baseline = store.runs()[0].id
    assert "Against its past" not in first
    assert "Against its past" in second
    assert re.search(rf"Baseline: .{{0,40}}{baseline}", second)


def test_progress_is_told_on_standard_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe there are plain lines: preparation, failures, and how far it is."""
    command_line(["run", str(project / "scenarios" / "mine.yaml"), "--no-report"])
    lines = capsys.readouterr().err.splitlines()
    assert "preparing slow for ready" in lines
    assert "failed: broken ready, repetition 1: the pretended instance failed" in lines
    assert any(line.startswith("13 of 13 steps") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_a_target_with_nothing_but_failures_is_exit_code_1(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others' results are stored and shown all the same, beside the scenario's project."""
    assert command_line(["run", "scenarios/mine.yaml", "--no-report", "--repeat", "1"]) == 1
    captured = capsys.readouterr()
    assert "broken: every launch failed" in captured.err
    assert "fast" in captured.out
    assert stored_runs(project) == 1


def test_results_lie_beside_the_scenarios_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever it is started; a scenario that lies elsewhere has them in the current folder."""
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    chosen = ["--no-report", "--repeat", "1", "--targets", "fast"]
    assert command_line(["run", "../scenarios/mine.yaml", *chosen]) == 0
    assert stored_runs(project) == 1
    (project / "loose.yaml").write_text(TEXT)
    assert command_line(["run", "../loose.yaml", *chosen]) == 0
    assert stored_runs(project / "elsewhere") == 1
    assert command_line(["run", "../loose.yaml", *chosen, "--results", str(project / "deep" / "er")]) == 0
    assert (project / "deep" / "er" / "pybench.sqlite").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot read the scenario"),
        (["scenarios"], "this is a directory"),
        (["scenarios/mine.yaml", "--targets", "fsat"], "did you mean 'fast'?"),
        (["scenarios/mine.yaml", "--repeat", "0"], "0 repetitions make no sense"),
        (["scenarios/mine.yaml", "--results", "scenarios/mine.yaml"], "results folder cannot be written"),
        (["scenarios/mine.yaml", "--results", "/proc/results"], "results folder cannot be written"),
        (["scenarios/mine.yaml", "--json", "nowhere/out.json"], "does not exist"),
        (["scenarios/mine.yaml", "--libvirt-uri", "qemu:///system"], "no target is a virtual machine"),
        (["scenarios/mine.yaml", "--accel", "tcg"], "no target is a virtual machine"),
        (["scenarios/mine.yaml", "--accel", "xen"], "--accel xen: no such thing"),
    ],
)
def test_bad_input_is_exit_code_2_in_one_line(
    project: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is launched, nothing is stored, and there is no traceback."""
    assert command_line(["run", *arguments]) == 2
    captured = capfd.readouterr()
    problem, *hint = captured.err.splitlines()
    assert problem.startswith("pybench: ")
    assert message in problem
    assert len(hint) <= 1
    assert captured.out == ""
    assert not (project / "results" / "pybench.sqlite").exists()


def test_an_image_that_does_not_exist_is_bad_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told before anything is launched or recorded."""
    text = TEXT.replace("image: minimal", "image: nonesuch").replace(
        "slow: {kind: mock,", "slow: {kind: process,"
    )
    (project / "scenarios" / "mine.yaml").write_text(text.replace(', latency: 30ms, failures: "..x"', ""))
    assert command_line(["run", "scenarios/mine.yaml"]) == 2
    assert "nonesuch" in capsys.readouterr().err
    assert stored_runs(project) == 0


def test_a_damaged_record_is_told_and_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a hint, and the file is as it was."""
    (project / "results").mkdir()
    record = project / "results" / "pybench.sqlite"
    record.write_bytes(b"damaged" * 1000)
    assert command_line(["run", "scenarios/mine.yaml"]) == 2
    assert "damaged" in capsys.readouterr().err
    assert record.read_bytes() == b"damaged" * 1000


def test_results_before_a_fault_are_kept_and_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Something left behind ends the run with exit code 1, after the samples so far were exported."""
    text = TEXT.replace("repetitions: 6", 'repetitions: 6, failures: "...l"')
    (project / "scenarios" / "mine.yaml").write_text(text)
    arguments = ["run", "scenarios/mine.yaml", "--targets", "fast", "--json", "out.json", "--no-report"]
    assert command_line(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "pybench: the pretended instance survived its teardown"
    assert "fast" in captured.out
    content = json.loads((project / "out.json").read_text())
    assert content["run"]["status"] == "failed"
    assert len([entry for entry in content["samples"] if entry["metric"] == "startup.ready"]) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_exit_code_130_with_its_results(project: Path, number: signal.Signals) -> None:
    """What was measured is stored, shown and exported, and the journal is gone."""
    text = TEXT.replace("repetitions: 6", "repetitions: 5000, delay: 10ms")
    (project / "scenarios" / "mine.yaml").write_text(text)
    program = "from pybench.harness.cli.main import main; main()"
    arguments = ["run", "scenarios/mine.yaml", "--targets", "fast", "--json", "out.json", "--no-report"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        wait_for_samples(project, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what was measured is kept" in err
    assert "Traceback" not in err
    assert "fast" in out
    content = json.loads((project / "out.json").read_text())
    assert content["run"]["status"] == "interrupted"
    assert content["samples"]


def wait_for_samples(project: Path, process: subprocess.Popen[str]) -> None:
    """Return when the run has stored something; asking the file is what a user's second terminal would do."""
    record = project / "results" / "pybench.sqlite"
    while process.poll() is None:
        if record.exists():
            connection = sqlite3.connect(f"file:{record}?mode=ro", uri=True)
            try:
                if connection.execute("SELECT count(*) FROM sample").fetchone()[0] > 20:
                    return
            except sqlite3.OperationalError:
                pass
            finally:
                connection.close()
    pytest.fail("the run ended before it was interrupted")


def test_a_dry_run_shows_the_plan_and_launches_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its times are typical ones until a run of the scenario is on record, then those of that run."""
    arguments = ["run", "scenarios/mine.yaml", "--dry-run", "--targets", "fast,slow"]
    assert command_line(arguments) == 0
    out = capsys.readouterr().out
    assert "mine" not in out
    assert "pretended: at most 10 launches, about" in out
    assert "typical" in out
    assert "nothing was launched" in out
    assert not (project / "results").exists()
    assert command_line(["run", "scenarios/mine.yaml", "--no-report", "--targets", "fast,slow"]) == 0
    capsys.readouterr()
    assert command_line(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("earlier runs") == 2
    assert "typical" not in out
    assert stored_runs(project) == 1


@pytest.mark.usefixtures("project")
def test_a_dry_run_tells_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends it, what it waits for, and what it does to the host."""
    schedule = (
        "schedule={warmups_at_most: 9, stop: {precision: 5%, at_least: 6, time: 2min}, caches: cold, "
        "settle: {running: 2, pressure: 20%}, cpus: [0], priority: high, cpu_latency: 20us}"
    )
    assert command_line(["run", "scenarios/mine.yaml", "--dry-run", "--set", schedule]) == 0
    out = capsys.readouterr().out
    for rule in (
        "the median of startup.ready is at most 5 % wide, from 6 samples on",
        "stops after 2 min 00 s",
        "warms up while launches get faster, 1 to 9 times",
        "for at most 2 runnable tasks, processor pressure at most 20 %",
        "drops the host's page cache",
        "held to processors 0",
        "high scheduling priority",
        "idle processors take 20.0 µs to wake up",
    ):
        assert rule in out


def test_what_was_set_is_part_of_the_record(project: Path) -> None:
    """The command repeats the run, and the definition is the scenario as it was carried out."""
    arguments = [
        "run",
        "scenarios/mine.yaml",
        "--set",
        "targets.fast.repetitions=2",
        "--quick",
        "--no-report",
    ]
    assert command_line([*arguments, "--targets", "fast"]) == 0
    with Store.open(project / "results" / "pybench.sqlite") as store:
        (run,) = store.runs()
        assert run.command == (
            "pybench run scenarios/mine.yaml --targets fast --set targets.fast.repetitions=2 --quick"
        )
        assert "repetitions: 2" in run.definition
        assert sum(sample.metric == "teardown" for sample in store.samples(run.id)) == 3


@pytest.mark.usefixtures("project")
def test_a_run_that_is_told_to_stop_at_a_failure_is_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the results so far."""
    arguments = ["run", "scenarios/mine.yaml", "--no-report", "--targets", "fast,broken"]
    assert command_line([*arguments, "--set", "schedule.on_failure=stop"]) == 1
    assert "ended at the first failure" in capsys.readouterr().err


def test_more_memory_than_the_host_has_is_exit_code_3(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told with target and parameters, before anything is launched or built."""
    text = TEXT.replace("fast: {kind: mock, repetitions: 6}", "vm: {memory: '${memory}'}")
    (project / "scenarios" / "mine.yaml").write_text("parameters: {memory: [256MiB, 1PiB]}\n" + text)
    assert command_line(["run", "scenarios/mine.yaml"]) == 3
    err = capsys.readouterr().err
    assert "one guest of vm for ready (memory=1PiB) is to have 1.00 PiB" in err
    assert not (project / "results").exists()
    assert command_line(["run", "scenarios/mine.yaml", "--dry-run"]) == 0
    assert "this host cannot run it: " in capsys.readouterr().err


def test_a_dry_run_tells_of_an_image_that_is_not_known_here(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is shown all the same: it may be meant for another host."""
    text = TEXT.replace("fast: {kind: mock, repetitions: 6}", "container: {repetitions: 6}")
    (project / "scenarios" / "mine.yaml").write_text(text.replace("image: minimal", "image: nosuch"))
    assert command_line(["run", "scenarios/mine.yaml", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "nothing was launched" in said.out
    assert "this host cannot run it: there is no image called 'nosuch'" in said.err


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("schedule.cpus=[4095]", "schedule.cpus: processor 4095 is not available here"),
        ("measure.density={reserve: 1PiB}", "measure.density.reserve: 1.00 PiB are to be left alone"),
    ],
)
def test_what_the_host_cannot_give_is_exit_code_3(
    project: Path, capsys: pytest.CaptureFixture[str], setting: str, problem: str
) -> None:
    """Before there is a run on record."""
    text = TEXT.replace("measure: [startup, teardown, memory]", "measure: {startup: {}}")
    (project / "scenarios" / "mine.yaml").write_text(text)
    assert command_line(["run", "scenarios/mine.yaml", "--set", setting]) == 3
    assert problem in capsys.readouterr().err
    assert not (project / "results").exists()


def test_the_summary_ends_with_its_validity(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Circumstances of the host and the harness, in the console and in the report."""
    assert command_line(["run", "scenarios/mine.yaml", "--targets", "fast"]) == 0
    out = capsys.readouterr().out
    page = next((project / "results").glob("*/report.html")).read_text()
    for subject in ("steal", "load", "page cache", "harness, own work", "drift", "lag-1 autocorrelation"):
        assert subject in out
        assert subject in page
