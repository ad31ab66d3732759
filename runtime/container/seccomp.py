"""System call filters: from a profile in OCI's vocabulary to the program that the kernel runs.

libseccomp does the translation; around it stands what it leaves open. Rules that it would silently
drop are refused, and a call newer than the profile answers ENOSYS instead of EPERM, because a C
library falls back to an older call on the former and gives up on the latter.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final

from pybench.runtime.container import seccomp_cache
from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.seccomp import Action, Condition, Rule, SeccompProfile
from pybench.runtime.container.specification.seccomp_rules import check_profile, outranked
from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from pyseccomp import SyscallFilter

FILTER_FLAG_NEW_LISTENER: Final = 1 << 3
_FILTER_FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
_FILTER_FLAG_TSYNC_ESRCH: Final = 1 << 4
MAXIMUM_INSTRUCTIONS: Final = 4096
"""BPF_MAXINSNS; the kernel refuses a longer filter with EINVAL."""

_OPTIMIZE_BINARY_TREE: Final = 2
_X32_BIT: Final = 0x40000000
_AUDIT_ARCH_X86_64: Final = 0xC000003E

# <linux/bpf_common.h> and <linux/filter.h>
_LOAD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_JUMP_GREATER_OR_EQUAL: Final = 0x35
_JUMP_ALWAYS: Final = 0x05
_RETURN: Final = 0x06
_OFFSET_NUMBER: Final = 0
_OFFSET_ARCHITECTURE: Final = 4
_RETURN_ERRNO: Final = 0x00050000


@functools.lru_cache(maxsize=64)
def compile_filter(profile: SeccompProfile) -> bytes:
    """Compile a profile, or take the result of an earlier time from the cache.

    Returns:
        An array of `struct sock_filter`, 8 bytes each, for seccomp(2).

    Raises:
        InputError: the profile cannot be carried out as it is written; starts with the path of the key.
        HostError: libseccomp is missing or too old.
    """
    check_profile(profile)
    with seccomp_cache.Entry(profile) as entry:
        if entry.content is None:
            entry.content = _translate(profile)
        return entry.content


def filter_flags(profile: SeccompProfile) -> int:
    """Flags for seccomp(SECCOMP_SET_MODE_FILTER); with a listener the call returns its descriptor."""
    flags = functools.reduce(lambda all_, flag: all_ | _FILTER_FLAGS[flag], profile.flags, 0)
    if any(rule.action == "SCMP_ACT_NOTIFY" for rule in profile.syscalls):
        flags |= FILTER_FLAG_NEW_LISTENER
        # The two flags exclude each other unless a failure to synchronise is an errno, not a thread id.
        if flags & _FILTER_FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
            flags |= _FILTER_FLAG_TSYNC_ESRCH
    return flags


def everything_but(index: int, values: frozenset[int]) -> Iterator[Condition]:
    """Conditions of which one holds exactly if the low 32 bits of an argument are none of `values`.

    The kernel takes many arguments as 32-bit numbers and ignores the upper half of the register, so a
    comparison of all 64 bits can be evaded by setting one of those (CVE-2019-7303). libseccomp
    compares masked values for equality only; so the complement is taken apart into aligned blocks.
    """
    blocks = [(0, 0, values)]  # bits decided, their value, which of the values are inside
    while blocks:
        decided, prefix, inside = blocks.pop()
        if not inside:
            mask = (0xFFFFFFFF << (32 - decided)) & 0xFFFFFFFF
            yield Condition(index=index, op="SCMP_CMP_MASKED_EQ", value=mask, value_two=prefix)
        elif decided < 32:  # noqa: PLR2004 — the width named above
            bit = 1 << (31 - decided)
            blocks.append((decided + 1, prefix, frozenset(value for value in inside if not value & bit)))
            blocks.append((decided + 1, prefix | bit, frozenset(value for value in inside if value & bit)))


def equals(index: int, value: int) -> Condition:
    """A condition that holds if the low 32 bits of an argument are `value`."""
    return Condition(index=index, op="SCMP_CMP_MASKED_EQ", value=0xFFFFFFFF, value_two=value)


def without_bits(index: int, bits: int) -> Condition:
    """A condition that holds if an argument has none of these bits."""
    return Condition(index=index, op="SCMP_CMP_MASKED_EQ", value=bits, value_two=0)


def library() -> tuple[int, int, int]:
    """The version of libseccomp.

    Raises:
        HostError: it is missing or older than 2.5, which has no binary tree.
    """
    version = seccomp_cache.library_version()
    if version < (2, 5, 0):
        raise HostError(
            f"libseccomp {'.'.join(map(str, version))} is too old, 2.5 is needed",
            "upgrade the package libseccomp2",
        )
    return version


def _translate(profile: SeccompProfile) -> bytes:
    library()
    # It runs ldconfig when imported; whoever finds the filter in the cache is spared that.
    import pyseccomp as libseccomp  # noqa: PLC0415

    default = _action(libseccomp, profile.default_action, profile.default_errno_ret)
    built = libseccomp.SyscallFilter(default)
    built.set_attr(libseccomp.Attr.ACT_BADARCH, libseccomp.KILL_PROCESS)
    built.set_attr(libseccomp.Attr.CTL_OPTIMIZE, _OPTIMIZE_BINARY_TREE)
    architectures = _add_architectures(libseccomp, built, profile)
    without_effect = outranked(profile)
    for number, rule in enumerate(profile.syscalls):
        names = [name for name in rule.names if (number, name) not in without_effect]
        effective = dataclasses.replace(rule, names=tuple(names))
        _add_rule(libseccomp, built, default, f"linux.seccomp.syscalls[{number}]", effective)
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        built.export_bpf(file)
        file.seek(0)
        program = file.read()
    program = _unknown_calls(libseccomp, profile, architectures) + program
    if len(program) > 8 * MAXIMUM_INSTRUCTIONS:
        count = len(program) // 8
        raise InputError(
            f"linux.seccomp.syscalls: compiled to {count} instructions, over {MAXIMUM_INSTRUCTIONS}",
            "the kernel refuses longer filters; use fewer rules with args",
        )
    return program


def _add_architectures(
    libseccomp: ModuleType, built: SyscallFilter, profile: SeccompProfile
) -> tuple[int, ...]:
    present = [libseccomp.system_arch()]
    for number, name in enumerate(profile.architectures):
        token = getattr(libseccomp.Arch, name.removeprefix("SCMP_ARCH_"), None)
        if token in present:
            continue
        try:
            if token is None:
                raise OSError(errno.EINVAL, "unknown to libseccomp")
            built.add_arch(token)
        except OSError as error:
            raise InputError(
                f"linux.seccomp.architectures[{number}]: {name} cannot be filtered here: {error.strerror}"
            ) from error
        present.append(token)
    return tuple(present)


def _add_rule(libseccomp: ModuleType, built: SyscallFilter, default: int, place: str, rule: Rule) -> None:
    action = _action(libseccomp, rule.action, rule.errno_ret)
    # What happens anyway needs no rule, and libseccomp does not take one.
    if action == default:
        return
    conditions = [
        libseccomp.Arg(
            condition.index,
            getattr(libseccomp, condition.op.removeprefix("SCMP_CMP_")),
            condition.value,
            condition.value_two,
        )
        for condition in rule.args
    ]
    for name in rule.names:
        number = libseccomp.resolve_syscall(libseccomp.Arch.NATIVE, name)
        # Lists name calls newer than the library; those are left to the default action, as runc does.
        # Below -1 are calls of other architectures, for which the library finds the right number.
        if number == -1:
            continue
        try:
            built.add_rule(action, number, *conditions)
        except OSError as error:
            raise InputError(f"{place}.names: {show(name)}: libseccomp says: {error.strerror}") from error


def _action(libseccomp: ModuleType, action: Action, value: int | None) -> int:
    value = errno.EPERM if value is None else value
    if action == "SCMP_ACT_ERRNO":
        return int(libseccomp.ERRNO(value))
    if action == "SCMP_ACT_TRACE":
        return int(libseccomp.TRACE(value))
    return int(getattr(libseccomp, action.removeprefix("SCMP_ACT_")))


def _unknown_calls(libseccomp: ModuleType, profile: SeccompProfile, architectures: tuple[int, ...]) -> bytes:
    """Instructions before the filter that answer ENOSYS to calls above the highest that it names.

    Without them a profile written last year would answer EPERM to this year's calls. Only where
    the default is an error: who asks for a kill or a log means the new ones too.
    """
    if profile.default_action != "SCMP_ACT_ERRNO" or profile.default_errno_ret == errno.ENOSYS:
        return b""
    names = {name for rule in profile.syscalls for name in rule.names}
    checks = b""
    # Built from the end, since jumps only lead forwards: each check needs the length of what follows.
    for architecture in reversed(architectures):
        if architecture == libseccomp.Arch.X32:
            continue  # the kernel reports it as x86-64, told apart by a bit of the number
        highest = _highest(libseccomp, architecture, names)
        if highest < 0:
            continue  # it names no call that exists there, so it says nothing of its age
        tests = [
            _instruction(_LOAD_WORD, _OFFSET_NUMBER),
            _instruction(_JUMP_GREATER, highest, 0, 1),
            _instruction(_RETURN, _RETURN_ERRNO | errno.ENOSYS),
        ]
        if architecture == _AUDIT_ARCH_X86_64:
            tests[1:1] = [_instruction(_JUMP_GREATER_OR_EQUAL, _X32_BIT, 2, 0)]
            if libseccomp.Arch.X32 in architectures:
                highest_x32 = max(_X32_BIT, _highest(libseccomp, libseccomp.Arch.X32, names))
                tests[1:2] = [
                    _instruction(_JUMP_GREATER_OR_EQUAL, _X32_BIT, 0, 1),
                    _instruction(_JUMP_GREATER, highest_x32, 1, 2),
                ]
        section = b"".join(tests) + _instruction(_JUMP_ALWAYS, len(checks) // 8)
        checks = _instruction(_JUMP_EQUAL, architecture, 0, len(section) // 8) + section + checks
    return _instruction(_LOAD_WORD, _OFFSET_ARCHITECTURE) + checks


def _highest(libseccomp: ModuleType, architecture: int, names: set[str]) -> int:
    return max((int(libseccomp.resolve_syscall(architecture, name)) for name in names), default=-1)


def _instruction(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)
