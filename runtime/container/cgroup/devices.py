"""Which devices a group may use: `linux.resources.devices` for both versions.

A rule says something about reading, writing and making nodes (`rwm`) of the devices that it matches.
Each of the three is decided by the last rule that matches; what no rule decides is denied. Version 2
asks a program (bpf_cgroup_dev_ctx in include/uapi/linux/bpf.h). Version 1 has a default and a list of
exceptions to it (Documentation/admin-guide/cgroup-v1/devices.rst), with which not every order of rules
can be said; those are refused, for otherwise a device would be usable that a rule denies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pybench.runtime.container.cgroup import bpf
from pybench.runtime.container.specification.resources import DeviceRule
from pybench.runtime.errors import HostError, InputError

PATH: Final = "linux.resources.devices"

_NODES: Final = (
    *((1, 3), (1, 5), (1, 7), (1, 8), (1, 9)),  # null, zero, full, random, urandom
    *((5, 0), (5, 1), (5, 2), (136, None)),  # tty, console, ptmx, pts/*
)
ALWAYS_ALLOWED: Final = (
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(DeviceRule(allow=True, type="c", major=major, minor=minor) for major, minor in _NODES),
)
"""To be appended to the rules of a specification, as runc does: what every container has in /dev.

Nodes of any device may be made, for their use is what the rules are about.
"""

_ALL: Final = frozenset("rwm")
_BITS: Final = {"m": 1, "r": 2, "w": 4}
"""BPF_DEVCG_ACC_MKNOD, _READ, _WRITE."""
_TYPES: Final = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_BLOCK, _CHAR."""
_TYPE, _UNDECIDED, _MAJOR, _MINOR = 2, 3, 4, 5
"""Registers of the program."""

_Devices = tuple[str, int | None, int | None]
"""Type, major and minor number; None means any."""


def hold_version1(directory: Path, rules: Sequence[DeviceRule]) -> None:
    """Write the rules to a new group of the `devices` hierarchy.

    Raises:
        InputError: version 1 cannot say them; starts with the path of the rule.
        HostError: the kernel refused, such as a device that the group above may not use.
    """
    for file, line in version1_lines(rules):
        try:
            (directory / file).write_text(line, encoding="ascii")
        except OSError as error:
            raise HostError(
                f"{PATH}: writing {line!r} to {directory / file}: {error.strerror}",
                "a group can have no device that the group above it has not",
            ) from error


def hold_version2(group: int, rules: Sequence[DeviceRule]) -> None:
    """Attach the rules as a program to a group, given by a descriptor of its directory.

    Raises:
        HostError: the kernel refused.
    """
    try:
        bpf.attach_device_filter(version2_program(rules), group)
    except HostError as error:
        raise HostError(f"{PATH}: {error.message}", error.hint) from error


def version1_lines(rules: Sequence[DeviceRule]) -> tuple[tuple[str, str], ...]:
    """File and line of each write.

    Raises:
        InputError: version 1 cannot say it; starts with the path of the rule.
    """
    allowed, exceptions = _default_and_exceptions(rules)
    if not allowed:
        _join(exceptions)
    default, exception = ("devices.allow", "devices.deny") if allowed else ("devices.deny", "devices.allow")
    lines = [(default, "a")]
    for (kind, major, minor), access in exceptions.items():
        letters = "".join(letter for letter in "rwm" if letter in access)
        lines.append((exception, f"{kind} {_shown(major)}:{_shown(minor)} {letters}"))
    return tuple(lines)


def version2_program(rules: Sequence[DeviceRule]) -> bytes:
    """Instructions that return 1 if the access is allowed.

    From the last rule to the first, each takes the accesses that it allows out of those still undecided;
    one that denies an undecided access ends it.
    """
    parts = [
        bpf.load_word(_TYPE, 1, 0),
        bpf.move_register(_UNDECIDED, _TYPE),
        bpf.keep_bits(_TYPE, 0xFFFF),
        bpf.shift_right(_UNDECIDED, 16),
        bpf.load_word(_MAJOR, 1, 4),
        bpf.load_word(_MINOR, 1, 8),
    ]
    parts += [_version2_rule(rule) for rule in reversed(rules)]
    return b"".join((*parts, bpf.leave(0)))


def _version2_rule(rule: DeviceRule) -> bytes:
    bits = sum(_BITS[letter] for letter in set(rule.access))
    if rule.allow:
        body = [bpf.keep_bits(_UNDECIDED, 0xFFFF & ~bits), bpf.jump_if_not(_UNDECIDED, 0, 2), bpf.leave(1)]
    else:
        body = [bpf.jump_if_any(_UNDECIDED, bits, 1), bpf.jump(2), bpf.leave(0)]
    # Of a rule's own: both bodies have four instructions.
    remaining = 4
    matches: list[bytes] = []
    _, major, minor = _devices_of(rule, rule.type)
    for register, wanted in ((_MINOR, minor), (_MAJOR, major), (_TYPE, _TYPES.get(rule.type))):
        if wanted is not None:
            matches.insert(0, bpf.jump_if_not(register, wanted, remaining))
            remaining += 1
    return b"".join((*matches, *body))


def _default_and_exceptions(rules: Sequence[DeviceRule]) -> tuple[bool, dict[_Devices, frozenset[str]]]:
    default = False
    exceptions: dict[_Devices, frozenset[str]] = {}
    for number, rule in enumerate(rules):
        access = frozenset(rule.access)
        if _devices_of(rule, rule.type) == ("a", None, None) and access == _ALL:
            default, exceptions = rule.allow, {}
            continue
        for kind in "bc" if rule.type == "a" else rule.type:
            devices = _devices_of(rule, kind)
            if rule.allow == default:
                _take_back(exceptions, devices, access, number)
            else:
                exceptions[devices] = exceptions.get(devices, frozenset()) | access
    return default, exceptions


def _take_back(
    exceptions: dict[_Devices, frozenset[str]], devices: _Devices, access: frozenset[str], number: int
) -> None:
    """Let the default apply to these devices again."""
    for other, held in list(exceptions.items()):
        if not held & access or (common := _common(other, devices)) is None:
            continue
        if common != other:
            raise InputError(
                f"{PATH}[{number}]: version 1 of control groups cannot except devices from an earlier, wider "
                f"rule ({other[0]} {_shown(other[1])}:{_shown(other[2])})",
                "name the devices of the earlier rule one by one",
            )
        exceptions[other] = held - access
        if not exceptions[other]:
            del exceptions[other]


def _join(exceptions: dict[_Devices, frozenset[str]]) -> None:
    """Let one exception say all that is allowed: the kernel wants a single one to cover the whole access."""
    overlaps = {_common(one, other) for one in exceptions for other in exceptions} - {None}
    for devices in overlaps:
        if devices is not None:
            covering = [held for other, held in exceptions.items() if _common(devices, other) == devices]
            exceptions[devices] = frozenset().union(*covering)


def _common(one: _Devices, other: _Devices) -> _Devices | None:
    """The devices that are in both; None if there are none."""
    common: list[int | None] = []
    for first, second in zip(one[1:], other[1:], strict=True):
        if first is not None and second is not None and first != second:
            return None
        common.append(second if first is None else first)
    return (one[0], common[0], common[1]) if one[0] == other[0] else None


def _devices_of(rule: DeviceRule, kind: str) -> _Devices:
    """-1 is another way to say any."""
    return kind, None if rule.major == -1 else rule.major, None if rule.minor == -1 else rule.minor


def _shown(number: int | None) -> str:
    return "*" if number is None else str(number)
