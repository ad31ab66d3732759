"""What a compiled filter says of a call, without asking the kernel: classic BPF as seccomp allows it."""

from __future__ import annotations

import struct

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
TRACE = 0x7FF00000
NOTIFY = 0x7FC00000
KILL_PROCESS = 0x80000000


def verdict(
    program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = AUDIT_ARCH_X86_64
) -> int:
    """The value that the filter returns; arguments are taken modulo 2^64."""
    padded = [argument % 2**64 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", number % 2**32, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        code, jump_true, jump_false, value = instructions[position]
        position += 1
        match code:
            case 0x20:  # BPF_LD | BPF_W | BPF_ABS
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:  # BPF_ALU | BPF_AND | BPF_K
                accumulator &= value
            case 0x06:  # BPF_RET | BPF_K
                return int(value)
            case 0x05:  # BPF_JMP | BPF_JA
                position += value
            case 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
                position += jump_true if accumulator == value else jump_false
            case 0x25:  # BPF_JMP | BPF_JGT | BPF_K
                position += jump_true if accumulator > value else jump_false
            case 0x35:  # BPF_JMP | BPF_JGE | BPF_K
                position += jump_true if accumulator >= value else jump_false
            case 0x45:  # BPF_JMP | BPF_JSET | BPF_K
                position += jump_true if accumulator & value else jump_false
            case _:
                raise AssertionError(f"unexpected instruction {code:#x}")
