"""A running program started by the spawner: launched until ready, then waited for, stopped, reaped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from pybench.runtime.container import workload_clock
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.defaults import offsets_text
from pybench.runtime.container.identity import IdentityMap
from pybench.runtime.container.spawn.spawner import Program, Spawned, Spawner, pipe_resolution
from pybench.runtime.container.specification.linux import TimeOffset
from pybench.runtime.container.workload_clock import WorkloadClock
from pybench.runtime.errors import InstanceError
from pybench.runtime.marks import Mark
from pybench.runtime.output import READ_BYTES, Tail, drain

CLOCK_RESOLUTION = time.get_clock_info("monotonic").resolution
MARK_DESCRIPTOR = 3
"""The descriptor a marking command finds in $PYBENCH_MARK_FD."""
KILL_PATIENCE = 10.0
"""Seconds until a killed process must be gone: the kernel may still be writing its memory back."""
END_PATIENCE = 1.0
"""Seconds for a program that has closed its output to end."""
NO_OFFSETS: Final[Mapping[str, TimeOffset]] = MappingProxyType({})
"""Of clocks that show what the host's do."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """When the instance counts as ready."""

    marking: bool
    """The command pushes marks, the first as its first instruction."""
    line: str | None
    """Ready when it prints a line that contains this; None: ready with its first instruction."""


