"""Version 1: one hierarchy per controller.

Joining a group by cgroup.procs waits for an RCU grace period after a quiet moment (10-19 ms).
So nobody joins: the spawning *thread* is moved through `tasks` before the clock starts, and a
child inherits the group of the thread that cloned it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pybench.runtime.container.cgroup.base import (
    Group,
    Limits,
    read_number,
    read_pids,
    remove_directory,
)
from pybench.runtime.errors import HostError

CONTROLLERS = ("cpu", "memory", "pids")
PERIOD = 100_000
"""Microseconds: the kernel's default for cpu.cfs_period_us."""


@dataclass(frozen=True, slots=True)
class Version1:
    """Makes groups below the harness's own in every hierarchy that can be written."""

    parents: dict[str, Path] = field(default_factory=dict)
    """Controller → the harness's own group in its hierarchy."""
    label: str = "v1"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Names of the limits asked for whose controller is not there."""
        wanted = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
        return tuple(name for name, value in wanted.items() if value is not None and name not in self.parents)

    def directories(self, name: str) -> tuple[Path, ...]:
        """One directory per controller."""
        return tuple(parent / name for parent in self.parents.values())

    def create(self, name: str, limits: Limits) -> Group:
        """Make the directories and write the limits; nothing is left if one is refused."""
        group = Group1(
            {controller: parent / name for controller, parent in self.parents.items()}, self.parents
        )
        try:
            for directory in group.directories:
                directory.mkdir()
            _write_limits(group.by_controller, limits)
        except OSError as error:
            group.remove()
            raise HostError(f"cannot make the control group {name}: {error}") from error
        return group


def _write_limits(directories: dict[str, Path], limits: Limits) -> None:
    if limits.memory is not None and (memory := directories.get("memory")):
        _write(memory / "memory.limit_in_bytes", limits.memory)
        # Absent where the kernel does not account for swap; then there is none to bypass through.
        if (with_swap := memory / "memory.memsw.limit_in_bytes").exists():
            _write(with_swap, limits.memory)
    if limits.cpus is not None and (cpu := directories.get("cpu")):
        _write(cpu / "cpu.cfs_period_us", PERIOD)
        _write(cpu / "cpu.cfs_quota_us", max(1000, round(limits.cpus * PERIOD)))
    if limits.pids is not None and (pids := directories.get("pids")):
        _write(pids / "pids.max", limits.pids)


def _write(file: Path, value: int) -> None:
    file.write_text(str(value), encoding="ascii")


@dataclass(frozen=True, slots=True)
class Group1:
    """One container's directories."""

    by_controller: dict[str, Path]
    parents: dict[str, Path]
    descriptor: int = -1

    @property
    def directories(self) -> tuple[Path, ...]:
        """One per controller."""
        return tuple(self.by_controller.values())

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Move the calling thread in, and back out afterwards."""
        thread = str(threading.get_native_id())
        try:
            for directory in self.directories:
                (directory / "tasks").write_text(thread, encoding="ascii")
            yield
        finally:
            for parent in self.parents.values():
                (parent / "tasks").write_text(thread, encoding="ascii")

    def memory_charged(self) -> int | None:
        """Bytes charged now, kernel memory included."""
        memory = self.by_controller.get("memory")
        return read_number(memory / "memory.usage_in_bytes") if memory else None

    def out_of_memory_kills(self) -> int:
        """From memory.oom_control."""
        memory = self.by_controller.get("memory")
        return (read_number(memory / "memory.oom_control", "oom_kill") or 0) if memory else 0

    def processes(self) -> tuple[int, ...]:
        """Pids in any of the directories."""
        return tuple(sorted({pid for path in self.directories for pid in read_pids(path / "cgroup.procs")}))

    def remove(self) -> None:
        """Remove every directory."""
        for directory in self.directories:
            remove_directory(directory)
