"""One conversation after another with the process that runs commands in a guest."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InstanceError
from pybench.runtime.output import READ_BYTES, printable
from pybench.runtime.vm.protocol import (
    PAYLOAD_MAXIMUM,
    WINDOW,
    Frame,
    FrameReader,
    Kind,
    ProtocolError,
    Request,
    encode,
    encode_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KILL_SECONDS: Final = 2.0
"""What a killed command gets for saying so, before the conversation is given up."""
_NOISE_MAXIMUM: Final = 1 << 20
"""Bytes of an earlier conversation that may come before the nonce."""
_FAILURE_TEXT: Final = 256
_CLOSED: Final = "the guest's channel for commands was closed"


class ChannelClosedError(InstanceError):
    """The other end is gone, and most likely QEMU with it."""


class CommandChannel:
    """The open channel; `broken` once a conversation on it was given up.

    Args:
        descriptor: the connected, non-blocking socket; it stays the caller's.
        name: `virtio-serial` or `isa-serial`.
        ended: a descriptor that becomes readable when QEMU has ended.
    """

    def __init__(self, descriptor: int, name: str, ended: int) -> None:
        self.descriptor = descriptor
        self.name = name
        self.ended = ended
        self.broken = False

    def read(self, size: int) -> bytes:
        """What has come, `size` bytes at most; nothing if there is nothing yet.

        Raises:
            InstanceError: the other end is closed.
        """
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        if not data:
            raise ChannelClosedError(_CLOSED)
        return data

    def write(self, data: bytes | bytearray) -> int:
        """Send what there is room for; returns how many bytes that was.

        Raises:
            InstanceError: the other end is closed.
        """
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            return 0
        except ConnectionError as error:
            raise ChannelClosedError(_CLOSED) from error

    def synchronise(self, nonce: bytes, deadline: float) -> None:
        """Exchange the nonce: what came before it belongs to nobody.

        Raises:
            InstanceError: the guest did not say it before `deadline` (of `time.monotonic`), or has ended.
        """
        self.write(nonce)
        heard = bytearray()
        discarded = 0
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.register(self.ended, select.POLLIN)
        while nonce not in heard:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1e3))
            if self.ended in ready or not ready or discarded > _NOISE_MAXIMUM:
                raise InstanceError("the guest did not answer on its channel for commands")
            data = self.read(len(nonce))
            discarded += len(data)
            heard = (heard + data)[-2 * len(nonce) :]


class Conversation:
    """One request, and what goes to and fro until the command has ended.

    Args:
        channel: a synchronised channel that nobody else uses meanwhile.
        request: what to do.
        read: gives up to so many bytes of input; none at its end.
        sink: is given each piece of output (`Kind.OUTPUT`, `Kind.ERRORS`); what it raises ends the command.
        source: a descriptor that is readable when `read` will not block; -1 where it never does.
    """

    def __init__(
        self,
        channel: CommandChannel,
        request: Request,
        read: Callable[[int], bytes],
        sink: Callable[[Kind, bytes], None],
        source: int = -1,
    ) -> None:
        self._channel = channel
        self._session = int.from_bytes(os.urandom(4), "little")
        self._request = memoryview(request.record())
        self._read = read
        self._sink = sink
        self._source = source
        self._frames = FrameReader()
        self._outgoing = bytearray()
        self._credit = WINDOW
        self._begun = self._started = self._input_over = False
        self._status: int | None = None
        self.resize_descriptor = -1
        """Readable (an eventfd) when the terminal's size has changed."""
        self.size: Callable[[], tuple[int, int]] | None = None
        """Asks for the terminal's rows and columns."""

    def carry_on(self, deadline: float) -> int:
        """Talk until the command has ended; returns its exit code, or its signal's number negated.

        Raises:
            InstanceError: it could not be started, did not end before `deadline` (of `time.monotonic`), the
                guest broke the protocol, or QEMU has ended.
        """
        try:
            while self._status is None:
                self._fill()
                if not self._exchange(deadline):
                    raise InstanceError("the command in the guest did not end in time")
        except BaseException:
            self._give_up()
            raise
        return self._status

    def _fill(self) -> None:
        """Put into the outgoing buffer what the guest has room for."""
        while self._request and self._credit and len(self._outgoing) < WINDOW:
            piece = bytes(self._request[: min(self._credit, PAYLOAD_MAXIMUM)])
            self._request = self._request[len(piece) :]
            self._send(Kind.REQUEST, piece)
        if not self._request and not self._begun:
            self._begun = True
            self._send(Kind.BEGIN)
        while self._started and self._source < 0 and self._wants_input:
            self._take_input()

    @property
    def _wants_input(self) -> bool:
        return not self._input_over and self._credit > 0 and len(self._outgoing) < WINDOW

    def _take_input(self) -> None:
        data = self._read(min(self._credit, PAYLOAD_MAXIMUM))
        self._input_over = not data
        self._send(Kind.INPUT if data else Kind.INPUT_END, data)

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        if kind in {Kind.REQUEST, Kind.INPUT}:
            self._credit -= len(payload)
        self._outgoing += encode(kind, self._session, payload)

    def _exchange(self, deadline: float) -> bool:
        """Wait for whatever can go on and do it; false at the deadline."""
        channel = self._channel
        poll = select.poll()
        poll.register(channel.descriptor, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        poll.register(channel.ended, select.POLLIN)
        if self._started and self._source >= 0 and self._wants_input:
            poll.register(self._source, select.POLLIN)
        if self.resize_descriptor >= 0:
            poll.register(self.resize_descriptor, select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0 or not (ready := dict(poll.poll(min(left, 3600.0) * 1e3))):
            return False
        events = ready.get(channel.descriptor, 0)
        if events & select.POLLIN:
            self._hear()
        elif channel.ended in ready:
            raise ChannelClosedError("QEMU ended while a command ran in its guest")
        if events & select.POLLOUT:
            del self._outgoing[: channel.write(self._outgoing)]
        if self._source in ready:
            self._take_input()
        if self.resize_descriptor in ready and self.size is not None:
            os.eventfd_read(self.resize_descriptor)
            self._outgoing += encode_size(self._session, *self.size())
        return True

    def _hear(self) -> None:
        for frame in self._frames.feed(self._channel.read(READ_BYTES)):
            # What is left of an earlier session on the way is nobody's.
            if frame.session == self._session:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if self._status is not None:
            raise ProtocolError("the guest went on after the end of its command")
        if frame.kind is Kind.CREDIT:
            self._credit += frame.credit
            if self._credit > WINDOW:
                raise ProtocolError("the guest used up more than it was sent")
        elif frame.kind is Kind.FAILED:
            text = printable(frame.payload[:_FAILURE_TEXT]).removeprefix("error ")
            self._status = 0
            raise CommandError(f"the guest cannot do it: {text}")
        elif frame.kind is Kind.STARTED:
            self._started = True
        elif frame.kind in {Kind.EXITED, Kind.KILLED}:
            self._status = frame.status
        else:
            self._sink(frame.kind, frame.payload)

    def _give_up(self) -> None:
        """Have the guest kill the command; without its answer the channel counts as broken."""
        if self._status is not None:
            return
        self._sink = _ignore
        self._request = memoryview(b"")
        self._begun = self._input_over = True
        self._outgoing += encode(Kind.SIGNAL, self._session, bytes([signal.SIGKILL]))
        deadline = time.monotonic() + KILL_SECONDS
        try:
            while self._started and self._status is None:
                if not self._exchange(deadline):
                    break
        except InstanceError:
            pass
        self._channel.broken = self._status is None


class CommandError(InstanceError):
    """The guest could not start what it was asked for; the channel is fine."""


def _ignore(_kind: Kind, _data: bytes) -> None:
    """What a command prints after it was given up."""
