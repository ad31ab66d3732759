"""Commands in a live guest: run one, copy a file in or out, or attach to one as a terminal does."""

from __future__ import annotations

import abc
import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import HostError, InputError, InstanceError
from pybench.runtime.output import printable
from pybench.runtime.vm.protocol import Kind, Request
from pybench.runtime.vm.session import CommandChannel, CommandError, Conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pybench.runtime.vm.protocol import Action

ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
"""What a command has when the caller names nothing else."""
COMMAND_SECONDS: Final = 30.0
OUTPUT_MAXIMUM: Final = 16 << 20
"""Bytes that `execute` takes of either stream before it gives the command up."""
FILE_MAXIMUM: Final = 1 << 30
_OPEN_SECONDS: Final = 10.0
_ERROR_TEXT: Final = 1024
_SLOWEST: Final = 4096.0
"""Bytes a second into the guest that are worth waiting for: a serial line took 0.1 MB in 1.1 s on a quiet
host under emulation, and in 18 s where seven others wanted each processor."""
_NO_INPUT: Final[Callable[[int], bytes]] = lambda _size: b""  # noqa: E731 - a constant
_FOR_EVER: Final = 10 * 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended: its exit code, or its signal's number negated, and what it printed."""

    status: int
    output: bytes
    errors: bytes
    channel: str
    """`virtio-serial` or `isa-serial`."""
    printing: tuple[int, int] | None = None
    """When the first and the last of `output` arrived here, in nanoseconds of CLOCK_MONOTONIC."""


