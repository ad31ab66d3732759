"""What verbs print: formats, how much is said, colours, and names that are nearly right."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pybench.harness.cli.main import load
from pybench.harness.cli.main import run as command_line
from pybench.harness.cli.output import Format, print_data
from pybench.harness.cli.overview import HELP_OPTIONS, VERBS

Captured = pytest.CaptureFixture[str]

MOCK = """
name: pretended
workloads: {ready: {image: minimal, command: [/bin/true], readiness: {level: exec}}}
targets: {mock: {repetitions: 6}}
measure: [startup]
schedule: {warmups: 0}
"""
HOSTILE = "a|b <script>\nc & d"


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario that launches nothing, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    path = tmp_path / "pretended.yaml"
    path.write_text(MOCK)
    return path


def test_a_list_is_the_same_data_in_every_format(capsys: Captured) -> None:
    """JSON by subject, one row for each entry as CSV and as Markdown, and lines for people."""
    printed = {}
    for each in Format:
        assert command_line(["list", "targets", "--format", each.value]) == 0
        printed[each] = capsys.readouterr().out
    names = [entry["name"] for entry in json.loads(printed[Format.JSON])["targets"]]
    assert "container" in names
    assert [row["name"] for row in csv.DictReader(io.StringIO(printed[Format.CSV]))] == names
    markdown = printed[Format.MARKDOWN].splitlines()
    assert markdown[0].split(" | ")[0] == "| name"
    assert [line.split(" | ")[0].removeprefix("| ") for line in markdown[2:]] == names
    assert [line.split()[0] for line in printed[Format.TEXT].splitlines()] == names


def test_cells_cannot_break_a_table(capsys: Captured) -> None:
    """A bar, a tag or a new line stays within its cell; CSV keeps the text; what is missing is empty."""
    records: list[dict[str, object]] = [{"name": HOSTILE, "n": 1}, {"name": None, "more": [{"a": 1}]}]
    print_data(Format.MARKDOWN, document={}, records=records, lines=list)
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head == "| name | n | more |"
    assert first == "| a\\|b &lt;script> c &amp; d | 1 |  |"
    assert second == '|  |  | [{"a": 1}] |'
    print_data(Format.CSV, document={}, records=records, lines=list)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == {"name": HOSTILE, "n": "1", "more": ""}


@pytest.mark.parametrize("kind", ["json", "csv", "markdown"])
def test_a_run_can_be_printed_as_data(scenario: Path, capsys: Captured, kind: str) -> None:
    """Standard output has the summary alone; where the files are is said beside it."""
    assert command_line(["run", str(scenario), "--no-report", "--format", kind]) == 0
    out, err = capsys.readouterr()
    assert "record " in err
    if kind == "json":
        (ready,) = (each for each in json.loads(out)["summary"] if each["metric"] == "startup.ready")
        assert ready["n"] == 6
    else:
        assert sum("startup.ready" in line for line in out.splitlines()) == 1


def test_quiet_leaves_results_and_errors(scenario: Path, capsys: Captured) -> None:
    """Before or after the verb, progress is left out; the table, and what went wrong, are not."""
    for arguments in (["-q", "run"], ["run", "--quiet"]):
        assert command_line([*arguments, str(scenario), "--no-report"]) == 0
        out, err = capsys.readouterr()
        assert "mock" in out
        assert err == ""
    assert command_line(["run", "absent.yaml", "--quiet"]) == 2
    assert "absent.yaml" in capsys.readouterr().err
    assert command_line(["run", str(scenario), "--no-report"]) == 0
    assert "of 6 steps" in capsys.readouterr().err


def test_verbose_tells_each_step_and_the_causes_of_errors(scenario: Path, capsys: Captured) -> None:
    """Each repetition with what it measured; beneath an error, what it was made of."""
    assert command_line(["run", str(scenario), "--no-report", "--verbose"]) == 0
    err = capsys.readouterr().err
    for number in range(1, 7):
        assert f"{number}/6 mock ready, repetition {number}: startup.exec " in err
    command_line(["run", "absent.yaml", "-v"])
    assert "because of FileNotFoundError" in capsys.readouterr().err
    command_line(["run", "absent.yaml"])
    assert "because of" not in capsys.readouterr().err


def test_every_verb_can_be_loaded_and_takes_the_common_options() -> None:
    """But for the one whose line goes on with another program's options."""
    for verb in VERBS:
        options = {option for parameter in load(verb).params for option in parameter.opts}
        assert {"--quiet", "--verbose"} <= options or verb == "shell"


