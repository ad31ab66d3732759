"""The protocol for commands in a guest, against guests that keep to it and guests that do not."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybench.runtime.errors import InputError, InstanceError
from pybench.runtime.vm.protocol import WINDOW, Frame, FrameReader, Kind, ProtocolError, Request
from pybench.runtime.vm.session import CommandChannel, CommandError, Conversation

HEADER = struct.Struct("<BBHI")


def frame(kind: int, session: int, payload: bytes = b"") -> bytes:
    """A frame as a guest sends it."""
    return HEADER.pack(kind, 0, len(payload), session) + payload


class Guest:
    """The other end of a channel, in a thread: reads frames and answers as the test says."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.received = b""

    def read(self) -> tuple[int, int, bytes]:
        """The next frame from the host."""
        kind, _, length, session = HEADER.unpack(self._take(HEADER.size))
        return kind, session, self._take(length)

    def begun(self) -> int:
        """Read the request, give the credit back, and return the session's number."""
        while True:
            kind, session, payload = self.read()
            if kind == Kind.BEGIN:
                return session
            self.line.sendall(frame(Kind.CREDIT, session, struct.pack("<I", len(payload))))

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.line.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


@contextmanager
def conversation(
    behaviour: Callable[[Guest], None], data: bytes = b""
) -> Iterator[tuple[Conversation, list[tuple[Kind, bytes]], CommandChannel]]:
    """A conversation with a guest that behaves so, and where its output goes."""
    host, guest = socket.socketpair()
    host.setblocking(False)
    ended = os.eventfd(0)
    printed: list[tuple[Kind, bytes]] = []
    rest = [data]

    def read(size: int) -> bytes:
        piece, rest[0] = rest[0][:size], rest[0][size:]
        return piece

    def run() -> None:
        try:
            behaviour(Guest(guest))
        except (EOFError, OSError):
            return

    thread = threading.Thread(target=run)
    thread.start()
    channel = CommandChannel(host.fileno(), "isa-serial", ended)
    try:
        yield (
            Conversation(channel, Request(("x",)), read, lambda *piece: printed.append(piece)),
            printed,
            channel,
        )
    finally:
        host.close()
        thread.join()
        guest.close()
        os.close(ended)


def soon() -> float:
    """A deadline that is not waited for unless something is wrong."""
    return time.monotonic() + 60


def test_output_and_status_come_back() -> None:
    """Both streams arrive in order, and the exit code is the result."""

    def behave(guest: Guest) -> None:
        session = guest.begun()
        guest.line.sendall(frame(Kind.STARTED, session) + frame(Kind.OUTPUT, session, b"out"))
        guest.line.sendall(frame(Kind.ERRORS, session, b"err") + frame(Kind.EXITED, session, b"\x07"))

    with conversation(behave) as (talk, printed, _):
        assert talk.carry_on(soon()) == 7
    assert printed == [(Kind.OUTPUT, b"out"), (Kind.ERRORS, b"err")]


def test_input_is_sent_no_further_ahead_than_the_window() -> None:
    """What a guest has not used up yet never exceeds the window, and everything arrives."""
    data = os.urandom(5 * WINDOW)
    most = []

    def behave(guest: Guest) -> None:
        session = guest.begun()
        guest.line.sendall(frame(Kind.STARTED, session))
        taken, unused = b"", 0
        while True:
            kind, _, payload = guest.read()
            if kind == Kind.INPUT_END:
                break
            taken += payload
            unused += len(payload)
            most.append(unused)
            if unused >= WINDOW or len(taken) == len(data):
                guest.line.sendall(frame(Kind.CREDIT, session, struct.pack("<I", unused)))
                unused = 0
        guest.line.sendall(frame(Kind.EXITED, session, bytes([taken != data])))

    with conversation(behave, data) as (talk, _, _):
        assert talk.carry_on(soon()) == 0
    assert max(most) == WINDOW


def test_what_cannot_be_started_is_told() -> None:
    """The guest's reason is in the error, escaped, and the channel stays usable."""

    def behave(guest: Guest) -> None:
        guest.line.sendall(frame(Kind.FAILED, guest.begun(), b"error execve \x1b[2J: No such file"))

    with conversation(behave) as (talk, _, channel), pytest.raises(CommandError) as caught:
        talk.carry_on(soon())
    assert caught.value.message == "the guest cannot do it: execve \\x1b[2J: No such file"
    assert not channel.broken


@pytest.mark.parametrize(
    "answer",
    [
        frame(99, 0),
        frame(Kind.REQUEST, 0),
        HEADER.pack(Kind.OUTPUT, 0, 4097, 0),
        HEADER.pack(Kind.OUTPUT, 1, 0, 0),
        frame(Kind.EXITED, 0, b"too long"),
        frame(Kind.KILLED, 0, b"\x63"),
    ],
)
def test_frames_outside_the_protocol_are_refused(answer: bytes) -> None:
    """An unknown kind, a wrong length or direction, an impossible signal: each ends the conversation."""
    with pytest.raises(ProtocolError, match="broke the protocol"):
        FrameReader().feed(answer)


def test_credit_out_of_nothing_is_refused() -> None:
    """A guest that claims to have used up more than it was sent is not believed; the channel is broken."""

    def behave(guest: Guest) -> None:
        session = guest.begun()
        guest.line.sendall(frame(Kind.CREDIT, session, struct.pack("<I", 1 << 31)))

    with conversation(behave) as (talk, _, channel), pytest.raises(ProtocolError, match="used up more"):
        talk.carry_on(soon())
    assert channel.broken


def test_command_that_outlasts_its_time_is_killed() -> None:
    """At the deadline the guest is told to kill it; with its answer the channel stays usable."""
    signals = []

    def behave(guest: Guest) -> None:
        session = guest.begun()
        guest.line.sendall(frame(Kind.STARTED, session))
        while True:
            kind, _, payload = guest.read()
            if kind == Kind.SIGNAL:
                signals.append(payload[0])
                guest.line.sendall(frame(Kind.KILLED, session, b"\x09"))

    with conversation(behave) as (talk, _, channel):
        with pytest.raises(InstanceError, match="did not end in time"):
            talk.carry_on(time.monotonic() + 2)
        assert not channel.broken
    assert signals == [9]


def test_channel_that_closes_is_told() -> None:
    """A guest whose end goes away in the middle is an error, not a wait."""

    def behave(guest: Guest) -> None:
        guest.line.sendall(frame(Kind.STARTED, guest.begun()))
        guest.line.shutdown(socket.SHUT_RDWR)

    with conversation(behave) as (talk, _, channel):
        with pytest.raises(InstanceError, match="closed"):
            talk.carry_on(soon())
        assert channel.broken


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 7))
def test_frames_do_not_depend_on_how_they_arrive(data: bytes, step: int) -> None:
    """Cut into pieces of any size, bytes give the same frames or the same refusal."""

    def read(pieces: list[bytes]) -> list[Frame] | None:
        reader, frames = FrameReader(), []
        try:
            for piece in pieces:
                frames += reader.feed(piece)
        except ProtocolError:
            return None
        return frames

    whole = read([data])
    assert read([data[start : start + step] for start in range(0, len(data), step)]) == whole


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request(()), "empty"),
        (Request(("a\0b",)), "zero byte"),
        (Request(("x" * 300_000,)), "bytes"),
        (Request(("x",) * 5000), "5000 arguments"),
    ],
)
def test_impossible_request_is_refused(request_: Request, named: str) -> None:
    """What the guest could not read back is named before anything is sent."""
    with pytest.raises(InputError, match=named):
        request_.record()