@dataclass(slots=True)
class Instance:
    """One running program; the spawner's output thread empties its pipe."""

    spawner: Spawner
    pid: int
    pidfd: int
    output_pipe: int
    marks: list[Mark] = field(default_factory=list)
    tail: Tail = field(default_factory=Tail)
    status: int | None = None
    """Exit code, or minus the signal that ended it; None while it runs."""
    _empties_pipe: bool = False
    """Whoever waits for its end empties its pipe, instead of the output thread."""

    def take_output(self) -> None:
        """From now on empty the pipe while waiting for the end; to be called before a clock starts.

        A program that ends closes its pipe first. The output thread would wake up for that, and this one,
        told of the end a moment later, would have to wait for the interpreter: a third of a bare process's
        teardown, more or less of it by which processor that thread happens to be on.
        """
        self.spawner.output.remove(self.output_pipe)
        self._empties_pipe = True

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end and reap it; false if it still runs after `timeout` seconds."""
        if self.status is None:
            if not self._await_end(None if timeout is None else time.monotonic() + timeout):
                return False
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            if result is None:
                return False
            self.status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        return True

    def _await_end(self, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if self._empties_pipe:
            poll.register(self.output_pipe, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {descriptor for descriptor, _ in poll.poll(left)}
            if self.pidfd in ready or not ready:
                return bool(ready)
            if deadline is not None and time.monotonic() > deadline:
                return False
            if not drain(self.output_pipe, self.tail):
                poll.unregister(self.output_pipe)
                self._empties_pipe = False

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def end(self, timeout: float) -> None:
        """Ask it to end, wait, kill it, reap it.

        Raises:
            InstanceError: it survived SIGKILL.
        """
        self.send_signal(signal.SIGTERM)
        if not self.wait(timeout):
            self.kill()

    def kill(self) -> None:
        """Kill and reap it; its pid namespace, if it has one, dies with it.

        Raises:
            InstanceError: it survived.
        """
        self.send_signal(signal.SIGKILL)
        if not self.wait(KILL_PATIENCE):
            raise InstanceError(f"process {self.pid} survived SIGKILL", "it hangs inside the kernel")

    def release(self) -> None:
        """Close the descriptors; idempotent."""
        if self.pidfd >= 0:
            if self._empties_pipe:
                drain(self.output_pipe, self.tail)
            self.spawner.output.remove(self.output_pipe)
            os.close(self.output_pipe)
            os.close(self.pidfd)
            self.pidfd = self.output_pipe = -1


def launch(
    spawner: Spawner,
    program: Program,
    readiness: Readiness,
    timeout: float,
    *,
    identity: IdentityMap | None = None,
    clocks: Mapping[str, TimeOffset] = NO_OFFSETS,
    group: Group | None = None,
    listener: int = -1,
    namespace: int | None = None,
) -> Instance:
    """Start a program and return when it is ready; call it in the spawning thread.

    Its clocks show what the host's do, plus `clocks` where it has a time namespace.

    Raises:
        InstanceError: it failed or was not ready in time; nothing is left of it.
    """
    with contextlib.ExitStack() as readers:
        with contextlib.ExitStack() as pipes:
            stdin = _open(pipes, os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            output, output_end = _pipe(pipes, pipes)
            mark, mark_end = _pipe(readers, pipes)
            os.set_blocking(output, False)
            os.set_blocking(mark, False)
            watched = (mark, output) if readiness.marking else (output,)
            spawned = spawner.spawn(
                program,
                descriptors=(stdin, output_end, mark_end),
                watched=watched,
                awaited=int(readiness.marking) + int(readiness.line is not None),
                timeout=timeout,
                identity=identity,
                time_offsets=offsets_text(clocks),
                cgroup=group.descriptor if group else -1,
                listener=listener,
                namespace=namespace,
            )
            instance = Instance(spawner, spawned.pid, spawned.pidfd, os.dup(output))
        try:
            offset = clocks["monotonic"].in_nanoseconds if "monotonic" in clocks else 0
            _observe(instance, spawned, readiness, timeout, (mark, offset))
        except BaseException:
            instance.kill()
            spawner.output.remove(instance.output_pipe)
            os.close(instance.output_pipe)
            os.close(instance.pidfd)
            raise
    spawner.output.add(instance.output_pipe, instance.tail)
    return instance


def _open(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return _open(readers, reader), _open(writers, writer)


def _observe(
    instance: Instance, spawned: Spawned, readiness: Readiness, timeout: float, clock: tuple[int, int]
) -> None:
    """Turn what was seen into marks; wait for the line of readiness if it has not come yet.

    `clock` is where the workload tells instants of its own, and what its clock shows above the host's.
    """
    pipe = pipe_resolution()
    instance.marks.append(Mark("request", spawned.requested_at, "call", CLOCK_RESOLUTION))
    instance.marks.append(Mark("clone", spawned.cloned_at, "shared-memory", CLOCK_RESOLUTION))
    if spawned.maps_seen_at:
        instance.marks.append(Mark("identity", spawned.maps_seen_at, "shared-memory", CLOCK_RESOLUTION))
    instance.marks.append(Mark("sandbox", spawned.execve_at, "shared-memory", CLOCK_RESOLUTION))
    deadline = spawned.requested_at + round(timeout * 1e9)
    if readiness.marking:
        executed_at, channel = spawned.watched_at[0], "mark-pipe"
        if not executed_at:
            raise _not_ready(instance, "its first instruction was not seen", timeout, deadline)
    else:
        executed_at, channel = spawned.executed_at, "execve-pipe"
    executed = Mark("exec", executed_at, channel, pipe)
    if readiness.line is None:
        executed = WorkloadClock.read(*clock).mark(workload_clock.EXEC, spawned.execve_at, executed)
        instance.marks += executed, replace(executed, name="ready")
        return
    ready_at = _await_line(instance, readiness.line, spawned.watched_at[-1], deadline)
    if not ready_at:
        raise _not_ready(instance, f"it printed no line with {readiness.line!r}", timeout, deadline)
    # A line may be seen in the same wake-up as the first instruction, never before it.
    ready = Mark("ready", max(ready_at, executed_at), "stdout-pipe", pipe)
    told = WorkloadClock.read(*clock)
    executed = told.mark(workload_clock.EXEC, spawned.execve_at, executed)
    instance.marks += executed, told.mark(workload_clock.LINE, executed.at, ready)


def _await_line(instance: Instance, text: str, first_byte_at: int, deadline: int) -> int:
    """When the line was complete; 0 if it never came."""
    wanted = text.encode()
    poll = select.poll()
    poll.register(instance.output_pipe, select.POLLIN)
    poll.register(instance.spawner.cancellation, select.POLLIN)
    seen_at = first_byte_at
    unfinished = b""
    while True:
        if seen_at:
            try:
                data = os.read(instance.output_pipe, READ_BYTES)
            except BlockingIOError:
                data = b""
            else:
                if not data:
                    # Every writer is gone. Whoever ends closes its output first; the rest may take a while.
                    instance.wait(min(END_PATIENCE, max(0.0, (deadline - time.monotonic_ns()) / 1e9)))
                    return 0
            instance.tail.feed(data)
            *lines, unfinished = (unfinished + data).split(b"\n")
            if any(wanted in line for line in lines):
                return seen_at
            unfinished = unfinished[-READ_BYTES:]
        left = deadline - time.monotonic_ns()
        if left <= 0:
            return 0
        events = poll.poll(left / 1e6)
        seen_at = time.monotonic_ns()
        if not events or any(descriptor != instance.output_pipe for descriptor, _ in events):
            return 0


def _not_ready(instance: Instance, what: str, timeout: float, deadline: int) -> InstanceError:
    with contextlib.suppress(BlockingIOError):
        instance.tail.feed(os.read(instance.output_pipe, READ_BYTES))
    log = instance.tail.text
    if not instance.wait(0):
        if time.monotonic_ns() < deadline:
            return InstanceError(f"closed its output before it was ready, and goes on: {what}", log=log)
        hint = "raise schedule.ready_timeout, or correct the workload's readiness"
        return InstanceError(f"not ready after {timeout:g} s: {what}", hint, log=log)
    return InstanceError(f"ended before it was ready ({describe_status(instance.status)}): {what}", log=log)


def describe_status(status: int | None) -> str:
    """`exit code 1` or `signal SIGKILL`."""
    if status is None:
        return "running"
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"
