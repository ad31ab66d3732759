"""What the checks of version 2 in a guest share: children in groups, groups at a path, the guest's disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.placement import placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import limits_of
from pybench.runtime.container.spawn import _spawn
from pybench.runtime.container.specification.resources import DeviceRule, Resources
from pybench.runtime.errors import HostError

GROUPS = Path("/sys/fs/cgroup")
MEBIBYTE = 2**20
Facts = dict[str, object]


class Child:
    """A shell command, cloned into a group."""

    def __init__(self, group: Group, script: str, flags: int = 0) -> None:
        program = _spawn.Program((), b"/bin/sh", (b"sh", b"-c", script.encode()), ())
        cancel = os.eventfd(0)
        with group.spawning():
            self.pid, self.pidfd, *_, failed, number, call = _spawn.spawn(
                program,
                flags=flags,
                descriptors=(),
                uid_map=None,
                gid_map=None,
                time_offsets=None,
                deny_setgroups=False,
                map_commands=(),
                cgroup=group.descriptor,
                watched=(),
                awaited=0,
                cancel=cancel,
                timeout=10**10,
                listener=-1,
                supervisor=-1,
            )
        os.close(cancel)
        if failed != -1:
            raise OSError(number, call)

    def wait(self) -> int:
        """Exit code, or minus the signal."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert ended is not None
        os.close(self.pidfd)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def reap() -> None:
    """Collect what has ended; orphans are this process's, too."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when it holds, or when it has not for long: whoever asked sees which."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def disk() -> str:
    """The guest's disk as MAJOR:MINOR."""
    file = Path("/sys/block/nvme0n1/dev")
    wait_until(file.exists)
    return file.read_text(encoding="ascii").strip()


def forked_into(group: Group, function: Callable[[], None]) -> int:
    """A copy of this process that enters a group and runs a function; its pid."""
    pid = os.fork()
    if pid == 0:
        (group.directories[0] / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        function()
        os._exit(0)
    return pid


@contextlib.contextmanager
def placed(resources: Resources, path: str, devices: tuple[DeviceRule, ...] | None = None) -> Iterator[Group]:
    """A group at the path of a specification, emptied and removed afterwards."""
    group = placement_of(path, "unused").create(limits_of(resources), devices)
    try:
        yield group
    finally:
        group.kill()
        reap()
        group.remove()
        remove_placed(group.directories)


def refusal(function: Callable[[], object]) -> str:
    """How it is refused."""
    try:
        function()
    except HostError as error:
        return error.message
    return ""
