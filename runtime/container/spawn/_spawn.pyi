"""The C extension that starts programs; all instants are CLOCK_MONOTONIC nanoseconds."""

from collections.abc import Callable
from typing import final

SLOTS: int
WAIT_FOR_MAPS: int
HIDE_EXECUTABLE: int
IDENTITY: int
DEATH_SIGNAL: int
SESSION: int
FILESYSTEM: int
TREE: int
ATTACH: int
SLOT_ATTRIBUTES: int
ATTRIBUTES: int
MASK: int
MASK_FROM: int
MOUNT: int
READ_ONLY: int
DIRECTORY: int
SYMLINK: int
PIVOT: int
WORKING_DIRECTORY: int
NODE: int
WRITE: int
HOST_NAME: int
LIMIT: int
LOOPBACK: int
KEYRING: int
BOUNDING: int
CAPABILITIES: int
NO_NEW_PRIVILEGES: int
SCOPES: int
FILTER: int
FILE_MODE_MASK: int
DUPLICATE: int
CLOSE_FROM: int
JOIN: int
CONSOLE: int
PROGRAM: int
WAIT_FOR_START: int
HOOK: int
CALL: int

@final
class Program:
    """Steps, path, arguments and environment, ready to be spawned any number of times."""
    def __init__(
        self,
        steps: tuple[tuple[int | bytes, ...], ...],
        path: bytes,
        arguments: tuple[bytes, ...],
        environment: tuple[bytes, ...],
    ) -> None: ...

def spawn(
    program: Program,
    *,
    flags: int,
    descriptors: tuple[int, ...],
    uid_map: str | None,
    gid_map: str | None,
    time_offsets: str | None,
    deny_setgroups: bool,
    map_commands: tuple[tuple[bytes, ...], ...],
    cgroup: int,
    watched: tuple[int, ...],
    awaited: int,
    cancel: int,
    timeout: int,
    listener: int,
    supervisor: int,
    detached: bool = False,
    on_clone: Callable[[int], None] | None = None,
    processes: int = -1,
) -> tuple[int, int, tuple[int, int, int, int, int], tuple[int, ...], int, int, str]:
    """Clone, write the id maps, wait for execve and for the first `awaited` watched descriptors.

    `timeout` is in nanoseconds from the request; `cgroup` is a descriptor or -1;
    so is `cancel`, which ends the wait when it becomes readable. The listener of the child's
    filter, if it makes one, replaces the descriptor `listener` and is added to the epoll descriptor
    `supervisor` before any wait for a watched one; both are -1 where there is none.

    A `detached` child has a copy of this process's memory and may outlive it; for such a child the wait
    also ends when the awaited descriptors have spoken before execve. `on_clone` is called with the pid
    while the child waits for the go-ahead; what it raises is raised here, and the child is gone then.
    `processes` is a descriptor of /proc, needed wherever maps or offsets are to be written there.

    Returns:
        pid, pidfd, the instants requested_at, cloned_at, maps_seen_at (0: it waited for none), execve_at and
        executed_at, watched_at (0: did not speak), failed_step (-1 none, number of steps: execve, -2 the
        parent's own part, -3 killed or timed out before execve), errno, failed call.
        After a failure the child has been reaped and pidfd is -1.
    """

def pipe_latencies(rounds: int) -> tuple[int, ...]:
    """Nanoseconds from a thread's push into a pipe to this thread's wake-up, once per round."""