@dataclass(slots=True)
class GuestCommands(abc.ABC):
    """What a machine can do once it is ready; one command at a time, from whichever thread.

    The guest is hostile: what it sends is bounded, checked against the protocol and handed over as bytes.
    """

    _command_channel: CommandChannel | None = field(default=None, init=False)
    _command_lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @abc.abstractmethod
    def _open_command_line(self, nonce: str, deadline: float) -> tuple[int, str]:
        """Have init offer its channel; returns the connected socket and the channel's name."""

    @property
    @abc.abstractmethod
    def _ended_descriptor(self) -> int:
        """Readable when QEMU has ended; -1 while the machine is not running."""

    @abc.abstractmethod
    def _explain(self, error: InstanceError) -> InstanceError:
        """The error with what is known of the machine: a fault found meanwhile, the console's last lines."""

    def execute(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
        privileged: bool = False,
        timeout: float = COMMAND_SECONDS,
        maximum: int = OUTPUT_MAXIMUM,
    ) -> Completed:
        """Run a command to its end, confined like the workload: without capabilities, within its limits.

        Its end ends its whole process group. `environment` replaces `ENVIRONMENT`. `privileged` leaves it
        everything that the guest's root may do. `timeout` (in seconds) is extended by what `stdin` may need
        on a slow line.

        Raises:
            InputError: the command cannot be expressed.
            InstanceError: it could not be started, printed more than `maximum` bytes on a stream, ran longer
                than `timeout` seconds, or the guest died or broke the protocol.
        """
        request = Request(
            command,
            environment=ENVIRONMENT if environment is None else environment,
            directory=directory,
            privileged=privileged,
        )
        streams = {Kind.OUTPUT: bytearray(), Kind.ERRORS: bytearray()}
        arrivals: list[int] = []

        def keep(kind: Kind, data: bytes) -> None:
            if kind is Kind.OUTPUT:
                # The first one, and the latest so far.
                arrivals[1:] = [time.monotonic_ns()]
            streams[kind] += data
            if len(streams[kind]) > maximum:
                raise InstanceError(f"{command[0]} in the guest printed more than {maximum} bytes")

        status, channel = self._converse(request, _reader(stdin), keep, timeout + len(stdin) / _SLOWEST)
        output, errors = (bytes(streams[kind]) for kind in (Kind.OUTPUT, Kind.ERRORS))
        return Completed(status, output, errors, channel, (arrivals[0], arrivals[-1]) if arrivals else None)

    def copy_in(
        self, source: Path | bytes, path: str, *, mode: int = 0o644, timeout: float = COMMAND_SECONDS
    ) -> None:
        """Write a regular file of the guest, from a file of the host or from bytes.

        It appears under its name, with its mode, once it is complete.

        Raises:
            InputError: `source` cannot be read, or `path` is not absolute.
            InstanceError: the guest could not write it.
        """
        with contextlib.ExitStack() as stack:
            if isinstance(source, bytes):
                read, size = _reader(source), len(source)
            else:
                read, size = _file_reader(source, stack)
            arguments = (_absolute(path), f"{mode:o}")
            self._copy("write", arguments, read, _discard, timeout + size / _SLOWEST)

    def copy_out(
        self, path: str, target: Path, *, timeout: float = COMMAND_SECONDS, maximum: int = FILE_MAXIMUM
    ) -> int:
        """Read a regular file of the guest into the new file `target`; returns its size in bytes.

        Raises:
            InputError: `target` exists, or `path` is not absolute.
            HostError: `target` cannot be written.
            InstanceError: the guest could not read it, or it has more than `maximum` bytes; nothing is left.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(target, flags, 0o600)
        except FileExistsError as error:
            raise InputError(f"{target} exists already") from error
        except OSError as error:
            raise HostError(f"cannot write {target}: {error.strerror}") from error
        written = 0

        def store(_kind: Kind, data: bytes) -> None:
            nonlocal written
            written += len(data)
            if written > maximum:
                raise InstanceError(f"{path} of the guest has more than {maximum} bytes")
            try:
                file.write(data)
            except OSError as error:
                raise HostError(f"cannot write {target}: {error.strerror}") from error

        try:
            with os.fdopen(descriptor, "wb") as file:
                self._copy("read", (_absolute(path),), _NO_INPUT, store, timeout)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return written

    def read_file(self, path: str, maximum: int, *, timeout: float = COMMAND_SECONDS) -> bytes:
        """The content of a regular file of the guest, one of /proc included.

        Raises:
            InputError: `path` is not absolute.
            InstanceError: the guest could not read it, or it has more than `maximum` bytes.
        """
        content = bytearray()

        def keep(_kind: Kind, data: bytes) -> None:
            content.extend(data)
            if len(content) > maximum:
                raise InstanceError(f"{path} of the guest has more than {maximum} bytes")

        self._copy("read", (_absolute(path),), _NO_INPUT, keep, timeout)
        return bytes(content)

    def attach(
        self,
        command: Sequence[str],
        source: int,
        target: int,
        *,
        size: Callable[[], tuple[int, int]],
        resized: int = -1,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
        privileged: bool = False,
    ) -> int:
        """Run a command on a terminal in the guest, between two descriptors of the host, until it ends.

        Args:
            command: what to run, such as `("/bin/sh",)`.
            source: what is typed; read as it comes, so a terminal is best in raw mode (see `terminal.raw`).
            target: where everything is written that the guest prints, escape sequences included.
            size: asks for the terminal's rows and columns.
            resized: an eventfd that becomes readable when they have changed.
            environment: replaces `ENVIRONMENT`; it should say TERM.
            directory: where it starts.
            privileged: whether it may do everything that the guest's root may.

        Returns:
            its exit code, or its signal's number negated.

        Raises:
            InstanceError: it could not be started, or the guest died or broke the protocol.
        """
        request = Request(
            command,
            environment=ENVIRONMENT if environment is None else environment,
            directory=directory,
            privileged=privileged,
            terminal=size(),
        )

        def show(_kind: Kind, data: bytes) -> None:
            while data:
                data = data[os.write(target, data) :]

        status, _ = self._converse(
            request,
            lambda count: _typed(source, count),
            show,
            _FOR_EVER,
            source=source,
            resized=resized,
            size=size,
        )
        return status

    def _copy(
        self,
        action: Action,
        arguments: tuple[str, ...],
        read: Callable[[int], bytes],
        sink: Callable[[Kind, bytes], None],
        timeout: float,
    ) -> None:
        errors = bytearray()

        def split(kind: Kind, data: bytes) -> None:
            if kind is Kind.ERRORS:
                errors.extend(data[: max(0, _ERROR_TEXT - len(errors))])
            else:
                sink(kind, data)

        status, _ = self._converse(Request(arguments, action=action), read, split, timeout)
        if status:
            reason = printable(bytes(errors)).removeprefix("error ").strip("!\n") or f"status {status}"
            raise InstanceError(f"cannot {action} {arguments[0]} in the guest: {reason}")

    def _converse(
        self,
        request: Request,
        read: Callable[[int], bytes],
        sink: Callable[[Kind, bytes], None],
        timeout: float,
        *,
        source: int = -1,
        resized: int = -1,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> tuple[int, str]:
        deadline = time.monotonic() + timeout
        with self._command_lock:
            try:
                channel = self._channel(deadline)
                conversation = Conversation(channel, request, read, sink, source)
                conversation.resize_descriptor, conversation.size = resized, size
                return conversation.carry_on(deadline), channel.name
            except CommandError:
                raise
            except InstanceError as error:
                raise self._explain(error) from error

    def _channel(self, deadline: float) -> CommandChannel:
        channel = self._command_channel
        if channel is None or channel.broken:
            # Its first character is nowhere else in it: the guest finds it without looking back.
            nonce = f"~{os.urandom(8).hex()}"
            deadline = min(deadline, time.monotonic() + _OPEN_SECONDS)
            descriptor, name = self._open_command_line(nonce, deadline)
            self._command_channel = channel = CommandChannel(descriptor, name, self._ended_descriptor)
            channel.broken = True
            channel.synchronise(nonce.encode(), deadline)
            channel.broken = False
        return channel


def _reader(data: bytes) -> Callable[[int], bytes]:
    rest = memoryview(data)

    def read(size: int) -> bytes:
        nonlocal rest
        piece, rest = rest[:size], rest[size:]
        return bytes(piece)

    return read


def _file_reader(source: Path, stack: contextlib.ExitStack) -> tuple[Callable[[int], bytes], int]:
    """What reads the file, and its size in bytes."""
    try:
        file = stack.enter_context(source.open("rb"))
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from error

    def read(size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror}") from error

    return read, size


def _typed(source: int, count: int) -> bytes:
    """What has been typed; a hang-up of the terminal (EIO) is its end."""
    try:
        return os.read(source, count)
    except OSError:
        return b""


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise InputError(f"{path!r} is no absolute path in the guest")
    return path


def _discard(_kind: Kind, _data: bytes) -> None:
    """A command whose output says nothing."""
