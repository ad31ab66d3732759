"""The thread that starts every child, and the programs it starts.

One thread, because a child inherits its spawning thread's mount namespace and v1 control groups,
and because the death signal of a child fires when the *thread* that cloned it ends (prctl(2)).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from pybench.runtime.container.identity import IdentityMap
from pybench.runtime.container.spawn import _spawn
from pybench.runtime.container.spawn.process_steps import FindProgram
from pybench.runtime.container.spawn.steps import Step
from pybench.runtime.container.stage import Stage
from pybench.runtime.container.supervisor import Supervisor
from pybench.runtime.errors import HostError, InstanceError
from pybench.runtime.journal import Journal
from pybench.runtime.output import OutputCollector

Result = TypeVar("Result")

KILLED_BEFORE_EXEC = -3
FAILED_IN_PARENT = -2

STDIN_SLOT, OUTPUT_SLOT, MARK_SLOT, FIRST_FREE_SLOT = 0, 1, 2, 3
"""The descriptors every launch passes; steps may fill the slots from the last one on."""
LAST_SLOT = _spawn.SLOTS - 1

CALIBRATION_ROUNDS = 64


@functools.cache
def pipe_resolution() -> float:
    """Seconds that a pushed mark may take to be seen: the 90th percentile, measured once per process.

    To be called before anything is started: it makes a thread, which would count against the limit of a
    control group in which the spawning thread is at that moment.
    """
    latencies = sorted(_spawn.pipe_latencies(CALIBRATION_ROUNDS))
    return latencies[len(latencies) * 9 // 10] / 1e9


@dataclass(frozen=True, slots=True)
class Program:
    """Steps and command, compiled once and spawned any number of times."""

    steps: tuple[Step, ...]
    path: str
    compiled: _spawn.Program
    namespaces: int
    """CLONE_NEW… flags."""

    @classmethod
    def compile(
        cls,
        steps: Sequence[Step],
        command: Sequence[str],
        environment: Mapping[str, str],
        namespaces: int,
        *,
        path: str = "",
    ) -> Program:
        """`path` is the file to execute if it is not the command's first word."""
        path = path or command[0]
        compiled = _spawn.Program(
            tuple(step.encode() for step in steps),
            os.fsencode(path),
            tuple(os.fsencode(word) for word in command),
            tuple(os.fsencode(f"{name}={value}") for name, value in environment.items()),
        )
        return cls(tuple(steps), path, compiled, namespaces)


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child that has executed its program or waits to be started; instants in ns of CLOCK_MONOTONIC."""

    pid: int
    pidfd: int
    requested_at: int
    cloned_at: int
    """The child's first instruction, in its namespaces. Read from memory that it shares, as the next two."""
    maps_seen_at: int
    """It was told that its id maps are written; 0 if it has none."""
    execve_at: int
    """Just before execve: the sandbox is complete; 0 if it waits."""
    executed_at: int
    """execve succeeded, seen as a close-on-exec descriptor closing."""
    watched_at: tuple[int, ...]
    """First byte on each watched descriptor; 0 where none came."""


