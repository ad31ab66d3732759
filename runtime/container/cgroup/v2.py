"""Version 2: one hierarchy; children are cloned straight into their group (CLONE_INTO_CGROUP)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container.cgroup.base import (
    Group,
    Limits,
    read_number,
    read_pids,
    remove_directory,
)
from pybench.runtime.errors import HostError

PERIOD = 100_000
"""Microseconds: the kernel's default for cpu.max."""


@dataclass(frozen=True, slots=True)
class Version2:
    """Makes groups below a parent whose controllers are delegated to its children."""

    parent: Path
    controllers: frozenset[str]
    """Enabled for the parent's children."""
    label: str = "v2"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Names of the limits asked for whose controller is not delegated."""
        wanted = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
        missing = (
            name for name, value in wanted.items() if value is not None and name not in self.controllers
        )
        return tuple(missing)

    def directories(self, name: str) -> tuple[Path, ...]:
        """The one directory."""
        return (self.parent / name,)

    def create(self, name: str, limits: Limits) -> Group:
        """Make the directory and write the limits; nothing is left if one is refused."""
        directory = self.parent / name
        try:
            directory.mkdir()
            try:
                self._write_limits(directory, limits)
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                directory.rmdir()
                raise
        except OSError as error:
            raise HostError(f"cannot make the control group {directory}: {error}") from error
        return Group2(directory, descriptor)

    def _write_limits(self, directory: Path, limits: Limits) -> None:
        settings: dict[str, str] = {}
        if limits.memory is not None and "memory" in self.controllers:
            settings["memory.max"] = str(limits.memory)
            settings["memory.swap.max"] = "0"
        if limits.cpus is not None and "cpu" in self.controllers:
            settings["cpu.max"] = f"{max(1000, round(limits.cpus * PERIOD))} {PERIOD}"
        if limits.pids is not None and "pids" in self.controllers:
            settings["pids.max"] = str(limits.pids)
        for name, value in settings.items():
            # memory.swap.max is absent where the kernel does not account for swap.
            if name != "memory.swap.max" or (directory / name).exists():
                (directory / name).write_text(value, encoding="ascii")


@dataclass(slots=True)
class Group2:
    """One container's directory."""

    directory: Path
    descriptor: int

    @property
    def directories(self) -> tuple[Path, ...]:
        """The one directory."""
        return (self.directory,)

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Nothing to do: clone3 puts the child inside through the descriptor."""
        yield

    def memory_charged(self) -> int | None:
        """Bytes charged now, kernel memory included."""
        return read_number(self.directory / "memory.current")

    def out_of_memory_kills(self) -> int:
        """From memory.events."""
        return read_number(self.directory / "memory.events", "oom_kill") or 0

    def processes(self) -> tuple[int, ...]:
        """Pids inside."""
        return read_pids(self.directory / "cgroup.procs")

    def remove(self) -> None:
        """Close the descriptor and remove the directory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        remove_directory(self.directory)