@pytest.mark.parametrize("verb", ["audit", "history", "images"])
def test_help_tells_of_each_verb_below_in_a_whole_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, verb: str
) -> None:
    """In 80 columns none is cut short."""
    monkeypatch.setenv("COLUMNS", "80")
    assert command_line([verb, "--help"]) == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith("Usage:")
    assert [line for line in lines if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rnu"], "did you mean run?"),
        (["gaet", "--baseline", "main"], "did you mean gate?"),
        (["nosuch"], "`pybench --help` lists the verbs"),
        (["images", "build", "debain"], "did you mean debian?"),
        (["images", "build", "nosuch"], "known images: bench, bookworm, debian, "),
        (["run", "starup"], "did you mean startup?"),
        (["run", "startup", "--targets", "contaner", "--dry-run"], "did you mean 'container'?"),
        (["audit", "explain", "N99"], "did you mean 'N9'?"),
    ],
)
def test_a_name_that_is_nearly_right_is_offered(capsys: Captured, arguments: list[str], hint: str) -> None:
    """Bad usage, with the name that was probably meant."""
    assert command_line(arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said", "verb"),
    [
        (["compare"], "missing argument 'baseline'", "compare"),
        (["history", "tag", "latest"], "missing argument 'name'", "history tag"),
        (["run", "startup", "--repaet", "3"], "no such option: --repaet", "run"),
        (["run", "startup", "--set"], "option '--set' requires an argument", "run"),
        (["run", "startup", "--seed", "x"], "invalid value for '--seed': 'x' is not", "run"),
        (["list", "--format", "xml"], "'xml' is not one of 'text', 'json'", "list"),
        (["completion"], "missing argument 'shell'. choose from: bash, zsh, fish", "completion"),
        (["images", "bulid"], "no such command 'bulid'", "images"),
    ],
)
def test_bad_usage_is_one_line_and_a_hint(
    capsys: Captured, arguments: list[str], said: str, verb: str
) -> None:
    """As any other bad input: what is wrong, and where the usage is told."""
    assert command_line(arguments) == 2
    printed = capsys.readouterr()
    message, hint = printed.err.splitlines()
    assert message.startswith("pybench: ")
    assert said in message.lower()
    assert hint == f"  hint: `pybench {verb} --help` tells what it takes"
    assert not printed.out


@pytest.mark.parametrize("arguments", [[], ["images"]])
def test_without_a_verb_the_verbs_are_told(capsys: Captured, arguments: list[str]) -> None:
    """The help stands in for the verb that is missing; it is bad usage all the same."""
    assert command_line(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out + printed.err).startswith("Usage: pybench")


