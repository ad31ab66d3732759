"""`pybench gate`, from the command line to lines and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gate_runs import night_run, night_samples, store_night, store_paced_night

from pybench.harness.cli.main import run as command_line
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of an empty record in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    (tmp_path / "results").mkdir()
    place = tmp_path / "results" / "pybench.sqlite"
    Store.open(place).close()
    return place


def test_the_exit_code_says_what_the_gate_found(store: Path, capsys: Captured) -> None:
    """0 for a night like the baseline, 1 for a regression, told with its phase."""
    with Store.open(store) as record:
        for number, factor in ((1, 1.0), (2, 1.0), (3, 1.1)):
            store_night(record, number, {"startup.ready": factor, "startup.phase.exec": factor})
        record.tags.set("main", "night-01")
    assert command_line(["gate", "night-02", "--baseline", "main"]) == 0
    assert "pass" in capsys.readouterr().out
    assert command_line(["gate", "--baseline", "main"]) == 1
    out = capsys.readouterr().out
    assert "regression: ready container startup.ready: slower by +10" in out.replace("+9.", "+10.")
    assert "where the change of the mean start comes from" in out
    assert command_line(["gate", "--baseline", "main", "--format", "json"]) == 1
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (content["outcome"], content["findings"][0]["kind"]) == ("regression", "regression")


def test_a_slower_host_is_told_and_not_called_a_regression(store: Path, capsys: Captured) -> None:
    """By the gate, in its lines and its data, and by a comparison; exit code 4."""
    with Store.open(store) as record:
        store_paced_night(record, 1, {}, 17e-6)
        store_paced_night(record, 2, {"startup.ready": 1.2}, 22e-6)
    assert command_line(["gate", "--baseline", "night-01"]) == 4
    out = capsys.readouterr().out
    assert "host itself was 29 % slower" in out.replace("\u00a0", " ").lower()
    assert "host: ready container startup.ready" in out
    assert command_line(["gate", "--baseline", "night-01", "--format", "json"]) == 4
    content = json.loads(capsys.readouterr().out)
    assert content["host_slowdown"] == pytest.approx(5 / 17)
    assert [each["kind"] for each in content["findings"]] == ["host"]
    assert command_line(["compare", "night-01", "night-02"]) == 0
    out = capsys.readouterr().out
    assert "host itself was 29 % slower" in out.replace("\u00a0", " ").lower()
    assert "what the host itself changed by" in out


def test_limits_come_from_options_files_and_the_scenario(store: Path, capsys: Captured) -> None:
    """In this order; a wrong one is bad usage."""
    with Store.open(store) as record:
        store_night(record, 1)
        store_night(record, 2, {"startup.ready": 1.1})
    arguments = ["gate", "--baseline", "night-01"]
    assert command_line(arguments) == 1
    assert command_line([*arguments, "--relative", "20%"]) == 0
    assert command_line([*arguments, "--absolute", "1ms"]) == 0
    assert command_line([*arguments, "--absolute", "1MiB"]) == 1
    assert command_line([*arguments, "--metric", "memory.*"]) == 0
    limits = store.parent / "limits.yaml"
    limits.write_text("metrics: {startup.ready: {relative: 20%}}\n")
    assert command_line([*arguments, "--limits", str(limits)]) == 0
    for wrong in (["--relative", "much"], ["--absolute", "much"], ["--limits", "absent.yaml"]):
        assert command_line([*arguments, *wrong]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_unlike_environments_are_refused(store: Path, capsys: Captured) -> None:
    """Exit code 4 with the fields, unless each of them is allowed."""
    with Store.open(store) as record:
        store_night(record, 1, None, **{"host.kernel": "6.1", "host.cgroup": "v1"})
        store_night(record, 2, None, **{"host.kernel": "6.2", "host.cgroup": "v2"})
    arguments = ["gate", "--baseline", "night-01"]
    assert command_line(arguments) == 4
    out = capsys.readouterr().out
    assert "host.kernel: 6.1 ≠ 6.2" in out
    assert "--allow-mismatch host.kernel --allow-mismatch host.cgroup" in out
    assert command_line([*arguments, "--allow-mismatch", "host.kernel"]) == 4
    assert command_line([*arguments, "--format", "json"]) == 4
    capsys.readouterr()
    allowed = ["--allow-mismatch", "host.kernel", "--allow-mismatch", "host.cgroup"]
    assert command_line([*arguments, *allowed]) == 0


def test_a_branch_means_its_newest_run_that_is_alike(store: Path, capsys: Captured) -> None:
    """Not the candidate itself, nor one of another host while there is one of the same."""
    with Store.open(store) as record:
        store_night(record, 1)
        store_night(record, 2, None, **{"host.kernel": "5.10"})
        store_night(record, 3)
    assert command_line(["gate", "--baseline", "main"]) == 0
    assert "night-03 against night-01" in capsys.readouterr().out
    assert command_line(["gate", "night-02", "--baseline", "main"]) == 4
    assert command_line(["gate", "--baseline", "night-03"]) == 2
    assert command_line(["gate", "--baseline", "mian"]) == 2
    assert "did you mean main" in capsys.readouterr().err


def test_drift_is_held_against_the_oldest_baseline(store: Path, capsys: Captured) -> None:
    """A tag that moved every night has older baselines, and what crept in since the first is found."""
    with Store.open(store) as record:
        for number in range(1, 11):
            store_night(record, number, {"startup.ready": 1.015**number})
            if number < 10:
                record.tags.set("main", f"night-{number:02}")
    assert command_line(["gate", "--baseline", "main"]) == 1
    out = capsys.readouterr().out
    assert "drift: ready container startup.ready" in out
    assert "against night-01" in out


def test_a_new_level_is_told(store: Path, capsys: Captured) -> None:
    """A step three nights ago is found in the history though the baseline is younger."""
    with Store.open(store) as record:
        for number in range(1, 17):
            store_night(record, number, {"startup.ready": 1.1 if number > 13 else 1.0})
        record.tags.set("good", "night-15")
    assert command_line(["gate", "--baseline", "good"]) == 1
    assert "change point: ready container startup.ready" in capsys.readouterr().out


def test_few_samples_are_inconclusive(store: Path, capsys: Captured) -> None:
    """Exit code 4 when a change looks large but is not supported."""
    with Store.open(store) as record:
        for number, factor in ((1, 1.0), (2, 1.2)):
            record.begin_run(night_run(number))
            few = [each for each in night_samples(number, {"startup.ready": factor}) if each.order < 3]
            record.add_samples(f"night-{number:02}", few)
    assert command_line(["gate", "--baseline", "night-01"]) == 4
    out = capsys.readouterr().out
    assert "unsupported: ready container startup.ready" in out
    assert "too few samples" in out


def test_calibration_tells_alarms_and_writes_limits(store: Path, capsys: Captured) -> None:
    """The limits that it writes are accepted; too few runs are bad input."""
    with Store.open(store) as record:
        for number in range(1, 6):
            store_night(record, number)
            if number == 3:
                assert command_line(["gate", "--calibrate"]) == 2
    assert "a calibration needs 4" in capsys.readouterr().err
    assert command_line(["gate", "--calibrate", "--nights", "20", "--write", "limits.yaml"]) == 0
    assert "20 simulated nights: 0 false alarms" in capsys.readouterr().out
    assert command_line(["gate", "--baseline", "night-01", "--limits", "limits.yaml"]) == 0
    capsys.readouterr()
    assert command_line(["gate", "--calibrate", "--nights", "5", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["nights"] == 5


def test_the_self_test_detects_what_it_injects(capsys: Captured) -> None:
    """On a pretended target: every injection is found, and the control is quiet."""
    assert command_line(["gate", "--self-test", "--format", "json"]) == 0
    found = {trial["injection"]: trial for trial in json.loads(capsys.readouterr().out)}
    assert set(found) == {"control", "delay", "memory", "detour", "failures"}
    assert all(trial["passed"] for trial in found.values())
    assert found["control"]["outcome"] == "pass"
    assert ["regression", "ready", "mock", "memory.host.cgroup", "B", ""] in found["memory"]["findings"]


def test_a_gate_that_misses_fails_its_self_test(capsys: Captured) -> None:
    """With too few launches to see anything, the self-test says so and exits with 1."""
    assert command_line(["gate", "--self-test", "--repetitions", "2"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.usefixtures("store")
def test_a_self_test_of_a_target_that_is_not_there_is_bad_input(capsys: Captured) -> None:
    """The error names the targets that there are."""
    assert command_line(["gate", "--self-test", "--targets", "nobody"]) == 2
    assert "it has mock" in capsys.readouterr().err


def test_a_range_of_one_sample_is_not_called_an_interval(store: Path, capsys: Captured) -> None:
    """Where nearly all launches were rejected, it is said of how many the figures are."""
    with Store.open(store) as record:
        for number, factor in ((1, 1.0), (2, 1.4)):
            record.put_run(
                night_run(number),
                [
                    replace(each, status="rejected" if each.order else "ok")
                    for each in night_samples(number, {"startup.ready": factor})
                ],
                [],
            )
    assert command_line(["gate", "--baseline", "night-01"]) == 4
    out = capsys.readouterr().out
    assert "unsupported: ready container startup.ready" in out
    assert "(range +" in out
    assert out.count("(1 of 60)") == 2
