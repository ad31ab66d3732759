"""What a program of a bare target is started in: its root directory, its user, and its file's name there."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InputError
from pybench.harness.targets.commands import check_command
from pybench.runtime.container.spawn.process_steps import SystemCall
from pybench.runtime.container.spawn.steps import Identity, Step, WorkingDirectory

if TYPE_CHECKING:
    from pybench.runtime.container.image.users import User
    from pybench.runtime.container.spawn.spawner import Spawner

LOOPBACK: Final = "127.0.0.1"
_FIRST_SAFE_DESCRIPTOR: Final = 64
"""Above every number that a program finds its own descriptors under."""
_CHROOT: Final = 161
"""The number of chroot(2) on x86-64."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the workload itself and of every command beside it."""

    rootfs: Path
    """The image's files, as the host finds them."""
    address: str
    """Where the host reaches its ports; empty where it does not."""
    root: Path | None = None
    """Its root directory, on the stage; None: the host's."""
    user: User | None = None
    """None: the harness's own."""
    disk: str = ""
    """A directory of the host that it may fill; empty where there is none."""

    def namespace(self, spawner: Spawner) -> int | None:
        """The mount namespace that it is cloned in, as a descriptor; None: the spawning thread's."""
        return spawner.stage.bare if self.root is not None and spawner.stage is not None else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What the child does to get there."""
        steps: list[Step] = []
        if self.root is not None:
            steps.append(SystemCall("chroot", _CHROOT, (bytes(self.root),)))
            steps.append(WorkingDirectory("/"))
        if self.user is not None:
            steps.append(Identity(self.user.uid, self.user.gid, self.user.groups))
        return tuple(steps)

    @contextlib.contextmanager
    def program(self, command: Sequence[str]) -> Iterator[str]:
        """The path by which the child executes a command of the image.

        Raises:
            InputError: it is not in the image, or cannot be executed so.
        """
        path = check_command(self.rootfs, command)
        if self.root is not None:
            yield command[0]
        elif self.user is None:
            yield str(path)
        else:
            with _held(path, command[0]) as held:
                yield held


@contextlib.contextmanager
def _held(path: Path, name: str) -> Iterator[str]:
    """By a descriptor, for the user may not get into the directory that holds the images.

    It is closed by execve, so an interpreter would not find its script.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.pread(descriptor, 2, 0) == b"#!":
            raise InputError(
                f"a bare process cannot run the script {name} as another user",
                "name its interpreter as the command, or take the target chroot",
            )
        held = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_SAFE_DESCRIPTOR)
    finally:
        os.close(descriptor)
    try:
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)
