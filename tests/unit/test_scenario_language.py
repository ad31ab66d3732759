"""Parameters, includes, defaults, overrides, limits, and what contradicts itself or cannot be honoured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from pybench import scenarios
from pybench.harness.cli.main import run as command_line
from pybench.harness.errors import InputError
from pybench.harness.model import GateLimit, Readiness, Settle, Stop, WorkloadFile
from pybench.harness.nightly import read_night
from pybench.harness.scenario import Choices, load_scenario
from pybench.harness.scenario.schema import json_schema

TEXT = """\
name: example
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  process: {repetitions: 20}
  mock: {repetitions: 10}
measure: [startup, memory]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a scenario's text."""
    return tmp_path / "example.yaml"


def problem(path: Path, text: str, *settings: str) -> InputError:
    """The error that a text gives."""
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_scenario(path, Choices(settings=settings))
    return caught.value


def test_every_combination_of_parameters_is_measured(path: Path) -> None:
    """A reference alone becomes the value itself, one in a text becomes a part of it."""
    path.write_text(
        TEXT.replace("[/bin/workload, ready]", "[/bin/workload, 'n=${count}', '$${kept}']")
        .replace("ready: {", "ready: {resources: {memory: '${memory}', pids: '${count}'}, ")
        .replace("name: example", "name: example\nparameters: {memory: [64MiB, 1GiB], count: [1, 2, 4]}")
    )
    scenario = load_scenario(path)
    assert len(scenario.combinations) == 2 * 3 * 2
    last = scenario.combinations[-1]
    assert last.parameters == {"memory": "1GiB", "count": 4}
    assert last.label == "memory=1GiB, count=4"
    assert last.workload.command == ("/bin/workload", "n=4", "${kept}")
    assert (last.workload.resources.memory, last.workload.resources.pids) == (2**30, 4)
    assert len({combination.key for combination in scenario.combinations}) == 12


@pytest.mark.parametrize(
    ("parameters", "reference", "message"),
    [
        ("{memory: [64MiB]}", "1GiB", "parameters.memory: this parameter is used nowhere"),
        ("{memory: [64MiB]}", "${memroy}", "workloads.ready.resources.memory: ${memroy} is no parameter"),
        ("{memory: []}", "${memory}", "parameters.memory: must not be empty"),
        ("{memory: [64MiB, 64MiB]}", "${memory}", "'64MiB' is listed twice"),
        ("{memory: [64MiB, 1KiB]}", "${memory}", "between 4MiB and 1PiB, not '1KiB' (with memory=1KiB)"),
        ("{memory: [64MiB, [1]]}", "${memory}", "parameters.memory[1]"),
    ],
)
def test_an_impossible_matrix_is_told_with_its_place(
    path: Path, parameters: str, reference: str, message: str
) -> None:
    """An unused parameter, an unknown reference, and a value that its place does not allow."""
    text = TEXT.replace("ready: {", f"ready: {{resources: {{memory: '{reference}'}}, ")
    error = problem(path, text.replace("name: example", f"name: example\nparameters: {parameters}"))
    assert error.message.startswith(f"{path}:")
    assert message in error.message


def test_a_matrix_without_end_is_refused(path: Path) -> None:
    """The product of all values is bounded."""
    values = ", ".join(map(str, range(1, 41)))
    text = TEXT.replace("ready: {", "ready: {resources: {pids: '${a}', cpus: '${b}'}, ")
    text = text.replace("name: example", f"name: example\nparameters: {{a: [{values}], b: [{values}]}}")
    assert "1,600 combinations" in problem(path, text).message


