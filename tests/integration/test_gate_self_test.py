"""The gate catches regressions that are injected into real containers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """\
name: self-test
workloads:
  ready:
    image: minimal
    command: [/bin/workload, ready]
    readiness: {text: ready}
    resources: {memory: 128MiB, cpus: 1, pids: 64}
targets:
  process: {}
  container: {}
measure: [startup, memory]
"""


@pytest.mark.usefixtures("image")
def test_injected_regressions_of_a_container_are_detected(tmp_path: Path) -> None:
    """Two mebibytes more, failing launches and a leaked PID are found; nothing is recorded or left."""
    (tmp_path / "mine.yaml").write_text(SCENARIO, encoding="utf-8")
    command = [
        *(str(Path(sys.executable).with_name("pybench")), "gate", "--self-test", "--scenario", "mine.yaml"),
        *("--targets", "container", "--repetitions", "40", "--format", "json"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    # A slower spawn is not always seen in 40 launches on a busy host, so the exit code may be either.
    assert done.returncode in {0, 1}, done.stderr
    found = {trial["injection"]: trial for trial in json.loads(done.stdout)}
    assert set(found) == {"control", "delay", "memory", "detour", "failures", "audit", "leaked PID"}
    # Whatever is measured without an injection is measured with one.
    assert not [each for trial in found.values() for each in trial["findings"] if each[0] == "missing"]
    assert found["leaked PID"]["passed"]
    leaks = {finding[3] for finding in found["leaked PID"]["findings"] if finding[0] == "leak"}
    assert leaks >= {"isolation.P1", "isolation.P2"}
    assert found["audit"]["findings"] == []
    assert ["regression", "ready", "container", "memory.host.cgroup", "B", ""] in found["memory"]["findings"]
    assert ["failures", "ready", "container", "startup.ready", "s", ""] in found["failures"]["findings"]
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No store of the user's is touched."""
    monkeypatch.delenv("PYBENCH_STORE", raising=False)
