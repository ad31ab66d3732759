"""Objects of the host's IPC namespace that outlive their maker: System V's, and POSIX message queues.

Python has no calls for them. Each is written to the journal by its key or name before it is made.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

from pybench.runtime.journal import Detail, Journal

Kind = Literal["segment", "semaphore", "queue", "posix-queue"]
"""System V shared memory, a System V semaphore, a System V queue, and a POSIX queue."""
JOURNAL_KIND: Final = "ipc"

_CREATE, _EXCLUSIVE, _REMOVE = 0o1000, 0o2000, 0
"""IPC_CREAT, IPC_EXCL and IPC_RMID of <linux/ipc.h>."""
_LONGEST_MESSAGE: Final = 128
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.shmat.restype = ctypes.c_void_p
_LIBC.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_LIBC.shmdt.argtypes = (ctypes.c_void_p,)
_LIBC.msgsnd.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class _Message(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_long), ("text", ctypes.c_char * _LONGEST_MESSAGE))


class _Attributes(ctypes.Structure):
    """struct mq_attr."""

    _fields_ = (
        ("flags", ctypes.c_long),
        ("most", ctypes.c_long),
        ("longest", ctypes.c_long),
        ("waiting", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    )


@dataclass(frozen=True, slots=True)
class IpcObject:
    """One such object."""

    kind: Kind
    name: str
    """Of a POSIX queue with its slash; of the others the key, in decimal."""
    identifier: int
    """Of a System V object; -1 of a POSIX queue."""
    _journal: Journal
    _number: int

    @classmethod
    def make(cls, journal: Journal, kind: Kind, name: str, content: bytes, mode: int) -> Self:
        """Make a new one; a segment and the queues with a content.

        Args:
            journal: where it is written down first.
            kind: what.
            name: see the attribute.
            content: at most 128 bytes; a semaphore has none.
            mode: permissions.

        Raises:
            OSError: there is one of this name, or this kernel or user cannot have it.
        """
        number = journal.record(JOURNAL_KIND, object=kind, name=name)
        try:
            identifier = _make(kind, name, content, mode)
        except OSError:
            journal.forget(number)
            raise
        made = cls(kind, name, identifier, journal, number)
        if kind == "posix-queue":
            return made
        try:
            _fill(kind, identifier, content)
        except OSError:
            made.remove()
            raise
        return made

    def remove(self) -> None:
        """Remove it.

        Raises:
            OSError: it cannot be removed.
        """
        remove_object({"object": self.kind, "name": self.name})
        self._journal.forget(self._number)


def remove_object(details: Mapping[str, Detail]) -> str:
    """Remove a journalled object, if it is there."""
    kind, name = str(details["object"]), str(details["name"])
    try:
        if kind == "posix-queue":
            _call("mq_unlink", name.encode())
        else:
            identifier = _call(_GET[kind], int(name), 0, *(() if kind == "queue" else (0,)))
            _remove(kind, identifier)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EIDRM, errno.EINVAL, errno.ENOSYS}:
            return ""
        raise
    return f"removed {kind} {name}"


_GET: Final = {"segment": "shmget", "semaphore": "semget", "queue": "msgget"}


def _make(kind: Kind, name: str, content: bytes, mode: int) -> int:
    flags = _CREATE | _EXCLUSIVE | mode
    if kind == "segment":
        return _call("shmget", int(name), ctypes.c_size_t(4096), flags)
    if kind == "semaphore":
        return _call("semget", int(name), 1, flags)
    if kind == "queue":
        return _call("msgget", int(name), flags)
    attributes = _Attributes(0, 4, _LONGEST_MESSAGE, 0)
    descriptor = _call(
        "mq_open", name.encode(), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode, ctypes.byref(attributes)
    )
    try:
        _call("mq_send", descriptor, content, ctypes.c_size_t(len(content)), 0)
        os.fchmod(descriptor, mode)
    except OSError:
        _call("mq_unlink", name.encode())
        raise
    finally:
        os.close(descriptor)
    return -1


def _fill(kind: Kind, identifier: int, content: bytes) -> None:
    if kind == "segment":
        address = _LIBC.shmat(identifier, None, 0)
        if address in {None, ctypes.c_void_p(-1).value}:
            raise _error("shmat")
        ctypes.memmove(address, content, len(content))
        _LIBC.shmdt(address)
    elif kind == "queue":
        message = _Message(1, content)
        if _LIBC.msgsnd(identifier, ctypes.byref(message), len(content), 0) == -1:
            raise _error("msgsnd")


def _remove(kind: str, identifier: int) -> None:
    if kind == "segment":
        _call("shmctl", identifier, _REMOVE, None)
    elif kind == "semaphore":
        _call("semctl", identifier, 0, _REMOVE)
    else:
        _call("msgctl", identifier, _REMOVE, None)


def _call(function: str, *arguments: object) -> int:
    result = int(getattr(_LIBC, function)(*arguments))
    if result == -1:
        raise _error(function)
    return result


def _error(function: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{function}: {os.strerror(number)}")
