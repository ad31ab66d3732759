"""The target `vm` through the protocol that the runner uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from patience import has_ended, wait_until
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT

from pybench.harness.errors import InputError
from pybench.harness.measure.memory import read_memory
from pybench.harness.model import Readiness, Resources, Schedule, TargetChoice, Workload
from pybench.harness.runner.tuning import is_held, tuned
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import Target
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

READY = Workload(
    "hello",
    "minimal",
    ("/bin/workload", "ready"),
    readiness=Readiness("line", "ready"),
    resources=Resources(pids=64),
)


@pytest.fixture
def target(journal: Journal, tmp_path: Path) -> Iterator[Target]:
    """A target on emulation, cleaned up at the end; the journal's fixture sees to it that nothing is left."""
    choice = TargetChoice("vm", "vm", 1, {"accel": "tcg"})
    opened = open_target(choice, TargetContext(journal, tmp_path))
    yield opened
    opened.cleanup()
    opened.cleanup()


def test_launch_gives_marks_memory_and_qualifiers(target: Target, image: Image) -> None:
    """One launch: marks whose spans add up, QEMU's pid, and what must be said beside the numbers."""
    target.prepare(READY, image)
    instance = target.launch(BOOT_TIMEOUT)
    try:
        marks = instance.marks
        names = [mark.name for mark in marks]
        assert names == ["preparing", "request", "vmm", "kernel", "sandbox", "exec", "ready"]
        spans = [after.at - before.at for before, after in pairwise(marks)]
        assert min(spans) >= 0
        assert sum(spans[1:]) == marks[-1].at - marks[1].at
        (pid,) = instance.processes
        assert "qemu-system" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        assert instance.qualifiers["accel"] == "tcg"
        assert instance.qualifiers["net"] == "none"
        assert instance.qualifiers["vmm"].startswith("qemu ")
        assert instance.output == "ready\n"
        assert {"ksm", "balloon"} <= instance.qualifiers.keys()
        values: dict[str, float] = {}

        def adds_up() -> bool:
            # On a busy host the guest may take memory between one figure and the next.
            values.update({reading.metric: reading.value or 0.0 for reading in read_memory(instance)})
            together = values["memory.host.guest"] + values["memory.vmm"]
            return bool(values["memory.host.uss"] == pytest.approx(together, rel=0.05))

        # What is QEMU's alone is the guest's memory and the monitor's; of the former a shared page or two.
        wait_until(adds_up)
        assert 0 < values["memory.vmm.files"] + values["memory.vmm.code"] < values["memory.vmm"]
        assert min(values["memory.vmm.files"], values["memory.vmm.code"]) > 0
        assert 0 < values["memory.guest.used"] < values["memory.guest.total"] < 256 * 2**20
        assert 0 < values["memory.guest.kernel"] < values["memory.host.guest"]
    finally:
        instance.stop(STOP_TIMEOUT)
    assert instance.marks[-1].name == "stopped"
    assert has_ended(pid)


@pytest.mark.parametrize("kind", ["vm", "vm-restore"])
def test_machine_is_held_to_the_processors_of_the_run(
    kind: str, image: Image, journal: Journal, tmp_path: Path
) -> None:
    """Booted or restored, each of QEMU's threads runs where the harness may, and nowhere else."""
    chosen = max(os.sched_getaffinity(0))
    with ExitStack() as stack:
        stack.enter_context(tuned(Schedule(cpus=(chosen,))))
        target = open_target(TargetChoice(kind, kind, 1, {"accel": "tcg"}), TargetContext(journal, tmp_path))
        stack.callback(target.cleanup)
        target.prepare(READY, image)
        instance = target.launch(BOOT_TIMEOUT)
        stack.callback(instance.stop, STOP_TIMEOUT)
        (pid,) = instance.processes
        threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
        assert len(threads) > 1
        assert is_held(threads, {chosen})


def test_command_outside_the_image_is_refused(target: Target, image: Image) -> None:
    """A missing command is bad input, found before libvirt is asked for anything."""
    with pytest.raises(InputError, match="/bin/none"):
        target.prepare(Workload("x", "minimal", ("/bin/none",)), image)


def test_guest_without_room_for_its_kernel_is_refused(journal: Journal, tmp_path: Path, image: Image) -> None:
    """Memory that the image does not fit in is bad input with the least value in the hint."""
    choice = TargetChoice("vm", "vm", 1, {"accel": "tcg", "memory": 32 * 2**20})
    target = open_target(choice, TargetContext(journal, tmp_path))
    try:
        with pytest.raises(InputError, match="32 MiB") as caught:
            target.prepare(READY, image)
        assert "MiB" in caught.value.hint
    finally:
        target.cleanup()
