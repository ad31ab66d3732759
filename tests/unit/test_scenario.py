"""A scenario file becomes a Scenario, or an error with file, line, column, key and the nearest valid one."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pybench import scenarios
from pybench.harness.errors import InputError
from pybench.harness.model import Readiness, Resources, Schedule, TargetChoice
from pybench.harness.scenario import Choices, load_scenario

TEXT = """\
name: example
description: >-
  What it
  is for.
workloads:
  ready:
    image: minimal
    command: [/bin/workload, ready]
    environment: {LANG: C}
    readiness: {level: line, text: ready}
    resources: {memory: 128MiB, cpus: 1, pids: 64}
targets:
  process: {repetitions: 40}
  emulated: {kind: vm, repetitions: 12, warmups: 0, accel: tcg, memory: 256MiB}
measure: [startup, teardown, memory]
schedule: {warmups: 2, seed: 3, ready_timeout: 60s, stop_timeout: 500ms}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a scenario's text."""
    return tmp_path / "example.yaml"


def problem(path: Path, text: str | bytes) -> InputError:
    """The error that a text gives."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert "\n" not in caught.value.message
    return caught.value


def test_a_scenario_is_read(path: Path) -> None:
    """Every key arrives in the model, in the units of the model."""
    path.write_text(TEXT)
    scenario = load_scenario(path)
    (workload,) = scenario.workloads
    assert (scenario.name, scenario.description, scenario.source) == ("example", "What it is for.", str(path))
    assert (workload.name, workload.image, workload.command) == (
        "ready",
        "minimal",
        ("/bin/workload", "ready"),
    )
    assert workload.environment == {"LANG": "C"}
    assert workload.readiness == Readiness("line", "ready")
    assert workload.resources == Resources(128 * 2**20, 1.0, 64)
    assert scenario.targets == (
        TargetChoice("process", "process", 40, {"limited": False}),
        TargetChoice(
            "emulated",
            "vm",
            12,
            {
                "accel": "tcg",
                "memory": 256 * 2**20,
                "network": "none",
                "machine": "q35",
                "siblings": False,
                "libvirt_uri": "",
            },
            warmups=0,
        ),
    )
    assert [choice.name for choice in scenario.measurements] == ["startup", "teardown", "memory"]
    assert scenario.schedule == Schedule(2, 3, 60.0, 0.5)


def test_what_is_left_out_has_defaults(path: Path) -> None:
    """Workload, targets and measurements are enough."""
    path.write_text(
        "name: small\nworkloads: {w: {image: minimal, command: [/bin/true]}}\n"
        "targets: {process: {}}\nmeasure: [startup]\n"
    )
    scenario = load_scenario(path)
    assert scenario.schedule == Schedule()
    assert scenario.workloads[0].resources == Resources()
    assert scenario.targets[0].warmups is None


def test_targets_and_numbers_can_be_chosen(path: Path) -> None:
    """The caller may keep some targets, in the file's order, and replace repetitions and seed."""
    path.write_text(TEXT)
    scenario = load_scenario(path, Choices(targets=["emulated", "process"], repetitions=3, seed=9))
    assert [(target.name, target.repetitions) for target in scenario.targets] == [
        ("process", 3),
        ("emulated", 3),
    ]
    assert scenario.schedule.seed == 9
    chosen = load_scenario(path, Choices(targets=["emulated"]))
    assert [target.name for target in chosen.targets] == ["emulated"]


def test_choosing_an_unknown_target_offers_the_nearest(path: Path) -> None:
    """A misspelt target is told from those of the scenario."""
    path.write_text(TEXT)
    with pytest.raises(InputError, match=r"'proces' is not in the scenario; did you mean 'process'\?"):
        load_scenario(path, Choices(targets=["proces"]))
    with pytest.raises(InputError, match="no target is chosen"):
        load_scenario(path, Choices(targets=[]))


