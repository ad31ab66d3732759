"""The few instructions of eBPF that a device filter needs, and the calls that load and attach it.

Documentation/bpf/standardization/instruction-set.rst and bpf(2). A program of this type asks for no
helper of the kernel, so that its licence does not matter to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from pybench.runtime.errors import HostError

_CALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""bpf(2) is older than the table of numbers that all architectures share."""
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
"""BPF_F_ALLOW_MULTI: every program attached to the group or to one above it must agree."""
_LOG_SIZE = 2**16
_ATTEMPTS = 30
"""The verifier gives up with EAGAIN when a signal arrives."""

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_MOVE_REGISTER = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_JUMP_NOT_EQUAL = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K: no sign extension of the number
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_EXIT = 0x95  # BPF_JMP | BPF_EXIT

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _LoadAttributes(ctypes.Structure):
    """The first members of union bpf_attr; the kernel takes those beyond them as 0."""

    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
    )


class _AttachAttributes(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhI", code, target | source << 4, offset, value)


def load_word(target: int, source: int, offset: int) -> bytes:
    """Register `target` becomes the 32 bits at `offset` from the address in `source`."""
    return _instruction(_LOAD_WORD, target, source, offset)


def move(target: int, value: int) -> bytes:
    """Register `target` becomes a number."""
    return _instruction(_MOVE, target, value=value)


def move_register(target: int, source: int) -> bytes:
    """Register `target` becomes a copy of `source`."""
    return _instruction(_MOVE_REGISTER, target, source)


def keep_bits(target: int, bits: int) -> bytes:
    """Clear all other bits of register `target`."""
    return _instruction(_AND, target, value=bits)


def shift_right(target: int, bits: int) -> bytes:
    """Shift register `target` by so many bits."""
    return _instruction(_SHIFT_RIGHT, target, value=bits)


def jump(offset: int) -> bytes:
    """Skip so many instructions."""
    return _instruction(_JUMP, offset=offset)


def jump_if_not(register: int, value: int, offset: int) -> bytes:
    """Skip so many instructions if the low 32 bits of the register are not the number."""
    return _instruction(_JUMP_NOT_EQUAL, register, offset=offset, value=value)


def jump_if_any(register: int, bits: int, offset: int) -> bytes:
    """Skip so many instructions if the register has one of the bits."""
    return _instruction(_JUMP_ANY_BIT, register, offset=offset, value=bits)


def leave(value: int) -> bytes:
    """Return a number: two instructions."""
    return move(0, value) + _instruction(_EXIT)


def attach_device_filter(program: bytes, group: int) -> None:
    """Hold a program against every access to a device from a group of version 2.

    The group keeps the program until it is removed.

    Args:
        program: instructions.
        group: a descriptor of its directory.

    Raises:
        HostError: the kernel has no such programs, this process may not, or the verifier refused.
    """
    descriptor = _load(program)
    try:
        attributes = _AttachAttributes(group, descriptor, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
        _bpf(_PROG_ATTACH, attributes)
    except OSError as error:
        raise HostError(f"cannot attach the device filter to the group: bpf: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = _LoadAttributes(
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // struct.calcsize("=BBhI"),
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.ENOSYS}:
            raise HostError(
                f"cannot load the device filter: bpf: {error.strerror}",
                "it needs CAP_BPF or CAP_SYS_ADMIN in the first user namespace, and CONFIG_CGROUP_BPF",
            ) from error
        why = error.strerror
    log = ctypes.create_string_buffer(_LOG_SIZE)
    attributes.log_level, attributes.log_size, attributes.log_buf = 1, _LOG_SIZE, ctypes.addressof(log)
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        said = log.value.decode("ascii", "backslashreplace").strip().splitlines()
        raise HostError(f"cannot load the device filter: bpf: {why}", "; ".join(said[-3:])) from error


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    number = _CALL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    for _ in range(_ATTEMPTS):
        result: int = _libc.syscall(
            ctypes.c_long(number),
            ctypes.c_long(command),
            ctypes.byref(attributes),
            ctypes.c_long(ctypes.sizeof(attributes)),
        )
        error = ctypes.get_errno()
        if result >= 0:
            return result
        if error != errno.EAGAIN:
            break
    raise OSError(error, os.strerror(error))
