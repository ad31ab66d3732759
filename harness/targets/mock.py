"""A pretended target: launches nothing, tells invented marks; for tests of scheduler and command line."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pybench.harness.errors import InstanceError, LeftoverError
from pybench.harness.model import Mark, Workload
from pybench.harness.targets import MockSettings, TargetContext
from pybench.harness.targets.base import ImageFiles

CHANNEL = "pretended"
_SPREAD = 7
"""Launches after which the invented latencies repeat."""


@dataclass(frozen=True, slots=True)
class MockImage:
    """An image that is never read."""

    name: str
    content_hash: str = "0" * 64
    rootfs: Path = Path("/nonexistent")
    initramfs: Path = Path("/nonexistent")
    kernel: Path = Path("/nonexistent")
    disk: Path | None = None
    marking: frozenset[str] = frozenset()
    kernel_release: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class MockInstance:
    """An instance whose marks were invented when it was made."""

    marks: tuple[Mark, ...]
    leaves_something: bool = False
    died: bool = False
    qualifiers: Mapping[str, str] = field(default_factory=lambda: {"pretended": "yes"})
    output: str = "ready"
    cgroup_memory: int | None = 2**20

    @property
    def ended(self) -> str:
        """What the pattern of failures says."""
        return "the pretended instance had died" if self.died else ""

    @property
    def processes(self) -> tuple[int, ...]:
        """This process: it exists, and its memory can be read."""
        return (os.getpid(),)

    def stop(self, timeout: float) -> None:  # noqa: ARG002 - the protocol's signature
        """Add the last two marks; fail as the pattern says."""
        if self.marks[-1].name == "stopped":
            return
        end = self.marks[-1].at
        self.marks += (
            Mark("stopping", end + 1_000_000, CHANNEL, 1e-9),
            Mark("stopped", end + 1_500_000, CHANNEL, 1e-9),
        )
        if self.leaves_something:
            raise LeftoverError("the pretended instance survived its teardown")
        if self.died:
            raise InstanceError("the pretended instance had died")


class MockTarget:
    """Deterministic: launch number n always gets the same marks."""

    def __init__(self, settings: MockSettings, context: TargetContext) -> None:
        self._settings = settings
        self._context = context
        self._launches = 0
        self._prepared: int | None = None

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Note the preparation in the journal, so that a test can see that it is undone."""
        self._prepared = self._context.journal.record("pretended", workload=workload.name, image=image.name)

    def launch(self, timeout: float) -> MockInstance:
        """Invent the marks `request`, `sandbox`, `exec` and `ready`."""
        settings, number = self._settings, self._launches
        self._launches += 1
        time.sleep(min(settings.delay, timeout))
        outcome = settings.failures[number % len(settings.failures)] if settings.failures else "."
        if outcome == "x":
            raise InstanceError("the pretended instance failed", log="pretended log line")
        total = round(settings.latency * 1e9 * (1 + number % _SPREAD / 100))
        request = number * 1_000_000_000
        instants = {"request": 0, "sandbox": total // 3, "exec": total // 2, "ready": total}
        marks = tuple(Mark(name, request + at, CHANNEL, 1e-9) for name, at in instants.items())
        return MockInstance(marks, leaves_something=outcome == "l", died=outcome == "d")

    def cleanup(self) -> None:
        """Undo `prepare`."""
        if self._prepared is not None:
            self._context.journal.forget(self._prepared)
            self._prepared = None
