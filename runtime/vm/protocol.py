"""The frames that carry a command to a live guest and what it prints back; no I/O here.

A frame is a header (kind, a zero byte, length of the payload, number of the session; little-endian)
and its payload. `runtime/vm/guest/commands.c` speaks the other end. What comes from there is hostile:
a frame that is not exactly what the protocol allows ends the conversation.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pybench.runtime.errors import InputError, InstanceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAYLOAD_MAXIMUM: Final = 4096
WINDOW: Final = 16 * 1024
"""Bytes of requests and input that may be under way: a guest's serial line drops what it cannot store."""
_HEADER: Final = struct.Struct("<BBHI")
_CREDIT: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<HH")
_MAGIC: Final = "pybench-command-1"
_REQUEST_MAXIMUM: Final = 256 * 1024  # REQUEST_MAXIMUM of commands.c
_FIELDS_MAXIMUM: Final = 4096  # FIELDS_MAXIMUM of request.c
_LARGEST_SIGNAL: Final = 64

Action = Literal["run", "read", "write"]


class Kind(enum.IntEnum):
    """Kinds of frames: the host's below 16, the guest's from there on."""

    REQUEST = 1
    BEGIN = 2
    INPUT = 3
    INPUT_END = 4
    RESIZE = 5
    SIGNAL = 6
    STARTED = 16
    FAILED = 17
    OUTPUT = 18
    ERRORS = 19
    CREDIT = 20
    EXITED = 21
    KILLED = 22


_FROM_GUEST: Final = {kind.value: kind for kind in Kind if kind >= Kind.STARTED}
_LENGTHS: Final = {Kind.STARTED: 0, Kind.CREDIT: _CREDIT.size, Kind.EXITED: 1, Kind.KILLED: 1}
"""Kinds whose payload has one length only."""


class ProtocolError(InstanceError):
    """The guest said something that the protocol does not allow."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the guest, valid as such."""

    kind: Kind
    session: int
    payload: bytes

    @property
    def credit(self) -> int:
        """Of CREDIT: how many bytes the guest has used up."""
        (count,) = _CREDIT.unpack(self.payload)
        return int(count)

    @property
    def status(self) -> int:
        """Of EXITED and KILLED: the exit code, or the signal's number negated, as subprocess has it."""
        return self.payload[0] if self.kind is Kind.EXITED else -self.payload[0]


@dataclass(frozen=True, slots=True)
class Request:
    """What the guest is to do.

    `run` executes `arguments`; its first is looked up in the PATH of `environment`. `read` sends the file
    `arguments[0]`; `write` replaces it by what is sent, with the octal mode `arguments[1]`. Commands run
    confined like the workload unless `privileged`. `terminal` holds rows and columns.
    """

    arguments: Sequence[str]
    action: Action = "run"
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    privileged: bool = False
    terminal: tuple[int, int] | None = None

    def record(self) -> bytes:
        """Fields as C strings, the lists counted.

        Raises:
            InputError: there is no command, a field holds a zero byte, or the whole is too large.
        """
        if not self.arguments or not self.arguments[0]:
            raise InputError("the command for the guest is empty")
        rows, columns = self.terminal or (0, 0)
        fields = [
            _MAGIC,
            self.action,
            "privileged" if self.privileged else "confined",
            "terminal" if self.terminal else "pipes",
            str(rows),
            str(columns),
            self.directory,
        ]
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        for listed in (list(self.arguments), environment):
            if len(listed) > _FIELDS_MAXIMUM:
                raise InputError(
                    f"the command for the guest has {len(listed)} arguments or variables; "
                    f"{_FIELDS_MAXIMUM} are possible"
                )
            fields += [str(len(listed)), *listed]
        if any("\0" in text for text in fields):
            raise InputError("the command for the guest contains a zero byte")
        record = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in fields)
        if len(record) > _REQUEST_MAXIMUM:
            raise InputError(
                f"the command for the guest needs {len(record)} bytes; {_REQUEST_MAXIMUM} are possible"
            )
        return record


def encode(kind: Kind, session: int, payload: bytes = b"") -> bytes:
    """One frame for the guest; `payload` has up to PAYLOAD_MAXIMUM bytes."""
    return _HEADER.pack(kind, 0, len(payload), session) + payload


def encode_size(session: int, rows: int, columns: int) -> bytes:
    """The frame that says how large the terminal is."""
    return encode(Kind.RESIZE, session, _SIZE.pack(min(rows, 0xFFFF), min(columns, 0xFFFF)))


class FrameReader:
    """Cuts what a guest sends into frames; holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._unfinished = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises:
            ProtocolError: it is not what the protocol allows.
        """
        self._unfinished += data
        frames = []
        while len(self._unfinished) >= _HEADER.size:
            number, zero, length, session = _HEADER.unpack_from(self._unfinished)
            kind = _FROM_GUEST.get(number)
            if kind is None or zero or length > PAYLOAD_MAXIMUM or _LENGTHS.get(kind, length) != length:
                header = self._unfinished[: _HEADER.size].hex(" ")
                raise ProtocolError(f"the guest broke the protocol for commands: frame {header}")
            end = _HEADER.size + length
            if len(self._unfinished) < end:
                break
            frame = Frame(kind, session, bytes(self._unfinished[_HEADER.size : end]))
            if kind is Kind.KILLED and not 0 < frame.payload[0] <= _LARGEST_SIGNAL:
                raise ProtocolError(f"the guest broke the protocol for commands: signal {frame.payload[0]}")
            frames.append(frame)
            del self._unfinished[:end]
        return frames
