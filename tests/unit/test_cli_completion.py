"""Shell completion, as the shells ask for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gate_runs import store_night

from pybench.harness.cli.main import COMPLETION
from pybench.harness.cli.main import run as command_line
from pybench.harness.cli.overview import VERBS
from pybench.harness.store import Store

Captured = pytest.CaptureFixture[str]


class Completer:
    """Asks as bash does."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: Captured) -> None:
        self._patch, self._captured = patch, captured

    def __call__(self, *words: str) -> list[str]:
        """What may stand for the last of the words after `pybench`."""
        with self._patch.context() as patch:
            patch.setenv(COMPLETION, "complete_bash")
            patch.setenv("COMP_WORDS", "\n".join(("pybench", *words)))
            patch.setenv("COMP_CWORD", str(len(words)))
            assert command_line([]) == 0
        out, err = self._captured.readouterr()
        assert err == ""
        return str(out).split()


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Completer:
    """Completes in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
    return Completer(monkeypatch, capsys)


def test_verbs_and_options_are_completed(complete: Completer) -> None:
    """At the top and below a verb that has verbs of its own."""
    assert complete("") == list(VERBS)
    assert complete("co") == ["compare", "completion"]
    assert complete("history", "pr") == ["prune"]
    assert complete("gate", "--cal") == ["--calibrate"]
    assert complete("list", "--format", "m") == ["markdown"]


def test_names_are_completed(complete: Completer) -> None:
    """Scenarios, targets even after a comma, metrics and probes."""
    Path("scenarios").mkdir()
    Path("scenarios/mine.yaml").write_text("")
    assert complete("run", "st") == ["startup"]
    assert complete("run", "scen") == ["scenarios/mine.yaml"]
    assert complete("run", "startup", "--targets", "cont") == ["container"]
    assert complete("run", "startup", "--targets", "vm,cont") == ["vm,container"]
    assert "startup.ready" in complete("gate", "--metric", "startup.")
    assert complete("audit", "explain", "N4") == ["N4"]


def test_runs_are_completed_from_the_record(complete: Completer) -> None:
    """Tags and ids, the newest first; without a record there is nothing to offer and no complaint."""
    assert complete("compare", "") == []
    Path("results").mkdir()
    with Store.open(Path("results/pybench.sqlite")) as record:
        for number in (1, 2):
            store_night(record, number)
        record.tags.set("main", "night-01")
    assert complete("compare", "") == ["latest", "main", "night-02", "night-01"]
    assert complete("compare", "main", "ni") == ["night-02", "night-01"]
    assert complete("history", "note", "m") == ["main"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_teaches_a_shell(shell: str, capsys: Captured) -> None:
    """It names the command and the variable by which the command is asked."""
    assert command_line(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "pybench" in script
    assert f"{COMPLETION}=complete_{shell}" in script


@pytest.mark.parametrize(("shell", "action"), [("zsh", ""), ("fish", "get-args")])
def test_other_shells_are_told_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, shell: str, action: str
) -> None:
    """A verb comes with its help."""
    monkeypatch.setenv(COMPLETION, f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "pybench his")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", action)
    assert command_line([]) == 0
    out = capsys.readouterr().out
    assert "history" in out
    assert "List runs and trends" in out


def test_bash_completes_by_the_script(tmp_path: Path) -> None:
    """A real bash asks the installed command and fills in what it answers."""
    bash, command = shutil.which("bash"), Path(sys.executable).with_name("pybench")
    if bash is None:
        pytest.skip("there is no bash here")
    asked = (
        f"{command} completion bash > script && . ./script && COMP_WORDS=({command} his) COMP_CWORD=1 && "
        f"_pybench_completion {command} && echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(
        [bash, "--norc", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["history"]
