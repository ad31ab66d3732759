"""What instances get done, and within which limits: on a bare process, in a container and in a guest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pybench.harness.measure.throughput import KINDS

PYBENCH = str(Path(sys.executable).with_name("pybench"))
PATIENCE = 900
TARGETS = ("process", "container", "vm")
SCENARIO = """
name: trial
description: for a test
workloads:
  work:
    image: minimal-virtio
    command: [/bin/workload, ready]
    readiness: {level: line, text: ready}
    resources: {memory: 96MiB, cpus: 0.5, pids: 40}
    disk: 24MiB
targets:
  process: {repetitions: 1}
  held: {kind: process, limited: true, repetitions: 1}
  container: {repetitions: 1, network: bridge}
  vm: {repetitions: 1, accel: tcg, network: bridge}
measure:
  throughput: {duration: 100ms, buffer: 32MiB, file: 8MiB}
  network: {duration: 100ms}
  limits: {duration: 1s}
schedule: {warmups: 0, seed: 1, ready_timeout: 180s, stop_timeout: 120s}
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


def of(samples: list[dict[str, Any]], target: str, prefix: str) -> dict[str, dict[str, Any]]:
    """The last sample of each metric."""
    mine = [each for each in samples if each["target"] == target]
    return {each["metric"]: each for each in mine if each["metric"].startswith(prefix)}


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_is_measured_on_every_target(samples: list[dict[str, Any]], target: str) -> None:
    """With its unit and channel; a rate that two clocks do not agree about is rejected and says so."""
    mine = of(samples, target, "throughput.")
    assert {f"throughput.{kind}" for kind in KINDS} == set(mine)
    for metric, sample in mine.items():
        assert sample["value"] > 0, sample
        assert sample["unit"] == ("B/s" if "memory" in metric or "sequential" in metric else "1/s")
        assert sample["channel"] == ("virtio-serial" if target == "vm" else "workload-clock")
        assert ("accel" in sample["qualifiers"]) == (target == "vm")
        # Only what did not go well has a status.
        assert sample.get("status", "rejected") == "rejected"
        assert "clock inside" in sample.get("reason", "clock inside")
        assert sample["qualifiers"]["spread"].endswith("%")


@pytest.mark.parametrize("target", TARGETS)
def test_requests_to_the_disk_have_a_tail(samples: list[dict[str, Any]], target: str) -> None:
    """One at a time, so that the slowest hundredth takes at least what they take on average."""
    for kind in ("random.read", "random.write", "fsync"):
        (slow,) = of(samples, target, f"latency.file.{kind}.p99").values()
        (rate,) = of(samples, target, f"throughput.file.{kind}").values()
        assert slow["channel"] == "program-clock"
        assert slow["value"] > 0.5 / rate["value"]


def test_emulation_is_slower_than_the_host(samples: list[dict[str, Any]]) -> None:
    """A guest whose every instruction is carried out in software computes several times slower."""
    rates = {target: of(samples, target, "throughput.cpu")["throughput.cpu"]["value"] for target in TARGETS}
    assert rates["vm"] < rates["process"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_path_of_the_network_is_measured(samples: list[dict[str, Any]], target: str) -> None:
    """Inside, from the host and back, and between two instances on a bridge whose siblings meet."""
    mine = of(samples, target, "network.")
    paths = ("inside", "host", "between")
    streams = ("inside", "to", "from", "between")
    assert set(mine) == {
        *(f"network.latency.{path}" for path in paths),
        *(f"network.latency.{path}.p99" for path in paths),
        *(f"network.throughput.{stream}" for stream in streams),
    }
    for metric, sample in mine.items():
        assert sample["value"] > 0, sample
        assert sample["unit"] == ("s" if "latency" in metric else "B/s")
        assert ("accel" in sample["qualifiers"]) == (target == "vm")
        assert (sample["qualifiers"].get("siblings") == "reachable") == (target != "process")
    assert mine["network.latency.host.p99"]["value"] >= mine["network.latency.host"]["value"]


@pytest.mark.parametrize("target", ["held", "container", "vm"])
def test_limits_hold(samples: list[dict[str, Any]], target: str) -> None:
    """Half a processor, 96 MiB and 40 processes, of which the workload and the one that tries are two."""
    mine = of(samples, target, "limits.")
    # A limit holds from above; how much less there is to have is up to the host's other work.
    assert 0 < mine["limits.cpu"]["value"] < 0.8
    assert mine["limits.cpu.share"]["value"] == pytest.approx(mine["limits.cpu"]["value"] / 0.5)
    assert 0 < mine["limits.cpu.inside"]["value"] < 0.8
    assert 80 * 2**20 < mine["limits.memory"]["value"] <= 96 * 2**20
    assert mine["limits.memory"]["qualifiers"]["ending"] == "killed"
    # What an earlier command has left to be reaped may still be counted.
    assert 36 <= mine["limits.processes"]["value"] <= 38
    assert mine["limits.processes"]["qualifiers"]["ending"] == "refused"


def test_what_has_no_limits_says_so(samples: list[dict[str, Any]]) -> None:
    """A bare process is asked for none, for it would take what it wants of the host."""
    mine = of(samples, "process", "limits.")
    assert set(mine) == {"limits.cpu", "limits.memory", "limits.processes"}
    for sample in mine.values():
        assert (sample["value"], sample["status"]) == (None, "failed")
        assert "no limits are applied" in sample["reason"]


TOOLS = """
name: trial
workloads:
  tools:
    image: bench
    command: [/usr/bin/sleep, "1000000"]
    readiness: {level: exec}
    disk: 24MiB
targets:
  chroot: {repetitions: 1}
  container: {repetitions: 1}
measure:
  tools: {tools: [sysbench.cpu, fio.random.read, iperf3.send], file: 8MiB}
schedule: {warmups: 0, seed: 1}
"""


def test_standard_tools_tell_their_figures(tmp_path: Path) -> None:
    """One of each, with the image's own libraries, on a process in a chroot and in a container."""
    found = {(each["target"], each["metric"]): each for each in run(tmp_path, TOOLS)}
    for target in ("chroot", "container"):
        for metric, unit in (("sysbench.cpu", "1/s"), ("fio.random.read", "1/s"), ("iperf3.send", "B/s")):
            sample = found[target, f"tools.{metric}"]
            assert sample["value"] > 0, sample
            assert (sample["unit"], sample["channel"]) == (unit, "program-clock")
