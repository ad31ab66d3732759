"""Revisions of the harness itself, each built and installed on its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pybench.harness.store import Store
from pybench.runtime.journal import state_directory

PYBENCH = str(Path(sys.executable).with_name("pybench"))
PATIENCE = 240
SCENARIO = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  fast: {kind: mock, repetitions: 1, latency: 5ms}
measure: [startup]
schedule: {warmups: 0}
"""
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "pybench-harness"
version = "0.0.1"
[project.scripts]
pybench = "revised:main"
[tool.setuptools]
py-modules = ["revised"]
"""
SLOW_PROJECT = """\
[build-system]
requires = []
build-backend = "slow"
backend-path = ["."]
[project]
name = "pybench-harness"
version = "0.0.1"
"""
SLOW_BACKEND = """\
import os, subprocess

def build_wheel(*arguments, **settings):
    compiler = subprocess.Popen(["sleep", "1000"])
    with open("SIGN.new", "w") as sign:
        print(os.getppid(), os.getpid(), compiler.pid, file=sign)
    os.rename("SIGN.new", "SIGN")
    compiler.wait()
"""
PROGRAM = """\
import subprocess, sys

def main():
    sys.exit(subprocess.call(["PYBENCH", *sys.argv[1:], "--set", "targets.fast.latency=LATENCY"]))
"""


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder, as nobody in particular."""
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments]
    subprocess.run(command, capture_output=True, check=True)


def test_each_side_is_measured_by_its_own_program(tmp_path: Path) -> None:
    """What is installed from a revision is what runs: a small program of the harness's name, later slower."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(SCENARIO, encoding="utf-8")
    for latency in ("10ms", "30ms"):
        program = PROGRAM.replace("PYBENCH", PYBENCH).replace("LATENCY", latency)
        (tmp_path / "revised.py").write_text(program, encoding="utf-8")
        git(tmp_path, "add", "pyproject.toml", "mine.yaml", "revised.py")
        git(tmp_path, "commit", "--quiet", "--message", latency)
    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [PYBENCH, "ab", "--a", "HEAD~1", "--b", "HEAD", "mine.yaml", "--no-report", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 4, done.stderr
    (cell,) = [each for each in json.loads(done.stdout)["cells"] if each["metric"] == "startup.ready"]
    assert (cell["baseline"]["median"], cell["candidate"]["median"]) == pytest.approx((0.01, 0.03))
    assert set(tmp_path.iterdir()) - before == {tmp_path / "results"}


def is_there(pid: int) -> bool:
    """Whether a process runs; an orphan may stay a zombie until its new parent looks."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_a_revision_is_built_ends_its_building(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 130; pip, the build that it began and a compiler of that have ended; nothing is left."""
    project, sign, before = tmp_path / "project", tmp_path / "sign", set(folders())
    project.mkdir()
    git(project, "init", "--quiet")
    (project / "pyproject.toml").write_text(SLOW_PROJECT, encoding="utf-8")
    (project / "slow.py").write_text(SLOW_BACKEND.replace("SIGN", str(sign)), encoding="utf-8")
    (project / "mine.yaml").write_text(SCENARIO, encoding="utf-8")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "it")
    command = [PYBENCH, "ab", "--a", "HEAD", "--b", "HEAD^{commit}", "mine.yaml", "--no-report"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PATIENCE
        while not sign.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        builders = [int(word) for word in sign.read_text(encoding="utf-8").split()]
        assert all(map(is_there, builders))
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not any(map(is_there, builders))
    added = set(folders()) - before
    assert not [path for path in added if path.name.startswith((f"{process.pid}-", "ab-"))]
    with Store.open(project / "results" / "pybench.sqlite") as store:
        assert store.runs() == []


@pytest.fixture
def slow_project(tmp_path: Path) -> Path:
    """A repository whose scenario takes a while, and differs between its two commits."""
    git(tmp_path, "init", "--quiet")
    for latency in ("5ms", "6ms"):
        text = SCENARIO.replace(
            "repetitions: 1, latency: 5ms", f"repetitions: 40, delay: 20ms, latency: {latency}"
        )
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        git(tmp_path, "add", "mine.yaml")
        git(tmp_path, "commit", "--quiet", "--message", latency)
    return tmp_path


def started(project: Path) -> subprocess.Popen[str]:
    """The comparison of both commits, in its second block."""
    process = subprocess.Popen(
        [PYBENCH, "ab", "--a", "HEAD~1", "--b", "HEAD", "mine.yaml", "--no-report"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("block 2"):
            return process
    raise AssertionError(f"it ended with {process.wait()}")


def folders() -> list[Path]:
    """What comparisons of revisions have in the state directory."""
    place = state_directory()
    return [*place.glob("ab-*"), *place.glob("*.journal")] if place.is_dir() else []


def test_an_interrupted_comparison_keeps_its_blocks(slow_project: Path) -> None:
    """Exit code 130; the blocks that were complete are in the record, and nothing else is left."""
    with started(slow_project) as process:
        process.terminate()
        assert process.wait(PATIENCE) == 130
        own = [path for path in folders() if path.name.startswith(f"{process.pid}-")]
    assert not own
    with Store.open(slow_project / "results" / "pybench.sqlite") as store:
        run = store.run()
        assert (run.scenario, run.status) == ("pretended.ab", "interrupted")
        assert {sample.target for sample in store.samples(run.id)} == {"fast.a", "fast.b"}


def test_what_a_killed_comparison_leaves_is_cleaned(slow_project: Path) -> None:
    """Its folder is in the journal; what was committed is kept, and the run counts as abandoned."""
    before = set(folders())
    with started(slow_project) as process:
        process.kill()
        process.wait()
    left = {path for path in folders() if path.name.startswith("ab-")} - before
    assert left
    subprocess.run([PYBENCH, "clean"], check=True, capture_output=True, timeout=PATIENCE)
    assert not left & set(folders())
    with Store.open(slow_project / "results" / "pybench.sqlite") as store:
        assert store.run().status == "abandoned"
        assert store.samples(store.run().id)
