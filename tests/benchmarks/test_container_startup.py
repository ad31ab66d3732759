"""Our container against the kernel's floor and against other sandboxes, interleaved in one run.

Ratios hold on a noisy host, absolute times do not. Run with `tox run -e benchmarks` on a quiet
machine; with `-s` the table is printed.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pybench.harness.model import Resources, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.journal import open_journal
from pybench.vm_images import build

ROUNDS = 100
SPACING = 0.02
"""Seconds between launches: back to back everything is in the caches, which no user's launch is."""
LIMITS_TO_FLOOR = {"none": 1.6, "bridge": 2.5}
LIMITS_OF_NONE = {"bwrap": 0.6, "runc": 0.12}
"""At most this much of what the others take for the whole command."""
TARGETS = {
    "process": ("process", {}),
    "floor": ("floor", {}),
    "none": ("container", {}),
    "bridge": ("container", {"network": "bridge"}),
    "strict": ("container", {"profile": "strict"}),
    "privileged": ("container", {"profile": "privileged"}),
}
"""Label → kind of target and its options."""

Launch = Callable[[], float]
"""Seconds from request to the workload's first instruction."""


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Launch]]:
    """Every way to start the same binary that this host has."""
    image = build("minimal", progress=lambda _text: None)
    workload = Workload(
        "ready",
        "minimal",
        ("/bin/workload", "ready"),
        resources=Resources(memory=128 * 2**20, cpus=1, pids=64),
    )
    with ExitStack() as stack:
        journal = stack.enter_context(open_journal())
        found: dict[str, Launch] = {}
        for name, (kind, options) in TARGETS.items():
            context = TargetContext(journal, tmp_path_factory.mktemp(name))
            target = open_target(TargetChoice(name, kind, ROUNDS, options), context)
            stack.callback(target.cleanup)
            target.prepare(workload, image)

            def launch(target: object = target) -> float:
                instance = target.launch(10)  # type: ignore[attr-defined]
                instance.stop(2)
                marks = {mark.name: mark.at for mark in instance.marks}
                return float(marks["exec"] - marks["request"]) / 1e9

            found[name] = launch
        bundle = _bundle(tmp_path_factory.mktemp("bundle"), image.rootfs)
        for name, command in _other_sandboxes(image.rootfs, bundle).items():
            if _runs_here(name, command):
                found[name] = lambda command=command: _whole_command(command)  # type: ignore[misc]
        yield found


def _runs_here(name: str, command: list[str]) -> bool:
    """Installed, and not at odds with this host (crun refuses hosts with both versions of control groups)."""
    if shutil.which(command[0]) is None:
        return False
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if tried.returncode:
        print(f"\n{name} is left out: {tried.stderr.strip()}")
    return not tried.returncode


def _bundle(folder: Path, rootfs: Path) -> Path:
    """The least that the runtimes of OCI run: namespaces, /proc, no limits, and the same binary."""
    namespaces = ("pid", "mount", "network", "uts", "ipc", "cgroup")
    configuration = {
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/busybox", "true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": []},
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in namespaces]},
    }
    (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
    return folder


def _other_sandboxes(rootfs: Path, bundle: Path) -> dict[str, list[str]]:
    commands = {
        "bwrap": [
            "bwrap",
            "--unshare-all",
            "--ro-bind",
            str(rootfs),
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ],
        "unshare": [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount",
            "--net",
            "--uts",
            "--ipc",
        ],
    }
    finish = {"bwrap": ["/bin/busybox", "true"], "unshare": [str(rootfs / "bin/busybox"), "true"]}
    runtimes = {
        name: [name, "run", "--bundle", str(bundle), f"pybench-benchmark-{os.getpid()}"]
        for name in ("crun", "runc")
    }
    return {**{name: [*command, *finish[name]] for name, command in commands.items()}, **runtimes}


def _whole_command(command: list[str]) -> float:
    """Their first instruction cannot be seen, so this is the whole command, end included."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
    return time.perf_counter() - begun


def test_container_is_near_the_floor(launches: dict[str, Launch]) -> None:
    """Medians of request to first instruction stay within their limits of the floor and of the others."""
    samples: dict[str, list[float]] = {name: [] for name in launches}
    order = list(launches)
    shuffle = random.Random(1)
    for _ in range(ROUNDS):
        shuffle.shuffle(order)
        for name in order:
            time.sleep(SPACING)
            samples[name].append(launches[name]())
    medians = {name: statistics.median(values) for name, values in samples.items()}
    print()
    for name, values in samples.items():
        p99 = sorted(values)[math.ceil(len(values) * 0.99) - 1]
        print(
            f"{name:<10} p50 {medians[name] * 1e3:7.3f} ms  p99 {p99 * 1e3:7.3f} ms  p99/p50 "
            f"{p99 / medians[name]:5.2f}  {medians[name] / medians['floor']:5.2f} x floor"
        )
    for name, limit in LIMITS_TO_FLOOR.items():
        assert medians[name] <= limit * medians["floor"], name
    for name, limit in LIMITS_OF_NONE.items():
        if name in medians:
            assert medians["none"] <= limit * medians[name], name