def test_included_files_are_completed_and_overridden(tmp_path: Path, path: Path) -> None:
    """Mappings are merged key by key, later files win, and a place is told in the file it stands in."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "common.yaml").write_text(
        "include: [deeper.yaml]\nschedule: {seed: 5, warmups: 3}\ntargets:\n  floor: {repetitions: 7}\n"
    )
    (tmp_path / "parts" / "deeper.yaml").write_text("schedule: {seed: 4, ready_timeout: 2s}\n")
    path.write_text("include: [parts/common.yaml]\nschedule: {warmups: 0}\n" + TEXT)
    scenario = load_scenario(path)
    schedule = scenario.schedule
    assert (schedule.seed, schedule.warmups, schedule.ready_timeout) == (5, 0, 2.0)
    assert {target.name: target.repetitions for target in scenario.targets} == {
        "floor": 7,
        "process": 20,
        "mock": 10,
    }
    path.with_name("whole.yaml").write_text(scenario.definition)
    assert load_scenario(path.with_name("whole.yaml")).combinations == scenario.combinations
    (tmp_path / "parts" / "deeper.yaml").write_text("schedule: {sed: 4}\n")
    with pytest.raises(InputError, match=r"parts/deeper.yaml:1:12: schedule.sed: unknown key"):
        load_scenario(path)


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("[example.yaml]", "include[0]: example.yaml includes itself"),
        ("[missing.yaml]", "cannot read the scenario: No such file"),
        ("[/etc/passwd]", "must be relative to this file"),
        ("other.yaml", "include: must be a list of files"),
        ("[list.yaml]", "list.yaml:1:1: must be a mapping"),
    ],
)
def test_an_include_that_leads_nowhere_is_told(path: Path, include: str, message: str) -> None:
    """Cycles, missing and absolute files, and files that are no mapping."""
    path.with_name("list.yaml").write_text("[1]\n")
    assert message in problem(path, f"include: {include}\n{TEXT}").message


def test_defaults_complete_every_workload_and_target(path: Path) -> None:
    """What an entry says itself stays, and a mistake in a default is told where it stands."""
    defaults = (
        "defaults:\n  workload: {image: minimal, resources: {pids: 8, cpus: 1}}\n  target: {repetitions: 3}\n"
    )
    text = TEXT.replace("{image: minimal, ", "{resources: {pids: 9}, ").replace(
        "process: {repetitions: 20}", "process: {}"
    )
    path.write_text(defaults + text)
    scenario = load_scenario(path)
    (workload,) = scenario.workloads
    assert (workload.image, workload.resources.pids, workload.resources.cpus) == ("minimal", 9, 1.0)
    assert [target.repetitions for target in scenario.targets] == [3, 10]
    error = problem(path, defaults.replace("cpus: 1", "cpus: 0") + text)
    assert error.message.startswith(f"{path}:2:57: workloads.ready.resources.cpus: must be greater than 0")


def test_keys_are_set_from_outside(path: Path) -> None:
    """The value is YAML; what it makes of the file is what is recorded as its definition."""
    path.write_text(TEXT)
    settings = ("targets.process.repetitions=3", "workloads.ready.command=[/bin/x, 'y']", "schedule.seed=8")
    scenario = load_scenario(path, Choices(settings=settings))
    assert scenario.targets[0].repetitions == 3
    assert scenario.workloads[0].command == ("/bin/x", "y")
    assert scenario.schedule.seed == 8
    assert "seed: 8" in scenario.definition
    assert load_scenario(path).definition == TEXT


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.sed=1", "--set schedule.sed=1: schedule.sed: unknown key; did you mean 'seed'?"),
        ("schedule.seed", "this is not key=value"),
        ("=1", "this is not key=value"),
        ("targets.process.repetitions=many", "must be a whole number, not 'many'"),
        ("schedule.seed=[", "--set schedule.seed=["),
        ("name.x=1", "name: must be text"),
    ],
)
def test_a_setting_without_sense_is_told_as_such(path: Path, setting: str, message: str) -> None:
    """The error names the option instead of a line of the file."""
    assert message in problem(path, TEXT, setting).message


def test_a_quick_run_is_a_small_one(path: Path) -> None:
    """Few repetitions, one warm-up, and nothing to wait for."""
    path.write_text(
        TEXT + "schedule: {warmups: 3, warmups_at_most: 9, settle: {running: 1}, stop: {precision: 5%}}\n"
    )
    scenario = load_scenario(path, Choices(quick=True))
    assert [(target.repetitions, target.warmups) for target in scenario.targets] == [(5, 1), (5, 1)]
    assert scenario.schedule.stop.precision is None
    assert scenario.schedule.settle.timeout == 0
    assert scenario.schedule.warmups_at_most is None


def test_the_whole_schedule_is_read(path: Path) -> None:
    """Stop rules, what a launch waits for, caches, processors, priority and failures."""
    path.write_text(
        TEXT
        + "schedule:\n  warmups: 1\n  warmups_at_most: 6\n"
        + "  stop: {precision: 5%, metric: memory.host.pss, at_least: 8, time: 2min}\n"
        + "  settle: {running: 3, pressure: 0.2, temperature: 80, timeout: 1s, in_all: 1min, pause: 20ms}\n"
        + "  caches: cold\n  cpus: [1, 0]\n  priority: high\n  cpu_latency: 20us\n"
        + "  on_failure: stop\n  give_up_after: 2\n"
    )
    schedule = load_scenario(path).schedule
    assert schedule.stop == Stop(0.05, "memory.host.pss", 8, 120.0)
    assert schedule.settle == Settle(3, 0.2, 80.0, 1.0, 60.0, 0.02)
    assert (schedule.caches, schedule.cpus, schedule.priority) == ("cold", (1, 0), "high")
    assert schedule.cpu_latency == pytest.approx(2e-5)
    assert (schedule.on_failure, schedule.give_up_after, schedule.warmups_at_most) == ("stop", 2, 6)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{warmups: 3, warmups_at_most: 2}", "`warmups_at_most` is less than `warmups`"),
        ("{settle: {timeout: 1min, in_all: 2s}}", "`timeout` is longer than `in_all`"),
        ("{stop: {precision: 5%, metric: teardown}}", "'teardown' is not measured"),
        ("{stop: {precision: 5%, metric: startup.redy}}", "did you mean 'startup.ready'?"),
        ("{stop: {precision: 5%, at_least: 30}}", "at_least is 30, but there are at most 20 repetitions"),
        ("{stop: {precision: 0%}}", "a share must be more than 0%"),
        ("{stop: {precision: often}}", "is not a share"),
        ("{stop: {at_least: 3}}", "greater than or equal to 6"),
        ("{cpus: [0, 0]}", "listed twice"),
        ("{caches: lukewarm}", "must be 'warm' or 'cold'"),
    ],
)
def test_a_contradictory_schedule_is_refused(path: Path, schedule: str, message: str) -> None:
    """Each is told before anything is launched."""
    assert message in problem(path, f"{TEXT}schedule: {schedule}\n").message


def test_gate_limits_are_in_the_unit_of_their_metric(path: Path) -> None:
    """Durations for times, sizes for memory; they are kept for the check."""
    path.write_text(
        TEXT
        + "gate:\n  startup.ready: {relative: 5%, absolute: 1ms, maximum: 2s, tail: 20%}\n"
        + "  startup.phase.kernel: {maximum: 1.5}\n  memory.host.pss: {relative: 0.1, absolute: 64KiB}\n"
    )
    assert load_scenario(path).gate == (
        GateLimit("startup.ready", 0.05, 0.001, 2.0, 0.2),
        GateLimit("startup.phase.kernel", None, None, 1.5),
        GateLimit("memory.host.pss", 0.1, 65536.0, None),
    )


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("{teardown: {relative: 5%}}", "gate.teardown: the metric 'teardown' is not measured"),
        ("{startup.ready: {absolute: 1ms}}", "needs `relative` or `maximum`"),
        ("{startup.ready: {maximum: 3MiB}}", "gate.startup.ready.maximum: 'MiB' is not a unit here"),
        ("{memory.host.pss: {maximum: -1}}", "is negative"),
    ],
)
def test_a_gate_limit_without_sense_is_refused(path: Path, gate: str, message: str) -> None:
    """A metric that is not measured, no limit, or a value of another unit."""
    assert message in problem(path, f"{TEXT}gate: {gate}\n").message


def test_files_user_ports_and_network_readiness_are_read(path: Path) -> None:
    """Where the target can honour them; the content of a file may come from one beside the scenario."""
    path.with_name("page.html").write_bytes(b"\x00page")
    path.write_text(
        TEXT.replace("  process: {repetitions: 20}\n", "").replace(
            "ready: {",
            "ready: {user: 'www-data:33', ports: [80], "
            "readiness: {level: http, port: 80, path: /x, status: 204}, "
            "files: {/etc/a: {text: hello, mode: '0600'}, /srv/page: {source: page.html}}, ",
        )
    )
    (workload,) = load_scenario(path).workloads
    assert workload.files == (WorkloadFile("/etc/a", b"hello", 0o600), WorkloadFile("/srv/page", b"\x00page"))
    assert (workload.user, workload.ports) == ("www-data:33", (80,))
    assert workload.readiness == Readiness("http", "", 80, "/x", 204)


@pytest.mark.parametrize(
    ("target", "key", "message"),
    [
        (
            "process: {}",
            "files: {/etc/a: {text: x}}",
            "'process' (kind process) cannot put files into its image",
        ),
        ("floor: {}", "user: nobody", "workloads.ready.user: the target 'floor'"),
        (
            "vm-restore: {network: user}",
            "readiness: {level: tcp, port: 80}",
            "'vm-restore' (kind vm-restore) cannot be asked over the network",
        ),
        (
            "vm-restore: {}",
            "disk: 64MiB",
            "'vm-restore' (kind vm-restore) cannot have room on the host's disk",
        ),
        ("floor: {}", "disk: 64MiB", "'floor' (kind floor) cannot have room on the host's disk"),
        ("vm: {}", "ports: [80]", "'vm' (kind vm) cannot be reached on its ports"),
        ("vm: {}", "readiness: {level: tcp, port: 80}", "'vm' (kind vm) cannot be asked over the network"),
        ("container: {}", "readiness: {level: tcp, port: 80}", "cannot be asked over the network"),
    ],
)
def test_what_a_target_cannot_do_is_refused_by_name(path: Path, target: str, key: str, message: str) -> None:
    """Nothing that a workload asks for is silently ignored."""
    text = TEXT.replace("process: {repetitions: 20}", target).replace("ready: {", f"ready: {{{key}, ")
    error = problem(path, text)
    assert message in error.message
    assert error.hint
    if target in {"container: {}", "vm: {}", "vm-restore: {network: user}"}:
        assert "network: bridge" in error.hint
    assert ("QEMU accepts" in error.hint) == ("network: user" in target)


def test_guest_on_qemus_network_can_be_asked_for_an_answer(path: Path) -> None:
    """QEMU accepts connections for its guest, so only the level `http` tells of the guest itself."""
    text = TEXT.replace("process: {repetitions: 20}", "vm: {network: user}")
    path.write_text(
        text.replace("ready: {", "ready: {readiness: {level: http, port: 80}, "), encoding="utf-8"
    )
    (workload,) = load_scenario(path).workloads
    assert workload.readiness.level == "http"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("readiness: {level: tcp}", "`level: tcp` needs a `port`"),
        ("readiness: {level: line, port: 80}", "`port` has no meaning"),
        ("readiness: {level: tcp, port: 80, path: /x}", "`path` and `status` have no meaning"),
        ('readiness: {level: http, port: 80, path: "/a b"}', "String should match pattern"),
        ("ports: [0]", "greater than or equal to 1"),
        ("disk: 4MiB", "a disk must have between 8MiB and 1PiB"),
        ("disk: 16777217B", "in whole blocks of 4KiB"),
        ("user: 'a b'", "must be a user, or user:group"),
        ("files: {etc: {text: x}}", "must be an absolute path inside the image"),
        ("files: {/etc/a: {}}", "either `text` or `source`"),
        ("files: {/etc/a: {text: x, mode: 0644}}", "a mode is text in base eight"),
        ("files: {/etc/a: {source: none.txt}}", "cannot read"),
        ("files: {/etc/a: {source: .}}", "is not a regular file"),
    ],
)
def test_a_workload_that_contradicts_itself_is_refused(path: Path, key: str, message: str) -> None:
    """Each with the place of the key."""
    assert message in problem(path, TEXT.replace("ready: {", f"ready: {{{key}, ")).message


def schema_problems(data: Any) -> list[str]:
    """What an editor would underline."""
    return [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(data)]


def test_the_schema_agrees_with_the_language(capsys: pytest.CaptureFixture[str]) -> None:
    """It is valid, accepts what loads, and refuses options that a kind of target does not have."""
    assert command_line(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    yaml = YAML(typ="safe")
    for name in scenarios.names():
        assert schema_problems(yaml.load(scenarios.shipped(name))) == []
    data = yaml.load(TEXT)
    data["workloads"]["ready"]["resources"] = {"memory": "${memory}", "cpus": "${cpus}"}
    data["targets"]["x"] = {"kind": "vm", "accel": "${accel}", "memory": "1GiB"}
    assert schema_problems(data) == []
    data["targets"]["mock"]["accel"] = "tcg"
    data["targets"]["x"]["accel"] = "fast"
    data["schedule"] = {"sed": 1}
    assert len(schema_problems(data)) == 3


def test_the_starter_project_works_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads, its first line leads editors to the schema beside it, and nothing is overwritten."""
    assert command_line(["init", str(tmp_path / "bench")]) == 0
    monkeypatch.chdir(tmp_path / "bench")
    scenario = load_scenario(Path("scenarios/first.yaml"))
    assert {target.name for target in scenario.targets} == {"process", "container"}
    first = Path("scenarios/first.yaml").read_text().splitlines()[0]
    assert (Path("scenarios") / first.partition("$schema=")[2]).is_file()
    assert schema_problems(YAML(typ="safe").load(Path("scenarios/first.yaml"))) == []
    capsys.readouterr()
    assert command_line(["init"]) == 2
    assert "first.yaml exists" in capsys.readouterr().err
    assert command_line(["list", "scenarios"]) == 0
    assert "scenarios/first.yaml  How long does" in capsys.readouterr().out


