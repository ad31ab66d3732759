"""`pybench run` as a user meets it: real targets, bad input, faults, Ctrl-C, SIGKILL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pybench.harness.errors import InputError
from pybench.harness.store import LATEST, Store
from pybench.vm_images import Image

PYBENCH = str(Path(sys.executable).with_name("pybench"))
PATIENCE = 300

SCENARIO = """
name: {name}
description: for a test
workloads:
  ready:
    image: {image}
    command: {command}
    readiness: {{level: line, text: ready}}
    resources: {{memory: 128MiB, cpus: 1, pids: 64}}
targets:
{targets}
measure: [startup, teardown, memory]
schedule: {{warmups: 0, seed: 1, ready_timeout: {timeout}, stop_timeout: 120s}}
"""


def write(
    folder: Path,
    *targets: str,
    name: str = "trial",
    image: str = "minimal",
    command: str = "[/bin/workload, ready]",
    timeout: str = "120s",
) -> Path:
    """A scenario file."""
    path = folder / "trial.yaml"
    lines = "\n".join(f"  {target}" for target in targets)
    path.write_text(
        SCENARIO.format(name=name, image=image, command=command, targets=lines, timeout=timeout),
        encoding="utf-8",
    )
    return path


def run(folder: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, with its results below a folder."""
    return subprocess.run(
        [PYBENCH, "run", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def test_every_target_is_measured_and_reported(tmp_path: Path, image: Image) -> None:
    """Process, floor, container and vm give samples, a table, JSON in the agreed schema and a report."""
    path = write(
        tmp_path,
        "process: {repetitions: 3}",
        "floor: {repetitions: 3}",
        "container: {repetitions: 3}",
        "vm: {repetitions: 1, accel: tcg}",
    )
    done = run(tmp_path, path, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "TCG emulation" in done.stdout
    assert "KVM" not in done.stdout.replace("without KVM", "").replace("hosts without", "")
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["schema"] == 1
    assert set(document) == {"schema", "run", "environment", "summary", "samples"}
    samples = document["samples"]
    assert {sample["target"] for sample in samples} == {"process", "floor", "container", "vm"}
    assert all(sample["qualifiers"]["image"] == image.content_hash for sample in samples)
    assert all(sample["channel"] and sample["resolution"] > 0 for sample in samples)
    assert {s["qualifiers"]["accel"] for s in samples if s["target"] == "vm"} == {"tcg"}
    (report,) = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("report ")]
    assert "<html" in (tmp_path / report).read_text(encoding="utf-8")[:500]


def test_phases_add_up_on_every_target(tmp_path: Path) -> None:
    """The phases of each launch sum to its `startup.ready`."""
    path = write(tmp_path, "process: {repetitions: 2}", "container: {repetitions: 2}", "vm: {repetitions: 1}")
    done = run(tmp_path, path, "--json", "out.json", "--no-report")
    assert done.returncode == 0, done.stderr
    samples = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["samples"]
    for total in (sample for sample in samples if sample["metric"] == "startup.ready"):
        phases = [
            sample["value"]
            for sample in samples
            if sample["order"] == total["order"] and sample["metric"].startswith("startup.phase.")
        ]
        assert len(phases) >= 3
        assert sum(phases) == pytest.approx(total["value"], abs=1e-9)
    names = {s["metric"] for s in samples if s["target"] == "vm" and s["metric"].startswith("startup.phase.")}
    assert names == {f"startup.phase.{name}" for name in ("vmm", "kernel", "sandbox", "exec", "ready")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "[/bin/worklod, ready]"}, "did you mean /bin/workload?"),
        ({"command": "[workload]"}, "must be an absolute path"),
        ({"command": "[/etc/passwd]"}, "is not an executable file"),
        ({"image": "minimla"}, "minimal"),
    ],
)
def test_what_the_image_lacks_is_bad_input(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """A command or image that does not exist is exit 2 with a hint, and no traceback."""
    path = write(tmp_path, "process: {repetitions: 1}", "container: {repetitions: 1}", **change)
    done = run(tmp_path, path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_a_workload_that_never_gets_ready_is_a_failed_sample(tmp_path: Path, target: str) -> None:
    """It times out, the run goes on with the other target, and the failure is stored with its reason."""
    path = write(
        tmp_path,
        f"{target}: {{repetitions: 1}}",
        "mock: {repetitions: 2}",
        command="[/bin/workload, silent]",
        timeout="4s" if target == "vm" else "500ms",
    )
    done = run(tmp_path, path, "--json", "out.json", "--no-report")
    assert done.returncode == 1
    samples = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["samples"]
    (failed,) = [sample for sample in samples if sample.get("status") == "failed"]
    assert failed["target"] == target
    assert failed["value"] is None
    assert "not ready after" in failed["reason"]
    assert sum(sample["target"] == "mock" and sample["metric"] == "startup.ready" for sample in samples) == 2


def test_without_qemu_the_exit_code_is_3(tmp_path: Path) -> None:
    """A host without QEMU is told which command installs it; the stored results of before are intact."""
    first = run(tmp_path, write(tmp_path, "process: {repetitions: 1}"), "--no-report")
    assert first.returncode == 0
    tools = tmp_path / "tools"
    tools.mkdir()
    for directory in ("/usr/bin", "/bin"):
        for program in Path(directory).iterdir():
            if not program.name.startswith("qemu") and not (tools / program.name).is_symlink():
                (tools / program.name).symlink_to(program)
    environment = {**os.environ, "PATH": str(tools)}
    done = run(tmp_path, write(tmp_path, "vm: {repetitions: 1}"), env=environment)
    assert done.returncode == 3
    assert "qemu-system-x86_64 is not installed" in done.stderr
    assert "apt-get install" in done.stderr
    assert "Traceback" not in done.stderr
    again = run(tmp_path, write(tmp_path, "process: {repetitions: 1}"), "--no-report")
    assert again.returncode == 0


def test_results_that_cannot_be_written_stop_it_before_anything_is_launched(tmp_path: Path) -> None:
    """A results folder that is no folder is exit 2 with a hint."""
    (tmp_path / "results").write_text("in the way", encoding="utf-8")
    done = run(tmp_path, write(tmp_path, "process: {repetitions: 1}"))
    assert done.returncode == 2
    assert "results" in done.stderr
    assert "--results" in done.stderr


@contextlib.contextmanager
def started(folder: Path, path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in the background, once it has launched something; a test that fails ends it."""
    with subprocess.Popen(
        [PYBENCH, "run", str(path), "--json", "out.json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not _descendants(process.pid, "workload", "qemu-system-x86"):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


def await_samples(folder: Path, process: subprocess.Popen[str]) -> None:
    """Return when the run has stored something of both of its targets."""
    record, deadline = folder / "results" / "pybench.sqlite", time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        # Until the run is recorded there is no record, or nothing in it.
        with contextlib.suppress(InputError), Store.open(record, create=False) as store:
            if len({sample.target for sample in store.samples(LATEST) if sample.status == "ok"}) > 1:
                return
        time.sleep(0.05)
    pytest.fail("the run stored nothing")


def _descendants(pid: int, *names: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name().startswith(names):
                found.append(child)
    return found


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, target: str) -> None:
    """SIGINT ends the run with 130, keeps the samples so far, and leaves nothing running."""
    path = write(tmp_path, "mock: {repetitions: 500}", f"{target}: {{repetitions: 500}}")
    with started(tmp_path, path) as process:
        await_samples(tmp_path, process)
        victims = _descendants(process.pid, "workload", "qemu-system-x86")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not any(victim.is_running() for victim in victims)
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["run"]["status"] == "interrupted"
    assert document["samples"]
    assert run(tmp_path, "--help").returncode == 0
    assert _clean() == "nothing was left behind\n"


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_clean_removes_what_a_killed_run_left(tmp_path: Path, target: str) -> None:
    """After SIGKILL `pybench clean` ends what lives on; the samples committed before are readable."""
    path = write(tmp_path, "mock: {repetitions: 500}", f"{target}: {{repetitions: 500}}")
    with started(tmp_path, path) as process:
        time.sleep(0.5)
        victims = _descendants(process.pid, "workload", "qemu-system-x86")
        process.kill()
        process.communicate(timeout=PATIENCE)
    _clean()
    _, alive = psutil.wait_procs(victims, timeout=PATIENCE)
    assert not alive
    assert _clean() == "nothing was left behind\n"
    after = run(tmp_path, write(tmp_path, "process: {repetitions: 1}"), "--no-report")
    assert after.returncode == 0


def _clean() -> str:
    done = subprocess.run([PYBENCH, "clean"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_tells_each_part_with_its_remedy() -> None:
    """Every check has a finding; one that is not fine says what follows and what to do."""
    done = subprocess.run(
        [PYBENCH, "doctor", "--format", "json"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"user", "tools", "namespaces", "ids", "control groups", "libvirt", "kvm"} <= set(checks)
    assert all(check["finding"] for check in checks.values())
    assert all(check["state"] == "ok" or check["consequence"] for check in checks.values())
    assert checks["namespaces"]["finding"].split(", ") == [
        "user", "pid", "mount", "network", "uts", "ipc", "cgroup", "time",
    ]  # fmt: skip
