"""A user namespace for as long as a mount with its ids is being made."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from pybench.runtime.container import system_calls
from pybench.runtime.container.identity import IdentityMap
from pybench.runtime.container.spawn.spawner import Program, Spawner


@contextlib.contextmanager
def user_namespace(spawner: Spawner, identity: IdentityMap) -> Iterator[int]:
    """A user namespace with the container's map, for as long as an id-mapped mount is being made.

    mount_setattr wants a namespace's descriptor and copies its map. A namespace needs a process
    to be made: a stopped `sleep`, which is ended again at once.
    """
    program = Program.compile((), ("/bin/sleep", "60"), {}, system_calls.CLONE_NEWUSER)
    spawned = spawner.spawn(program, descriptors=(), watched=(), awaited=0, timeout=10.0, identity=identity)
    try:
        namespace = os.open(f"/proc/{spawned.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        signal.pidfd_send_signal(spawned.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, spawned.pidfd, os.WEXITED)
        os.close(spawned.pidfd)
    try:
        yield namespace
    finally:
        os.close(namespace)
