"""System calls that a filter hands to another process: received, checked and answered.

The kernel's side is described in seccomp_unotify(2). The filter's process makes a listener, a
descriptor; a call that the filter's action SCMP_ACT_NOTIFY is for waits until whoever has the
listener answers it. Everything in a notification comes from the container: it is hostile.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import select
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from errno import EFAULT, EIO, ESRCH
from typing import Final

AUDIT_ARCH_X86_64: Final = 0xC000003E
HIGHEST_ADDRESS: Final = 2**63 - 1
"""What an offset of /proc/<pid>/mem can be; the kernel's half of the addresses is beyond it."""

_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags; struct seccomp_data: number, architecture, pointer, arguments."""
_RESPONSE: Final = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, value, negative errno, flags."""
_SIZES: Final = struct.Struct("=HHH")
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_ID_VALID: Final = 0x40082102

_SYS_SECCOMP: Final = 317
"""Of x86-64."""
_SET_MODE_FILTER: Final = 1
_GET_NOTIF_SIZES: Final = 3
_FLAG_NEW_LISTENER: Final = 1 << 3
_PR_SET_NO_NEW_PRIVS: Final = 38
_ALLOW_EVERYTHING: Final = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


@dataclass(frozen=True, slots=True)
class Notification:
    """A call that waits for its answer."""

    id: int
    thread: int
    """Of the caller, in our pid namespace; 0 if it cannot be seen from there."""
    number: int
    arguments: tuple[int, ...]
    """Six registers of 64 bits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returns to its caller."""

    value: int = 0
    error: int = 0
    """An errno; 0 if it succeeded."""
    memory: tuple[tuple[int, bytes], ...] = ()
    """Addresses of the caller's, and what is written there before it goes on."""


Handler = Callable[[Notification], Answer]


def is_pending(listener: int) -> bool:
    """Whether a call waits: then, and with no other reader, `receive` does not block."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def receive(listener: int) -> Notification:
    """Take the next call.

    Raises:
        OSError: ENOENT if its caller was ended or interrupted meanwhile.
    """
    # The kernel copies as much as it knows of, and wants all of it to be zero before.
    buffer = bytearray(max(_NOTIFICATION.size, _sizes()[0]))
    fcntl.ioctl(listener, _RECEIVE, buffer)
    id_, thread, _, number, architecture, _, *arguments = _NOTIFICATION.unpack_from(buffer)
    # The numbers of another architecture mean other calls; our filters end such callers anyway.
    return Notification(id_, thread, number if architecture == AUDIT_ARCH_X86_64 else -1, tuple(arguments))


def is_valid(listener: int, notification: Notification) -> bool:
    """Whether its caller still waits, so that its thread id still means the same thread."""
    try:
        fcntl.ioctl(listener, _ID_VALID, struct.pack("=Q", notification.id))
    except FileNotFoundError:
        return False
    return True


def respond(listener: int, notification: Notification, answer: Answer) -> None:
    """Let the caller go on; nothing happens if it does not wait any more.

    If its memory cannot be written, the call fails with EFAULT, EACCES or whatever else the reason was.
    """
    error = answer.error
    if answer.memory and not error:
        try:
            _write_memory(listener, notification, answer.memory)
        except OSError as failure:
            # What the kernel says of an address that cannot be written, whatever the reason.
            error = EFAULT if failure.errno == EIO else failure.errno or EFAULT
    value = 0 if error else answer.value
    try:
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(notification.id, value, -error, 0))
    except FileNotFoundError:
        return


def _write_memory(listener: int, notification: Notification, pieces: tuple[tuple[int, bytes], ...]) -> None:
    """Write to the caller's memory, and to nobody else's.

    Through /proc/<thread>/mem rather than process_vm_writev(2): the descriptor stays with the memory
    that it was opened for, so one check after opening excludes that the id has been reused. That it
    also writes to read-only private pages gives a process nothing that its own /proc/self/mem does not.

    Raises:
        OSError: it cannot be written, or its caller does not wait any more.
    """
    if not all(0 <= address <= HIGHEST_ADDRESS - len(data) for address, data in pieces):
        raise OSError(EFAULT, os.strerror(EFAULT))
    memory = os.open(f"/proc/{notification.thread}/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for address, data in pieces:
            if not is_valid(listener, notification):
                raise OSError(ESRCH, os.strerror(ESRCH))
            if os.pwrite(memory, data, address) != len(data):
                raise OSError(EFAULT, os.strerror(EFAULT))
    finally:
        os.close(memory)


@functools.cache
def unavailable() -> str:
    """Why no call can be handed to us on this host; empty if it can. Found out by making a listener.

    In a thread that ends at once, since a filter cannot be taken off again. The kernel allows one
    listener per process, so there may be none for us where a container runtime has one already.
    """
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(_try_listener()), name="pybench-trial")
    thread.start()
    thread.join()
    return found[0]


def _try_listener() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = Program(len(_ALLOW_EVERYTHING) // 8, _ALLOW_EVERYTHING)
    try:
        _sizes()
    except OSError as error:
        return str(error)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        return f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(ctypes.get_errno())}"
    listener = libc.syscall(
        ctypes.c_long(_SYS_SECCOMP),
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(_FLAG_NEW_LISTENER),
        ctypes.byref(program),
    )
    if listener < 0:
        return f"seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER): {os.strerror(ctypes.get_errno())}"
    os.close(listener)
    return ""


@functools.cache
def _sizes() -> tuple[int, ...]:
    """Sizes of the kernel's structures: notification, response, data.

    Raises:
        OSError: this kernel, older than 5.0, has none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = ctypes.create_string_buffer(_SIZES.size)
    operation = ctypes.c_uint(_GET_NOTIF_SIZES)
    if libc.syscall(ctypes.c_long(_SYS_SECCOMP), operation, ctypes.c_uint(0), buffer) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp(SECCOMP_GET_NOTIF_SIZES): {os.strerror(error)}")
    return _SIZES.unpack(buffer.raw)
