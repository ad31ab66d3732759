"""How long each kind of guest takes to be ready, and what eight of them cost the host in memory.

The limits are those of the reference host under emulation. Run with `tox run -e benchmarks` on a quiet
machine; with `-s` the figures are printed.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import Target
from pybench.harness.targets.vm import VmInstance
from pybench.runtime.journal import Journal
from pybench.vm_images import build

ROUNDS = int(os.environ.get("PYBENCH_VM_ROUNDS", "7"))
TIMEOUT = 60.0
READY = ("/bin/workload", "ready")
PYTHON = ("/usr/bin/python3", "-c", "import time; print('ready', flush=True); time.sleep(1000)")
LIBVIRT_LIMIT = 0.25
"""Seconds of a cold start until libvirt has created the domain."""
SIBLINGS = 8
MONITOR_LIMIT = 60 << 20
"""Bytes of each of several guests that are QEMU's alone and not the guest's memory."""


@dataclass(frozen=True, slots=True)
class Start:
    """A way to start a guest, and the seconds within which it is ready (p50)."""

    target: str
    image: str
    command: tuple[str, ...]
    limit: float
    machine: str = "q35"


STARTS = {
    "minimal": Start("vm", "minimal", READY, 2.2),
    "minimal-tiny": Start("vm", "minimal-tiny", READY, 1.0),
    "minimal, microvm": Start("vm", "minimal", READY, 2.2, "microvm"),
    "minimal-tiny, microvm": Start("vm", "minimal-tiny", READY, 1.0, "microvm"),
    "minimal, restored": Start("vm-restore", "minimal", READY, 0.45),
    "nano": Start("vm", "nano", ("/nano",), 0.30),
    "debian, Python": Start("vm", "debian", PYTHON, 4.0),
}


def prepare(start: Start, journal: Journal, folder: Path) -> Target:
    """The target, ready to launch; whoever asks for it cleans it up."""
    image = build(start.image, progress=lambda _text: None)
    workload = Workload("ready", start.image, start.command, readiness=Readiness("line", "ready"))
    options = {"accel": "tcg", "machine": start.machine}
    target = open_target(TargetChoice(start.target, start.target, 1, options), TargetContext(journal, folder))
    try:
        target.prepare(workload, image)
    except BaseException:
        target.cleanup()
        raise
    return target


@pytest.fixture
def targets(journal: Journal, tmp_path: Path) -> Iterator[dict[str, Target]]:
    """All of them side by side."""
    with ExitStack() as stack:
        opened = {}
        for name, start in STARTS.items():
            opened[name] = prepare(start, journal, tmp_path)
            stack.callback(opened[name].cleanup)
        yield opened


def marks(target: Target) -> dict[str, float]:
    """Seconds from the request to each mark of one launch."""
    instance = target.launch(TIMEOUT)
    instance.stop(10)
    at = {mark.name: mark.at for mark in instance.marks}
    return {name: (instant - at["request"]) / 1e9 for name, instant in at.items()}


def test_every_kind_of_guest_is_ready_in_time(targets: dict[str, Target]) -> None:
    """Request to ready of each kind, in turns, and libvirt's share of the cold start (p50)."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
    for number in range(ROUNDS + 1):
        # The order flips, so that a drift of the host hits all alike.
        for name in reversed(targets) if number % 2 else targets:
            reached = marks(targets[name])
            if number:  # the first launch of each warms the host's caches
                taken[name].append(reached)
    print()
    late = []
    for name, start in STARTS.items():
        ready = [reached["ready"] for reached in taken[name]]
        p50 = statistics.median(ready)
        print(f"{name:<21} {p50:.3f} s ({min(ready):.3f} to {max(ready):.3f}), limit {start.limit:.2f} s")
        if p50 > start.limit:
            late.append(name)
    share = statistics.median(reached["vmm"] for reached in taken["minimal"])
    print(f"{'libvirt':<21} {share:.3f} s of the first")
    assert late == []
    assert share <= LIBVIRT_LIMIT


def test_eight_guests_cost_little_beside_their_memory(journal: Journal, tmp_path: Path) -> None:
    """Eight are alive at once; what QEMU has for itself alone stays within the limit; all of them end."""
    target = prepare(STARTS["minimal"], journal, tmp_path)
    monitors = []
    with ExitStack() as stack:
        stack.callback(target.cleanup)
        siblings = []
        for _ in range(SIBLINGS):
            sibling = target.launch(TIMEOUT)
            stack.callback(sibling.stop, 10)
            siblings.append(sibling)
        for sibling in siblings:
            assert isinstance(sibling, VmInstance)
            assert sibling.ended == ""
            monitors.append(sibling.read_host_memory().monitor)
    pids = [pid for sibling in siblings for pid in sibling.processes]
    assert pids == []
    print(f"\nQEMU without the guest's memory {min(monitors) / 2**20:.1f} to {max(monitors) / 2**20:.1f} MiB")
    assert max(monitors) <= MONITOR_LIMIT
