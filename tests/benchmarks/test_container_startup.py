"""Our container against the kernel's floor and against other sandboxes, interleaved in one run.

Ratios hold on a noisy host, absolute times do not. Run with `tox run -e benchmarks` on a quiet
machine; with `-s` the table is printed.
"""

from __future__ import annotations

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
LIMIT_TO_FLOOR = 3.0

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
        journal = stack.enter_context(open_journal(tmp_path_factory.mktemp("journal")))
        found: dict[str, Launch] = {}
        for kind in ("process", "floor", "container"):
            context = TargetContext(journal, tmp_path_factory.mktemp(kind))
            target = open_target(TargetChoice(kind, kind, ROUNDS), context)
            stack.callback(target.cleanup)
            target.prepare(workload, image)

            def launch(target: object = target) -> float:
                instance = target.launch(10)  # type: ignore[attr-defined]
                instance.stop(2)
                marks = {mark.name: mark.at for mark in instance.marks}
                return float(marks["exec"] - marks["request"]) / 1e9

            found[kind] = launch
        for name, command in _other_sandboxes(image.rootfs).items():
            found[name] = lambda command=command: _whole_command(command)  # type: ignore[misc]
        yield found


def _other_sandboxes(rootfs: Path) -> dict[str, list[str]]:
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
    return {name: [*command, *finish[name]] for name, command in commands.items() if shutil.which(command[0])}


def _whole_command(command: list[str]) -> float:
    """Their first instruction cannot be seen, so this is the whole command, end included."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
    return time.perf_counter() - begun


def test_container_is_near_the_floor(launches: dict[str, Launch]) -> None:
    """The median of request to first instruction stays within its limit of the raw clone3 floor."""
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
        p99 = sorted(values)[len(values) * 99 // 100 - 1]
        ratio = medians[name] / medians["floor"]
        print(
            f"{name:<10} median {medians[name] * 1e3:7.3f} ms  p99 {p99 * 1e3:7.3f} ms  {ratio:5.2f} x floor"
        )
    assert medians["container"] <= LIMIT_TO_FLOOR * medians["floor"]
