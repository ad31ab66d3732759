"""A container's terminal between two descriptors of the host, and commands run in a running container."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pybench.runtime.container import leftovers
from pybench.runtime.container.instance import KILL_PATIENCE
from pybench.runtime.container.spawn.spawner import Spawned
from pybench.runtime.container.spawn.steps import CloseFrom, Duplicate, NewSession, Step
from pybench.runtime.errors import InstanceError
from pybench.runtime.output import READ_BYTES

DRAIN_PATIENCE: Final = 0.2
"""Seconds for what a terminal or a pipe still holds when its process has ended."""
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

Size = Callable[[], tuple[int, int]]
"""Asks for rows and columns."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    status: int
    """Exit code, or minus the signal."""
    output: bytes
    """Bounded; hostile."""
    errors: bytes
    truncated: bool
    """More was printed than was kept."""
    printing: tuple[int, int] | None = None
    """When the first and the last of `output` arrived, in nanoseconds of CLOCK_MONOTONIC."""


def receive_master(connection: socket.socket) -> int:
    """The master of the terminal that a child has sent.

    Raises:
        InstanceError: it sent none.
    """
    _, descriptors, _, _ = socket.recv_fds(connection, 64, 1, socket.MSG_CMSG_CLOEXEC)
    if not descriptors:
        raise InstanceError("the container has sent no terminal")
    return descriptors[0]


def set_size(master: int, size: tuple[int, int]) -> None:
    """Give a terminal its rows and columns; its foreground processes hear of it (SIGWINCH)."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def converse(master: int, pidfd: int, source: int, target: int, *, size: Size, resized: int = -1) -> None:
    """Carry what is typed to a terminal and what it prints back, until its process has ended.

    Args:
        master: of the terminal.
        pidfd: of the process; it is not reaped.
        source: what is typed; its end is passed on as the terminal's end-of-file character.
        target: where everything is written that the container prints.
        size: asks for the terminal's rows and columns.
        resized: an eventfd that becomes readable when they have changed; -1: never.
    """
    poll = select.poll()
    for descriptor in (master, pidfd, source, *((resized,) if resized >= 0 else ())):
        poll.register(descriptor, select.POLLIN)
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        events = dict(poll.poll(None if deadline is None else 20))
        if resized in events:
            os.eventfd_read(resized)
            set_size(master, size())
        if source in events and not _pass_on(source, master, at_end=b"\x04"):
            poll.unregister(source)
        if master in events and not _pass_on(master, target):
            return
        if pidfd in events:
            poll.unregister(pidfd)
            deadline = time.monotonic() + DRAIN_PATIENCE
        if deadline is not None and master not in events:
            return


def _pass_on(source: int, target: int, at_end: bytes = b"") -> bool:
    """False at the end of the source; a terminal without any process answers EIO."""
    try:
        data = os.read(source, READ_BYTES)
    except OSError:
        data = b""
    left = data or at_end
    while left:
        left = left[os.write(target, left) :]
    return bool(data)


class Exchange:
    """Input, output and errors of a command, through pipes; a context manager that closes them."""

    def __init__(self, given: bytes) -> None:
        self._closing = contextlib.ExitStack()
        # In memory, so that nobody has to feed it while the output is read.
        self.input = self._own(os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        with open(self.input, "wb", closefd=False) as file:
            file.write(given)
        os.lseek(self.input, 0, os.SEEK_SET)
        # Nothing but input: a container could keep things in it that no limit of its own holds.
        fcntl.fcntl(self.input, fcntl.F_ADD_SEALS, _SEALS)
        self._readers = []
        self._writers = []
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._readers.append(self._own(reader))
            self._writers.append(writer)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close_writers()
        self._closing.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Input, output and errors, to be given to the child."""
        return (self.input, *self._writers)

    def steps(self, slots: Sequence[int]) -> Iterator[Step]:
        """Steps that make them the child's own, in a session of its own; `slots` as `descriptors`."""
        yield NewSession()
        for number, slot in enumerate(slots):
            yield Duplicate(slot, number)
        yield CloseFrom(3)

    def close_writers(self) -> None:
        """Once the child has them: then their end is seen."""
        while self._writers:
            os.close(self._writers.pop())

    def finish(self, child: Spawned, timeout: float, maximum: int) -> Completed:
        """Read what it prints until it has ended, then reap it.

        When the time is over, everything in its session is killed.

        Raises:
            InstanceError: it did not end in time.
        """
        try:
            ended, truncated, kept, arrivals = self._read(child.pidfd, timeout, maximum)
            if not ended:
                raise InstanceError(f"the command did not end within {timeout:g} s")
        except BaseException:
            try:
                # Before it is reaped, so that its session's number is not another's.
                leftovers.kill_session(child.pid)
            finally:
                reap(child.pidfd)
            raise
        printing = (arrivals[0], arrivals[-1]) if arrivals else None
        return Completed(reap(child.pidfd), bytes(kept[0]), bytes(kept[1]), truncated, printing)

    def _read(
        self, pidfd: int, timeout: float, maximum: int
    ) -> tuple[bool, bool, list[bytearray], list[int]]:
        """Whether it ended, whether more was printed than kept, what was, and when the output came."""
        kept = [bytearray(), bytearray()]
        arrivals: list[int] = []
        truncated = False
        poll = select.poll()
        for descriptor in (*self._readers, pidfd):
            poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout
        ended = False
        open_count = len(self._readers)
        # What it left in the background may hold the pipes open and go on printing; it is not waited for.
        while not ended or open_count:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            events = poll.poll(min(left, DRAIN_PATIENCE) * 1000)
            woken = time.monotonic_ns()
            if not events and ended:
                break
            for descriptor, _ in events:
                if descriptor == pidfd:
                    ended = True
                    deadline = time.monotonic() + DRAIN_PATIENCE
                    poll.unregister(pidfd)
                    continue
                data = os.read(descriptor, READ_BYTES)
                if not data:
                    poll.unregister(descriptor)
                    open_count -= 1
                    continue
                if descriptor == self._readers[0]:
                    # The first one, and the latest so far.
                    arrivals[1:] = [woken]
                sink = kept[self._readers.index(descriptor)]
                room = max(0, maximum - len(sink))
                truncated |= len(data) > room
                sink += data[:room]
        return ended, truncated, kept, arrivals

    def _own(self, descriptor: int) -> int:
        self._closing.callback(os.close, descriptor)
        return descriptor


def reap(pidfd: int) -> int:
    """Wait for the end of a process that has ended or was killed: exit code, or minus the signal."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(KILL_PATIENCE * 1000):
        raise InstanceError("the command survived SIGKILL", "it hangs inside the kernel")
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None:
        raise InstanceError("the command was reaped by somebody else")
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