class Spawner:
    """Owns the spawning thread and its stage, and the threads that serve instances.

    One of those empties their pipes, the other answers the system calls that their filters hand over.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.output = OutputCollector()
        self.supervisor = Supervisor()
        self.stage: Stage | None = None
        """None where this user may not make a mount namespace without a user namespace."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pybench-spawn")
        self._cancel = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self.output.__enter__()
        self.supervisor.__enter__()
        if os.geteuid() == 0:
            try:
                self.stage = self.call(lambda: Stage(self.journal))
            except HostError:
                self.stage = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stage is not None:
            self.call(self.stage.remove)
        self._thread.shutdown()
        self.output.__exit__(kind, error, trace)
        os.close(self._cancel)
        os.close(self._processes)
        self.supervisor.__exit__(kind, error, trace)

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the spawning thread.

        If this thread is interrupted meanwhile, a wait in `spawn` is cut short, the function is
        waited for, and the interruption goes on; so whatever the function makes it must also
        write down where its owner finds it.
        """
        future = self._thread.submit(function)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                os.eventfd_write(self._cancel, 1)
                wait((future,))
                os.eventfd_read(self._cancel)
            raise

    @property
    def cancellation(self) -> int:
        """A descriptor that becomes readable when the current call is not wanted any more."""
        return self._cancel

    def spawn(
        self,
        program: Program,
        *,
        descriptors: tuple[int, ...],
        watched: tuple[int, ...],
        awaited: int,
        timeout: float,
        identity: IdentityMap | None = None,
        time_offsets: str | None = None,
        cgroup: int = -1,
        listener: int = -1,
        namespace: int | None = None,
        detached: bool = False,
        on_clone: Callable[[int], None] | None = None,
    ) -> Spawned:
        """Start a program; call it in the spawning thread (through `call`).

        Returns once the first `awaited` of the watched descriptors have spoken, the child has
        ended, or `timeout` seconds have passed since the request. The listener of a filter among the
        steps takes the place of the descriptor `listener`, for the supervisor to answer.

        A child is cloned in the mount `namespace`, a descriptor, if one of the stage's is given.

        A `detached` child has a copy of this process's memory, so it may join namespaces, wait to be
        started, and outlive this process. `on_clone` is called with the pid before the child does
        anything that needs its id maps.

        Raises:
            InstanceError: it did not get as far as executing its program, or as waiting to be started;
                nothing is left of it. Whatever `on_clone` raises is raised again.
        """
        with (
            self.stage.entered(namespace)
            if self.stage and namespace is not None
            else contextlib.nullcontext()
        ):
            (pid, pidfd, instants, watched_at, failed, number, call) = _spawn.spawn(
                program.compiled,
                flags=program.namespaces,
                descriptors=descriptors,
                uid_map=identity.uid_map if identity else None,
                gid_map=identity.gid_map if identity else None,
                time_offsets=time_offsets,
                deny_setgroups=identity.deny_setgroups if identity else False,
                map_commands=identity.map_commands if identity else (),
                cgroup=cgroup,
                watched=watched,
                awaited=awaited,
                cancel=self._cancel,
                timeout=round(timeout * 1e9),
                listener=listener,
                supervisor=self.supervisor.descriptor,
                detached=detached,
                on_clone=on_clone,
                processes=self._processes,
            )
        if failed != -1:
            raise spawn_error(program, failed, number, call)
        return Spawned(pid, pidfd, *instants, watched_at)


def spawn_error(program: Program, failed: int, number: int, call: str) -> InstanceError:
    """What kept a child from executing its program, in words: the step by its own description."""
    reason = os.strerror(number)
    if failed == FAILED_IN_PARENT:
        hint = "raise /proc/sys/user/max_*_namespaces" if number == errno.ENOSPC else ""
        if number == errno.EPERM and call == "clone3":
            hint = "user namespaces may be switched off; `pybench doctor` tells"
        return InstanceError(f"{call} failed: {reason}", hint)
    if failed == KILLED_BEFORE_EXEC:
        if number == errno.ETIMEDOUT:
            return InstanceError("the sandbox was not complete in time", "raise schedule.ready_timeout")
        return InstanceError(
            "it was killed before it could execute its command", "a memory limit may be too low"
        )
    if failed == len(program.steps):
        return InstanceError(f"execve {program.path} failed: {reason}", _EXECVE_HINTS.get(number, ""))
    step = program.steps[failed]
    if isinstance(step, FindProgram):
        return InstanceError(f"{step.describe()} failed: {reason}", _EXECVE_HINTS.get(number, ""))
    return InstanceError(f"{step.describe()} failed: {reason}", "`pybench doctor` tells what this host lacks")


_EXECVE_HINTS = {
    errno.ENOENT: "the command, or the interpreter or loader it names, is not in the image",
    errno.EACCES: "it is not an executable file",
    errno.EISDIR: "it is a directory",
    errno.ENOEXEC: "it is not a program, or one for another processor",
}
