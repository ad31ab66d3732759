"""Ending what a container, or a harness that was killed, may have left running."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from pybench.runtime.container.cgroup.base import REMOVAL_PATIENCE
from pybench.runtime.container.cgroup.detect import open_group
from pybench.runtime.container.system_calls import MNT_DETACH, umount
from pybench.runtime.errors import LeftoverError
from pybench.runtime.journal import state_directory

POLL_INTERVAL = 0.002
"""Seconds between looks at what is dying; never within a measured span."""
KILL_PATIENCE = REMOVAL_PATIENCE


def kill_processes(pids: tuple[int, ...]) -> None:
    """SIGKILL, through a pidfd so that a reused pid is never hit by more than this instant's chance."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def remove_cgroup(details: Mapping[str, str | int]) -> str:
    """Kill what is inside a journalled control group and remove it.

    Raises:
        LeftoverError: it could not be emptied.
    """
    directory = Path(str(details["path"]))
    if not directory.is_dir():
        return ""
    group = open_group((directory,))
    group.kill()
    group.remove()
    return f"removed control group {directory}"


def remove_mount_point(details: Mapping[str, str | int]) -> str:
    """Remove a journalled directory that was only a mount point."""
    directory = Path(str(details["path"]))
    try:
        directory.rmdir()
    except FileNotFoundError:
        return ""
    return f"removed directory {directory}"


def remove_mount(details: Mapping[str, str | int]) -> str:
    """Unmount what is on a journalled directory below the state directory, and remove it."""
    directory = Path(str(details["path"]))
    if not directory.is_relative_to(state_directory()):
        raise LeftoverError(f"the journal names {directory}, which is not below {state_directory()}")
    if not directory.exists():
        return ""
    while directory.is_mount():
        umount(str(directory), MNT_DETACH)
    directory.rmdir()
    return f"unmounted and removed {directory}"


def descendants(pid: int) -> tuple[int, ...]:
    """A process and everything below it."""
    import psutil  # noqa: PLC0415 - slow to import

    try:
        process = psutil.Process(pid)
        return (pid, *(child.pid for child in process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return ()


def kill_session(session: int) -> None:
    """Kill every process of a session, and those that they start meanwhile.

    Raises:
        LeftoverError: some survive.
    """
    deadline = time.monotonic() + KILL_PATIENCE
    while members := session_members(session):
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, members))
            raise LeftoverError(f"processes {pids} of session {session} survived SIGKILL")
        kill_processes(members)
        time.sleep(POLL_INTERVAL)


def session_members(session: int) -> tuple[int, ...]:
    """Every process of a session that lives; one that is only still to be reaped does not."""
    import psutil  # noqa: PLC0415 - slow to import

    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session and _lives(pid):
                members.append(pid)
    return tuple(members)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def end_session(details: Mapping[str, str | int]) -> str:
    """Kill what is left of a journalled session of a bare process.

    The session's number is its first process's pid. It cannot be another's by now as long as any
    member lives, and `started` guards against one that was reused after all had ended.
    """
    session, started = int(details["session"]), int(details["started"])
    pids = tuple(
        pid for pid in session_members(session) if (at := start_ticks(pid)) is not None and at >= started
    )
    if not pids:
        return ""
    kill_processes(pids)
    return f"killed {len(pids)} {'process' if len(pids) == 1 else 'processes'} of session {session}"


def start_ticks(pid: int) -> int | None:
    """Clock ticks after boot at which a process started (proc(5), stat field 22); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
