"""The host's ends of a guest's serial lines.

QEMU connects each line to a socket somebody already listens on: a line that QEMU served itself
would drop what the guest sends before anybody has connected.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self

from pybench.runtime.errors import HostError
from pybench.runtime.output import READ_BYTES, Tail, printable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Line = Literal["console", "marks", "output", "commands", "port"]
LINES: Final[tuple[Line, ...]] = ("console", "marks", "output", "commands")
"""In the order of the guest's ttyS0, ttyS1, ttyS2, ttyS3. `port` is a virtio port, where there is one."""
PORT_NAME: Final = "pybench.commands"
"""The virtio port's name, by which the guest finds it."""
_CONVERSATIONS: Final[frozenset[Line]] = frozenset({"commands", "port"})
"""Lines that are read only by whoever runs commands over them."""

SERIAL_RESOLUTION: Final = 1e-4
"""Seconds: consecutive bytes of one line were seen 0.02 to 0.1 ms apart, each of them an exit to QEMU."""
_LONGEST_LINE: Final = 4096
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


@dataclass(frozen=True, slots=True)
class Received:
    """What came in with one wake-up, at one instant (nanoseconds of CLOCK_MONOTONIC)."""

    at: int
    lines: tuple[tuple[int, str], ...] = ()
    """Whole lines of `marks`, each with the instant its first byte came."""
    printed: bytes = b""
    woken: frozenset[int] = frozenset()
    """Descriptors beside the channels that became readable."""
    heard: bool = False
    """Whether anything came over the channels."""


@dataclass(slots=True)
class Channels:
    """A guest's lines; a context manager that leaves neither sockets nor their files."""

    directory: Path
    port: bool = False
    """Whether there is a virtio port beside the serial lines."""
    console: Tail = field(default_factory=Tail)
    output: Tail = field(default_factory=Tail)
    emulator: int | None = None
    """QEMU's pid, known once it has connected."""
    _listeners: dict[int, tuple[Line, socket.socket]] = field(default_factory=dict)
    _connected: dict[Line, socket.socket] = field(default_factory=dict)
    _poll: select.poll = field(default_factory=select.poll)
    _unfinished: bytearray = field(default_factory=bytearray)
    _unfinished_at: int = 0
    _receiving: threading.Lock = field(default_factory=threading.Lock)
    """A machine may be stopped by one thread while another one asks why its command ended."""

    def __enter__(self) -> Self:
        try:
            names: tuple[Line, ...] = (*LINES, "port") if self.port else LINES
            for name in names:
                path = self.directory / name
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self._listeners[listener.fileno()] = name, listener
                listener.bind(bytes(path))
                listener.listen(1)
                self.watch(listener.fileno())
        except OSError as error:
            self.__exit__(None, None, None)
            raise HostError(f"cannot listen below {self.directory}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, listener in self._listeners.values():
            listener.close()
        for line in self._connected.values():
            line.close()
        self._listeners.clear()
        self._connected.clear()
        for path in (*self.serials, self.directory / "port"):
            path.unlink(missing_ok=True)

    @property
    def serials(self) -> tuple[Path, ...]:
        """The sockets QEMU is to connect its serial lines to."""
        return tuple(self.directory / name for name in LINES)

    @property
    def port_path(self) -> Path | None:
        """The socket QEMU is to connect the virtio port to."""
        return self.directory / "port" if self.port else None

    def watch(self, descriptor: int) -> None:
        """Have `receive` wake up when `descriptor` is readable, too."""
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor: int) -> None:
        """No longer wake up for `descriptor`."""
        self._poll.unregister(descriptor)

    def receive(self, deadline: int) -> Received | None:
        """Wait for something to come in; None at the deadline (nanoseconds of CLOCK_MONOTONIC)."""
        with self._receiving:
            return self._receive(deadline)

    def _receive(self, deadline: int) -> Received | None:
        left = deadline - time.monotonic_ns()
        if left <= 0:
            return None
        ready = self._poll.poll(left / 1e6)
        at = time.monotonic_ns()
        if not ready:
            return None
        lines: list[tuple[int, str]] = []
        printed = b""
        woken = []
        by_descriptor = {line.fileno(): name for name, line in self._connected.items()}
        for descriptor, _ in ready:
            if descriptor in self._listeners:
                self._accept(descriptor)
            elif (name := by_descriptor.get(descriptor)) is None:
                woken.append(descriptor)
            elif name == "marks":
                lines += self._split(self._read(name), at)
            elif name == "console":
                self.console.feed(self._read(name))
            else:
                printed += self._read(name)
        self.output.feed(printed)
        return Received(at, tuple(lines), printed, frozenset(woken), heard=len(woken) < len(ready))

    def send(self, line: str) -> bool:
        """Say something to the guest's init; false if nobody is there."""
        if marks := self._connected.get("marks"):
            with contextlib.suppress(OSError):
                return marks.send(line.encode() + b"\n") > 0
        return False

    def descriptor(self, line: Line) -> int | None:
        """The connected socket of a line, for somebody else to read."""
        connected = self._connected.get(line)
        return connected.fileno() if connected else None

    def _accept(self, descriptor: int) -> None:
        name, listener = self._listeners.pop(descriptor)
        self._poll.unregister(descriptor)
        try:
            connected, _ = listener.accept()
        finally:
            listener.close()
        connected.setblocking(False)
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.emulator, _, _ = _CREDENTIALS.unpack(credentials)
        self._connected[name] = connected
        if name not in _CONVERSATIONS:
            self.watch(connected.fileno())

    def _read(self, name: Line) -> bytes:
        line = self._connected[name]
        try:
            data = line.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        if not data:
            # The end of the file stays readable for ever; whether QEMU has ended its pidfd tells.
            self._poll.unregister(line.fileno())
            line.close()
            del self._connected[name]
        return data

    def _split(self, data: bytes, at: int) -> list[tuple[int, str]]:
        lines: list[tuple[int, str]] = []
        for piece in data.splitlines(keepends=True):
            if not self._unfinished:
                self._unfinished_at = at
            self._unfinished += piece
            if piece.endswith(b"\n"):
                text = printable(bytes(self._unfinished)).strip()
                lines.append((self._unfinished_at, text))
                self._unfinished.clear()
            del self._unfinished[_LONGEST_LINE:]
        return lines