def test_a_project_is_begun_in_a_folder_of_any_name(scenario: Path, capsys: Captured) -> None:
    """The commands that `init` offers can be pasted into a shell."""
    folder = scenario.parent / "a folder's"
    assert command_line(["init", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    following = next(line for line in lines if line.startswith("next: ")).removeprefix("next: ")
    assert shlex.split(following)[2:] == [str(folder / "scenarios" / "first.yaml"), "--dry-run"]
    nightly = lines[-1].removeprefix("every night: ")
    assert shlex.split(nightly)[-2:] == [str(folder / "nightly.cron"), "/etc/cron.d/pybench"]


@pytest.mark.parametrize(
    ("arguments", "noun"),
    [
        (["run", "FILE"], "scenario"),
        (["nightly", "FILE"], "nightly job"),
        (["gate", "--baseline", "first", "--limits", "FILE"], "file of limits"),
        (["gate", "--baseline", "first", "--waivers", "FILE"], "file of waivers"),
    ],
)
def test_a_file_that_cannot_be_read_is_called_what_it_is_for(
    scenario: Path, capsys: Captured, arguments: list[str], noun: str
) -> None:
    """Missing, a folder, or empty: each is told of the kind of file that was asked for."""
    command_line(["run", str(scenario), "--no-report"])
    command_line(["history", "tag", "latest", "first"])
    command_line(["run", str(scenario), "--no-report"])
    capsys.readouterr()
    folder = scenario.parent / "folder.yaml"
    folder.mkdir()
    empty = scenario.parent / "empty.yaml"
    empty.touch()
    for file, said in (
        (scenario.parent / "absent.yaml", f"cannot read the {noun}: No such file"),
        (folder, f"the {noun} is a file of YAML"),
        (empty, "the file is empty"),
    ):
        assert command_line([str(file) if word == "FILE" else word for word in arguments]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert ("docs/scenarios.md" in told) == (noun == "scenario" and file.exists())


def test_a_metric_that_is_nearly_right_is_offered(scenario: Path, capsys: Captured) -> None:
    """Where no run has a value of it; a metric that only has no trend is none of these."""
    command_line(["run", str(scenario), "--no-report"])
    capsys.readouterr()
    assert command_line(["history", "--metric", "startup.redy"]) == 2
    assert "did you mean startup.ready?" in capsys.readouterr().err
    assert command_line(["history", "--metric", "memory.host.pss"]) == 0
    command_line(["history", "tag", "latest", "main"])
    command_line(["run", str(scenario), "--no-report"])
    capsys.readouterr()
    assert command_line(["gate", "--baseline", "main", "--metric", "startup.redy"]) == 2
    assert "did you mean startup.ready?" in capsys.readouterr().err


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(tmp_path: Path, no_color: str, coloured: bool) -> None:
    """NO_COLOR takes them away."""
    program = "from pybench.harness.cli.output import styled; print(styled('ok', 'green'))"
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "-c", program], stdout=theirs, env=environment, cwd=tmp_path, check=True
        )
        os.close(theirs)
        assert (b"\x1b[" in terminal.read(100)) is coloured
    piped = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=tmp_path, check=True
    )
    assert piped.stdout == b"ok\n"


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "'a-b->c'"), ("utf-8", "'a−b→c'")])
def test_an_output_that_lacks_a_sign_shows_the_nearest(tmp_path: Path, encoding: str, shown: str) -> None:
    """A minus sign becomes a hyphen, and an arrow two signs; nothing ends with an error of encoding."""
    done = subprocess.run(
        [sys.executable, "-c", "from pybench.harness.cli.main import main; main()", "a−b→c"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert shown in done.stderr.decode(encoding)


@pytest.mark.parametrize("option", HELP_OPTIONS)
def test_the_overview_is_printed_without_what_the_verbs_need(
    tmp_path: Path, capsys: Captured, option: str
) -> None:
    """It is the same that the whole command line has, and names every verb and option."""
    program = "import sys; from pybench.harness.cli.entry import main; main(); print('typer' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, option], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *lines, imported = done.stdout.splitlines()
    assert imported == "False"
    assert command_line([option]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    for word in (*VERBS, "--quiet", "--verbose", "--version", "Example: pybench run"):
        assert any(word in line for line in lines), word


def test_listing_imports_nothing_that_computes(tmp_path: Path) -> None:
    """What can be listed is known without the libraries of the statistics, the record and the reports."""
    program = (
        "import sys; from pybench.harness.cli.main import run; run(['list', '--format', 'csv']); "
        "print(*({'numpy', 'scipy', 'pandas', 'sqlalchemy', 'libvirt', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("option", HELP_OPTIONS)
def test_a_reader_of_help_that_has_gone_is_no_error(option: str) -> None:
    """What `head` does once it has enough: nothing is complained of."""
    reading, writing = os.pipe()
    os.close(reading)
    program = "from pybench.harness.cli.entry import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, option],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=300,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
