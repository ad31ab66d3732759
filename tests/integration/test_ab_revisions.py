"""Revisions of the harness itself, each built and installed on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
