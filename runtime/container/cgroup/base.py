"""What a container needs of control groups, whichever version the host has."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pybench.runtime.container.cgroup.limits import DeviceLimits, HugePageLimit, Limits
from pybench.runtime.container.cgroup.readings import KernelMemory, Pressure, Usage, read_pids
from pybench.runtime.errors import HostError, LeftoverError

__all__ = [
    "KILL_PATIENCE",
    "REMOVAL_PATIENCE",
    "Controller",
    "DeviceLimits",
    "Group",
    "HugePageLimit",
    "Limits",
    "Pressure",
    "Usage",
    "directories_by_file",
    "if_vanished",
    "kill_and_wait",
    "processes_beneath",
    "read_pids",
    "remove_directory",
]

KILL_PATIENCE = 20.0
"""Seconds until what was killed has ended, which each process does by itself, when it gets its turn."""
REMOVAL_PATIENCE = 2.0
"""Seconds until a group must be empty: a dying process leaves it a moment after it is reaped."""
FREEZE_PATIENCE = 5.0
"""Seconds until every thread must have stopped; one in an uninterruptible wait stops after it."""
_AWAITED_AT_ONCE = 256
"""Descriptors held open while processes die: a process may have 1024 by default."""


class Group(Protocol):
    """One container's control group."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory it consists of: one on v2, one per hierarchy on v1; enough for `open_group`."""
        ...

    @property
    def descriptor(self) -> int:
        """For CLONE_INTO_CGROUP; -1 where the spawning thread has to be inside instead."""
        ...

    def spawning(self) -> AbstractContextManager[None]:
        """Within it, a child that this thread clones starts inside the group.

        Raises:
            HostError: the group vanished, or is frozen and would stop this thread.
        """
        ...

    def memory_charged(self) -> int | None:
        """Bytes charged now, or None without a memory controller."""
        ...

    def kernel_memory(self) -> KernelMemory | None:
        """What the kernel itself keeps for it, or None where that is not counted."""
        ...

    def out_of_memory_kills(self) -> int:
        """How many processes the limit has killed."""
        ...

    def usage(self) -> Usage:
        """What it uses and has used."""
        ...

    def pressure(self) -> Pressure | None:
        """How long it had to wait for resources; None where the kernel does not say so per group."""
        ...

    def processes(self) -> tuple[int, ...]:
        """Pids inside, groups beneath included, in the reader's pid namespace."""
        ...

    def freeze(self) -> None:
        """Stop every thread inside, and return once they have stopped. Idempotent.

        Raises:
            HostError: this host cannot, or a thread did not stop in time; then all run again.
        """
        ...

    def thaw(self) -> None:
        """Let them run again. Idempotent."""
        ...

    def kill(self) -> None:
        """End every process inside, so that none can fork past it, and return once they are gone.

        Raises:
            LeftoverError: one did not end in time.
        """
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
        """Make a group with those of the limits that can be held.

        Raises:
            HostError: there is a group of that name, or the kernel refused a limit; nothing was left.
        """
        ...

    def directories(self, name: str, limits: Limits | None = None) -> tuple[Path, ...]:
        """What `create` will make, so that it can be journalled first; without limits, the most it could."""
        ...


def processes_beneath(directory: Path) -> tuple[int, ...]:
    """Pids in a group and in the groups beneath it, in order."""
    pids: set[int] = set()
    for group in _with_groups_beneath(directory):
        pids.update(read_pids(group / "cgroup.procs"))
    return tuple(sorted(pids))


def _with_groups_beneath(directory: Path) -> list[Path]:
    """The group and all beneath it, the deepest last."""
    groups = [directory]
    for group in groups:
        try:
            # A directory has a link of its own, one from above and one from each one in it: most
            # groups have none beneath, and their some fifty files need not be listed.
            if group.stat().st_nlink > 2:  # noqa: PLR2004
                groups += [Path(entry) for entry in os.scandir(group) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
    return groups


def directories_by_file(group: Group) -> dict[str, Path]:
    """File → the directory of the group that has it.

    Raises:
        HostError: the group vanished.
    """
    where: dict[str, Path] = {}
    for directory in group.directories:
        try:
            names = os.listdir(directory)  # noqa: PTH208 - names are wanted, not paths
        except OSError as error:
            raise HostError(
                f"cannot read the control group {directory}: {error.strerror}", if_vanished(directory)
            ) from error
        where.update(dict.fromkeys(names, directory))
    return where


def if_vanished(directory: Path) -> str:
    """A hint for an error, empty if the group is there."""
    if directory.is_dir():
        return ""
    return "it vanished: someone moved its processes out and removed it; delete the container"


def remove_directory(directory: Path) -> None:
    """Remove a group's directory and what was made beneath it, waiting for the last process to leave.

    Raises:
        LeftoverError: something is still inside.
    """
    deadline = time.monotonic() + REMOVAL_PATIENCE
    for group in reversed(_with_groups_beneath(directory)):
        _remove_one(group, deadline)


def _remove_one(directory: Path, deadline: float) -> None:
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


def kill_and_wait(
    processes: Callable[[], tuple[int, ...]], still: Callable[[], AbstractContextManager[None]]
) -> None:
    """SIGKILL everything while it is held still, then wait until it is gone; bounded by KILL_PATIENCE.

    Through pidfds: what is signalled is what is awaited, and the end of each is pushed.

    Raises:
        LeftoverError: something did not end.
    """
    deadline = time.monotonic() + KILL_PATIENCE
    while processes():
        if time.monotonic() > deadline:
            raise LeftoverError(
                f"processes {processes()} do not end", "one may be in an uninterruptible wait"
            )
        with contextlib.ExitStack() as stack:
            with still():
                dying = _kill_all(processes(), stack)
            _await_ends(dying, deadline)


def _kill_all(pids: tuple[int, ...], stack: contextlib.ExitStack) -> list[int]:
    """The first of them as descriptors that the stack closes, to wait for."""
    dying: list[int] = []
    for pid in pids:
        # EINVAL: 0, as which a process shows that is not in our pid namespace.
        with contextlib.suppress(ProcessLookupError, OSError):
            pidfd = os.pidfd_open(pid)
            if len(dying) < _AWAITED_AT_ONCE:
                dying.append(pidfd)
                stack.callback(os.close, pidfd)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                if pidfd not in dying:
                    os.close(pidfd)
    return dying


def _await_ends(pidfds: list[int], deadline: float) -> None:
    poller = select.poll()
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for pidfd, _ in poller.poll(remaining * 1000):
            poller.unregister(pidfd)
            left -= 1
    if not pidfds:
        time.sleep(0.001)
