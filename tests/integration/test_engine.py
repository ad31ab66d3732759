"""The measurement engine on real instances: A/A, one run at a time, and workloads that misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pybench.harness.runner.lock import LOCK_VARIABLE
from pybench.harness.stats import ratio
from pybench.runtime import page_cache

PYBENCH = Path(sys.executable).with_name("pybench")
PAIRS = 4
PATIENCE = 300
A_A = """\
name: same-twice
workloads:
  ready: {image: minimal, command: [/bin/workload, ready], readiness: {text: ready}}
targets:
  one: {kind: process, repetitions: 20}
  other: {kind: process, repetitions: 20}
measure: [teardown]
schedule: {warmups: 2}
"""
PAIRED = A_A.partition("targets:")[0] + (
    "targets:\n"
    + "".join(
        f"  {name}-{pair}: {{kind: process, repetitions: 20}}\n"
        for pair in range(PAIRS)
        for name in ("a", "b")
    )
    + "measure: [teardown]\nschedule: {warmups: 2}\n"
)
MISBEHAVING = """\
name: misbehaving
workloads:
  flood: {image: minimal, command: [/bin/workload, flood], readiness: {text: never}}
  brief: {image: minimal, command: [/bin/workload, exit, "3"], readiness: {text: never}}
  forking:
    image: minimal
    command: [/bin/busybox, sh, -c, "while :; do sleep 99 & done"]
    readiness: {text: never}
    resources: {pids: 24}
targets:
  container: {repetitions: 1}
  mock: {repetitions: 2}
measure: [startup]
schedule: {warmups: 0, ready_timeout: 4s, stop_timeout: 100ms}
"""


def run(folder: Path, text: str, *arguments: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
    """Carry a scenario out, with its results below a folder."""
    (folder / "trial.yaml").write_text(text)
    chosen = ["--json", "out.json", "--no-report", "--seed", str(seed), *arguments]
    return subprocess.run(
        [str(PYBENCH), "run", "trial.yaml", *chosen],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def samples(folder: Path) -> list[dict[str, Any]]:
    """What the last run told."""
    found: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["samples"]
    return found


def test_the_same_target_under_two_names_does_not_differ(tmp_path: Path) -> None:
    """The interval of a pair's ratio contains 1: teardown, which no rejection thins out.

    A few pairs on whatever host this is cannot show the coverage of 95 %, so one interval is enough, which a
    target that differs by its place would never have: a simulation shows it (tests/unit), and
    tests/benchmarks/test_a_a.py on a quiet host.
    """
    done = run(tmp_path, PAIRED)
    assert done.returncode == 0, done.stderr
    contained = 0
    for pair in range(PAIRS):
        one, other = (
            [
                each["value"]
                for each in samples(tmp_path)
                if each["target"] == f"{name}-{pair}" and not each["warmup"]
            ]
            for name in ("a", "b")
        )
        assert len(one) == len(other) == 20
        found = ratio(one, other)
        contained += found.low <= 1 <= found.high
    assert contained


def test_workloads_that_misbehave_are_failed_samples_with_reasons(tmp_path: Path) -> None:
    """One floods its output, one ends at once, one forks for ever; the run goes on and leaves nothing."""
    done = run(tmp_path, MISBEHAVING)
    assert done.returncode == 1
    assert "container: every launch failed" in done.stderr
    found = samples(tmp_path)
    reasons = {each["workload"]: each["reason"] for each in found if each["target"] == "container"}
    assert "not ready after 4 s" in reasons["flood"]
    assert len(reasons["flood"]) <= 20_000
    assert "ended before it was ready (exit code 3)" in reasons["brief"]
    assert "can't fork: Resource temporarily unavailable" in reasons["forking"]
    assert sum(each["target"] == "mock" and each["metric"] == "startup.ready" for each in found) == 6
    assert "Validity" in done.stdout


def test_every_sample_has_an_error_and_the_run_its_calibration(tmp_path: Path) -> None:
    """What counts has an error of 1 % at most; how much marks over pipes scatter is in the environment."""
    done = run(tmp_path, A_A.replace("[teardown]", "[startup, teardown, memory]"), "--repeat", "3")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out.json").read_text())
    assert all(each["error"] >= 0 for each in document["samples"])
    for each in document["samples"]:
        if not each["metric"].startswith("startup.phase") and "status" not in each:
            assert each["error"] <= 0.01 * each["value"]
    assert 0 < float(document["environment"]["calibration.mark-pipe.error"]) < 0.05


HOLDER = "import sys; from pybench.harness.runner.lock import host_lock\n" + (
    "with host_lock('nightly', wait=False, tell=print): print('held', flush=True); sys.stdin.read()"
)


def test_a_second_run_is_refused_or_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 names the owner; with --wait it begins when the other has ended; mocks need no host."""
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    text = A_A.replace("repetitions: 20", "repetitions: 1")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        refused = run(tmp_path, text)
        assert refused.returncode == 3
        assert f"another run goes on here: nightly of root, process {holder.pid}" in refused.stderr
        assert run(tmp_path, text.replace("kind: process", "kind: mock")).returncode == 0
        (tmp_path / "trial.yaml").write_text(text)
        waiting = subprocess.Popen(
            [PYBENCH, "run", "trial.yaml", "--no-report", "--wait"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("waiting for nightly")
        holder.stdin.close()
    waiting.stderr.read()
    waiting.stderr.close()
    assert waiting.wait(PATIENCE) == 0


def test_cold_caches_are_declared_and_made(tmp_path: Path) -> None:
    """The samples say so, and what was in the page cache, and nobody else reads, is not there any more."""
    text = A_A.replace("repetitions: 20", "repetitions: 1").replace("warmups: 2", "warmups: 0, caches: cold")
    file = tmp_path / "read before"
    file.write_bytes(b"x" * 4096)
    page_cache.forget(file)
    if page_cache.cached_bytes(file):
        pytest.skip("the temporary folder is in memory")
    file.read_bytes()
    assert page_cache.cached_bytes(file)
    done = run(tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert {each["qualifiers"]["caches"] for each in samples(tmp_path)} == {"cold"}
    assert page_cache.cached_bytes(file) == 0