@pytest.mark.parametrize("repetitions", [0, -1, 1_000_001])
def test_choosing_absurd_repetitions_is_refused(path: Path, repetitions: int) -> None:
    """The bounds of the file hold for the caller as well."""
    path.write_text(TEXT)
    with pytest.raises(InputError, match="repetitions make no sense"):
        load_scenario(path, Choices(repetitions=repetitions))


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("measure:", "mesure:", "15:1", "mesure: unknown key; did you mean 'measure'?"),
        (
            "image: minimal",
            "imag: minimal",
            "7:5",
            "workloads.ready.imag: unknown key; did you mean 'image'?",
        ),
        (
            "readiness:",
            "readyness:",
            "10:5",
            "workloads.ready.readyness: unknown key; did you mean 'readiness'?",
        ),
        ("cpus: 1", "cpu: 1", "11:33", "workloads.ready.resources.cpu: unknown key; did you mean 'cpus'?"),
        ("accel: tcg", "acel: tcg", "14:53", "targets.emulated.acel: unknown key; did you mean 'accel'?"),
        (
            "  process:",
            "  proces:",
            "13:3",
            "targets.proces: unknown target 'proces'; did you mean 'process'?",
        ),
        ("kind: vm", "kind: vmm", "14:20", "targets.emulated.kind: unknown target 'vmm'; did you mean 'vm'?"),
        (
            "teardown,",
            "teardwn,",
            "15:20",
            "measure[1]: unknown measurement 'teardwn'; did you mean 'teardown'?",
        ),
        ("level: line", "level: lines", "10:24", "did you mean 'line'?"),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest(
    path: Path, old: str, new: str, place: str, message: str
) -> None:
    """The error has file, line, column, key and the nearest valid name."""
    error = problem(path, TEXT.replace(old, new))
    assert error.message.startswith(f"{path}:{place}: ")
    assert message in error.message


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("128MiB", "-3", "11:25", "memory: memory must be between 4MiB and 1PiB, not -3"),
        ("128MiB", "1MiB", "11:25", "must be between 4MiB and 1PiB"),
        ("128MiB", "2PiB", "11:25", "must be between 4MiB and 1PiB"),
        ("128MiB", "12xx", "11:25", "'xx' is not a unit"),
        ("cpus: 1", "cpus: 0", "11:39", "cpus: must be greater than 0"),
        ("cpus: 1", "cpus: 5000", "11:39", "less than or equal to 4096"),
        ("cpus: 1", "cpus: .nan", "11:39", "finite number"),
        ("cpus: 1", "cpus: [1]", "11:39", "must be a number"),
        ("pids: 64", "pids: 0", "11:48", "greater than or equal to 1"),
        ("repetitions: 40", "repetitions: 1000001", "13:26", "less than or equal to 1000000"),
        ("repetitions: 40", "repetitions: -1", "13:26", "greater than or equal to 1"),
        ("repetitions: 40", "repetitions: 'many'", "13:26", "must be a whole number, not 'many'"),
        ("repetitions: 40", "repetitions: 1.5", "13:26", "must be a whole number, not 1.5"),
        ("repetitions: 40", "repetitions: true", "13:26", "must be a whole number"),
        ("process: {repetitions: 40}", "process:", "13:3", "targets.process: must be a mapping, not null"),
        ("command: [/bin/workload, ready]", "command: /bin/workload", "8:14", "command: must be a list"),
        ("command: [/bin/workload, ready]", "command: []", "8:14", "must not be empty"),
        ("[/bin/workload, ready]", "[/bin/workload, 1]", "8:30", "command[1]: must be text, not 1"),
        ("[/bin/workload, ready]", "[workload]", "8:14", "absolute path"),
        ("LANG: C", 'PYBENCH_MARK_FD: "3"', "9:18", "reserved"),
        ("LANG: C", '"A=B": C', "9:19", "name of an environment variable"),
        ("level: line", "level: exec", "10:16", "`text` has no meaning with `level: exec`"),
        ("60s", "60x", "16:48", "'x' is not a unit"),
        ("60s", "0s", "16:48", "more than 0s"),
        ("seed: 3", "seed: -1", "16:30", "greater than or equal to 0"),
        ("warmups: 2", "warmups: -1", "16:21", "greater than or equal to 0"),
        ("measure: [startup, teardown, memory]", "measure: [startup, startup]", "15:10", "listed twice"),
        ("measure: [startup, teardown, memory]", "measure: []", "15:10", "must not be empty"),
        ("name: example", "name: Big Name", "1:7", "must be lower-case letters"),
        ("name: example", "name: 2020-01-01", "1:7", "a date cannot stand here"),
        ("name: example", "name: !secret x", "1:7", "tags"),
        ("name: example", "name: a\nname: b", "2:1", 'duplicate key "name"'),
        ("name: example", "7: a", "1:1", "the key 7 is not text"),
        ("name: example", "nam", "2:12", "mapping values are not allowed"),
        ("name: example", "\tname: x", "1:1", "cannot start any token"),
        ("measure: [startup, teardown, memory]\n", "", "1:1", "measure: this key is missing"),
    ],
)
def test_a_value_without_sense_is_told_with_its_place(
    path: Path, old: str, new: str, place: str, message: str
) -> None:
    """Wrong types, absurd limits and contradictions are refused where they stand."""
    assert old in TEXT
    error = problem(path, TEXT.replace(old, new, 1))
    assert message in error.message
    assert error.message.startswith(f"{path}:{place}: ")


