"""What instances get done, measured by `pybench run` on a bare process, in a container and in a guest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pybench.harness.measure.throughput import KINDS

PYBENCH = str(Path(sys.executable).with_name("pybench"))
PATIENCE = 400
SCENARIO = """
name: trial
description: for a test
workloads:
  work:
    image: minimal-virtio
    command: [/bin/workload, ready]
    readiness: {level: line, text: ready}
    resources: {memory: 96MiB, cpus: 1, pids: 64}
targets:
  process: {repetitions: 1}
  container: {repetitions: 1}
  vm: {repetitions: 1, accel: tcg}
measure:
  throughput: {duration: 100ms, buffer: 32MiB}
schedule: {warmups: 0, seed: 1}
"""


def run(folder: Path, text: str) -> list[dict[str, Any]]:
    """The samples of a scenario."""
    (folder / "trial.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [PYBENCH, "run", "trial.yaml", "--json", "out.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    samples: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["samples"]
    return samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of one run."""
    return run(tmp_path_factory.mktemp("throughput"), SCENARIO)


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_every_kind_is_measured_on_every_target(samples: list[dict[str, Any]], target: str) -> None:
    """With its unit and channel; a rate that two clocks do not agree about is rejected and says so."""
    mine = {each["metric"]: each for each in samples if each["target"] == target}
    assert {f"throughput.{kind}" for kind in KINDS} == set(mine)
    for metric, sample in mine.items():
        assert sample["value"] > 0, sample
        assert sample["unit"] == ("B/s" if "memory" in metric else "1/s")
        assert sample["channel"] == ("virtio-serial" if target == "vm" else "pipe")
        assert ("accel" in sample["qualifiers"]) == (target == "vm")
        # Only what did not go well has a status.
        assert sample.get("status", "rejected") == "rejected"
        assert "clock inside" in sample.get("reason", "clock inside")
        assert sample["qualifiers"]["spread"].endswith("%")


def test_emulation_is_slower_than_the_host(samples: list[dict[str, Any]]) -> None:
    """A guest whose every instruction is carried out in software computes several times slower."""
    rates = {each["target"]: each["value"] for each in samples if each["metric"] == "throughput.cpu"}
    assert rates["vm"] < rates["process"]