def test_the_starter_project_has_a_nightly_job(tmp_path: Path) -> None:
    """The file of the night is valid, its scenario is the starter's, and cron is given whole paths."""
    folder = tmp_path / "50% bench"
    assert command_line(["init", str(folder)]) == 0
    night = read_night(folder / "nightly.yaml")
    assert [entry.scenario.name for entry in night.entries] == ["first"]
    command = (folder / "nightly.cron").read_text().splitlines()[-1]
    assert command.split()[:5] == ["30", "2", "*", "*", "*"]
    assert f"cd '{tmp_path}/50\\% bench' && {Path(sys.executable).with_name('pybench')} nightly" in command
    assert "/nightly.cron" in (folder / ".gitignore").read_text().splitlines()


def test_targets_and_metrics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As a table for people and as JSON for programs."""
    assert command_line(["list"]) == 0
    text = capsys.readouterr().out
    assert "[B] proportional set size" in text
    assert "How much longer does one service take" in text
    assert command_line(["list", "metrics", "--format", "json"]) == 0
    entries = json.loads(capsys.readouterr().out)["metrics"]
    assert {"name": "teardown", "unit": "s"}.items() <= next(
        entry for entry in entries if entry["name"] == "teardown"
    ).items()


def test_the_question_of_a_shipped_scenario_is_the_one_in_its_file() -> None:
    """It is found without the scenario language, and is what the language reads."""
    for name in scenarios.names():
        assert scenarios.question(name) == " ".join(load_scenario(scenarios.shipped(name)).question.split())