def test_several_problems_are_told_at_once(path: Path) -> None:
    """The first in the file is the message, the others are in the hint."""
    error = problem(path, TEXT.replace("cpus: 1", "cpus: 0").replace("seed: 3", "seed: x"))
    assert ":11:39:" in error.message
    assert "1 more" in error.hint
    assert ":16:30:" in error.hint


def test_too_many_launches_are_refused(path: Path) -> None:
    """The product of workloads and repetitions is bounded as well."""
    text = TEXT.replace("repetitions: 40", "repetitions: 999999").replace("warmups: 2", "warmups: 2000")
    assert "1,002,011 launches in all" in problem(path, text).message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("[]", "must be a mapping"),
        ("just text", "must be a mapping, not 'just text'"),
        ("a: b\n---\nc: d\n", "expected a single document"),
        (b"a: \xff\xfe", "1:4: this is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00", "1:1: this control character is not allowed"),
        ("ab: x\n c: \x07", ":2:5: this control character"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("? [a]\n: b\n", "is not text"),
    ],
)
def test_what_is_no_scenario_is_refused(path: Path, content: str | bytes, message: str) -> None:
    """Empty, binary and otherwise strange files give one line."""
    assert message in problem(path, content).message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 5000, "nested deeper than 32 levels"),
        ("a: &a [*a]", "refers to nothing that is complete"),
        ("a: *b", "refers to nothing that is complete"),
        ("a: &x 1\nb: &x 2\n", "the anchor &x is used twice"),
        (
            "a: &a [x,x]\n"
            + "".join(
                f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
            ),
            "expands to more than 20,000 values",
        ),
        ("x: 1\n" * 300_000, "larger than 1 MiB"),
        ("- 1\n" * 60_000, "more than 20,000 values"),
    ],
)
def test_bombs_are_refused_quickly(path: Path, content: str, message: str) -> None:
    """Nesting, aliases and sheer size are bounded before anything is expanded."""
    began = time.process_time()
    assert message in problem(path, content).message
    assert time.process_time() - began < 30


def test_aliases_and_merges_may_be_used(path: Path) -> None:
    """Harmless aliases work, and an error behind one still has a place."""
    text = TEXT.replace(
        "process: {repetitions: 40}", "process: &p {repetitions: 40}\n  floor: *p\n  container: {<<: *p}"
    )
    path.write_text(text)
    assert [target.repetitions for target in load_scenario(path).targets] == [40, 40, 40, 12]
    assert ":13:29:" in problem(path, text.replace("repetitions: 40", "repetitions: 0")).message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The error names the file and where to look."""
    with pytest.raises(InputError, match="No such file") as caught:
        load_scenario(tmp_path / "nothing.yaml")
    assert "pybench list" in caught.value.hint


def test_directories_and_devices_are_no_scenarios(tmp_path: Path) -> None:
    """Nothing but a regular file is read, so that a pipe cannot hang the command."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="this is a directory"):
        load_scenario(tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        load_scenario(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a file name"):
        load_scenario(Path("a\0b"))


def test_shipped_scenarios_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name, with or without folder and suffix, finds the shipped file; a file on disk wins."""
    monkeypatch.chdir(tmp_path)
    for argument in ("startup", "startup.yaml", "scenarios/startup.yaml", "./scenarios/startup.yaml"):
        assert scenarios.resolve(argument).is_file()
    (tmp_path / "startup.yaml").write_text(TEXT)
    assert load_scenario(scenarios.resolve("startup.yaml")).name == "example"
    for argument in ("unknown", "../startup.yaml", "/nowhere/startup.yaml"):
        assert scenarios.resolve(argument) == Path(argument)


@pytest.mark.parametrize("name", scenarios.names())
def test_every_shipped_scenario_is_valid_and_introduces_itself(name: str) -> None:
    """It loads, bears the name of its file, and its header asks a question and tells how long it takes."""
    path = scenarios.resolve(name)
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    scenario = load_scenario(path)
    assert scenario.name == name
    assert scenario.question.endswith("?")
    assert re.search(r"\d+ (s|min)\b.* reference host", header)


def test_the_main_scenario_meets_its_promise() -> None:
    """Enough repetitions of every target that the report compares."""
    scenario = load_scenario(scenarios.resolve("startup"))
    repetitions = {target.kind: target.repetitions for target in scenario.targets}
    assert repetitions["process"] >= 30
    assert repetitions["floor"] >= 30
    assert repetitions["container"] >= 30
    assert repetitions["vm"] >= 10
