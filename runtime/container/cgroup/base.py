"""What a container needs of control groups, whichever version the host has."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pybench.runtime.errors import LeftoverError

REMOVAL_PATIENCE = 2.0
"""Seconds until a group must be empty: a dying process leaves it a moment after it is reaped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one group may use; None means no limit."""

    memory: int | None = None
    """Bytes, with no swap beyond them."""
    cpus: float | None = None
    pids: int | None = None


class Group(Protocol):
    """One container's control group."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory it consists of: one on v2, one per controller on v1."""
        ...

    @property
    def descriptor(self) -> int:
        """For CLONE_INTO_CGROUP; -1 where the spawning thread has to be inside instead."""
        ...

    def spawning(self) -> AbstractContextManager[None]:
        """Within it, a child that this thread clones starts inside the group."""
        ...

    def memory_charged(self) -> int | None:
        """Bytes charged now, or None without a memory controller."""
        ...

    def out_of_memory_kills(self) -> int:
        """How many processes the limit has killed."""
        ...

    def processes(self) -> tuple[int, ...]:
        """Pids inside, in the reader's pid namespace."""
        ...

    def remove(self) -> None:
        """Remove the empty group and verify it. Idempotent.

        Raises:
            LeftoverError: it is not empty.
        """
        ...


class Controller(Protocol):
    """A way to make groups on this host."""

    @property
    def label(self) -> str:
        """`v1`, `v2` or `none`: recorded with every sample."""
        ...

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Names of the limits asked for that cannot be held here."""
        ...

    def create(self, name: str, limits: Limits) -> Group:
        """Make a group with these limits.

        Raises:
            HostError: the kernel refused a limit.
        """
        ...

    def directories(self, name: str) -> tuple[Path, ...]:
        """What `create` will make, so that it can be journalled first."""
        ...


def read_pids(file: Path) -> tuple[int, ...]:
    """Pids of a cgroup.procs file; none if the group is gone."""
    try:
        return tuple(int(line) for line in file.read_text(encoding="ascii").split())
    except FileNotFoundError:
        return ()


def read_number(file: Path, key: str | None = None) -> int | None:
    """A single number, or the value of a key in a flat keyed file."""
    try:
        text = file.read_text(encoding="ascii")
    except OSError:
        return None
    if key is None:
        return int(text) if text.strip().isdigit() else None
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def remove_directory(directory: Path) -> None:
    """Remove one group's directory, waiting for its last process to leave.

    Raises:
        LeftoverError: something is still inside.
    """
    deadline = time.monotonic() + REMOVAL_PATIENCE
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                inside = read_pids(directory / "cgroup.procs")
                raise LeftoverError(
                    f"cannot remove the control group {directory}: {error.strerror}",
                    f"processes inside: {', '.join(map(str, inside)) or 'none'}",
                ) from error
            time.sleep(0.002)
        else:
            return


@contextlib.contextmanager
def open_directory(directory: Path) -> Iterator[int]:
    """A descriptor of a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
