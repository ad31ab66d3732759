"""What a program prints while it is told to end: it is let out, and its last lines are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

FAREWELL = 'trap "yes | head -c 300000; echo goodbye; exit 0" TERM; echo ready; sleep 2147483647 & wait'
ENDLESS = 'trap "yes" TERM; echo ready; sleep 2147483647 & wait'


@pytest.mark.parametrize("kind", ["process", "container"])
def test_a_long_farewell_is_let_out(kind: str, journal: Journal, tmp_path: Path, image: Image) -> None:
    """More than a pipe holds: the program ends by itself within its grace, and its last line is there."""
    command = ("/bin/busybox", "sh", "-c", FAREWELL)
    target = open_target(TargetChoice(kind, kind, 1), TargetContext(journal, tmp_path))
    target.prepare(Workload("w", "minimal", command, readiness=Readiness("line", "ready")), image)
    instance = target.launch(PATIENCE)
    instance.stop(PATIENCE)
    assert instance.output.endswith("goodbye\n")
    assert instance.ended.startswith("it ended by itself: exit code 0")
    target.cleanup()


def test_an_endless_farewell_ends_with_its_grace(journal: Journal, tmp_path: Path, image: Image) -> None:
    """A program that prints for ever is killed when its time is over."""
    command = ("/bin/busybox", "sh", "-c", ENDLESS)
    target = open_target(TargetChoice("process", "process", 1), TargetContext(journal, tmp_path))
    target.prepare(Workload("w", "minimal", command, readiness=Readiness("line", "ready")), image)
    instance = target.launch(PATIENCE)
    instance.stop(0.3)
    assert "SIGKILL" in instance.ended
    target.cleanup()
