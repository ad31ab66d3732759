"""What in `linux.seccomp` has no meaning, and so is refused, or has no effect, and so is warned of."""

from __future__ import annotations

import errno
from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.seccomp import Action, Rule, SeccompProfile
from pybench.runtime.errors import InputError

HIGHEST_ERRNO: Final = 4095
HIGHEST_TRACE_MESSAGE: Final = 0xFFFF

_STRICTEST_FIRST: Final[tuple[Action, ...]] = (
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
)
"""The kernel's own order of precedence between filters, see seccomp(2)."""


def check_profile(profile: SeccompProfile) -> tuple[str, ...]:
    """Refuse what has no meaning.

    Returns:
        A warning for each rule that gives way to a stricter one.

    Raises:
        InputError: starts with the path of the key.
    """
    path = "linux.seccomp"
    _check_errno(f"{path}.defaultErrnoRet", profile.default_action, profile.default_errno_ret)
    if profile.default_action == "SCMP_ACT_NOTIFY":
        raise InputError(
            f"{path}.defaultAction: SCMP_ACT_NOTIFY would also stop the calls that hand over the listener"
        )
    if profile.listener_metadata and not profile.listener_path:
        raise InputError(f"{path}.listenerMetadata: needs listenerPath, where it is sent")
    if profile.listener_path and not profile.listener_path.startswith("/"):
        raise InputError(f"{path}.listenerPath: {show(profile.listener_path)} is not an absolute path")
    notified = False
    for number, rule in enumerate(profile.syscalls):
        place = f"{path}.syscalls[{number}]"
        _check_rule(place, rule)
        notified |= rule.action == "SCMP_ACT_NOTIFY"
        if rule.action == "SCMP_ACT_NOTIFY" and not profile.listener_path:
            raise InputError(f"{place}.action: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath")
    if not notified and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in profile.flags:
        raise InputError(
            f"{path}.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY"
        )
    return tuple(
        f"{path}.syscalls[{number}].names: {show(name)} is decided by syscalls[{winner}], which is stricter"
        for (number, name), winner in _outranked(profile).items()
    )


def _outranked(profile: SeccompProfile) -> dict[tuple[int, str], int]:
    """Rules that can never decide, since a stricter one holds whatever the arguments.

    Profiles in use have such rules: Podman's both allows setns and refuses it.

    Returns:
        Index of the rule and name of the call, with the index of the rule that decides.
    """
    entries = [
        (number, name) for number, rule in enumerate(profile.syscalls) for name in dict.fromkeys(rule.names)
    ]
    winners: dict[str, int] = {}
    for number, name in entries:
        if not profile.syscalls[number].args:
            winners[name] = min(winners.get(name, number), number, key=lambda index: _rank(profile, index))
    return {
        (number, name): winners[name]
        for number, name in entries
        if name in winners
        and _rank(profile, number) > _rank(profile, winners[name])
        and _outcome(profile.syscalls[number]) != _outcome(profile.syscalls[winners[name]])
    }


def _rank(profile: SeccompProfile, number: int) -> tuple[int, int]:
    """Of two equally strict rules the first decides."""
    return _STRICTEST_FIRST.index(profile.syscalls[number].action), number


def _check_rule(place: str, rule: Rule) -> None:
    if not rule.names:
        raise InputError(f"{place}.names: is empty")
    _check_errno(f"{place}.errnoRet", rule.action, rule.errno_ret)
    indexes = [condition.index for condition in rule.args]
    twice = next((index for index in indexes if indexes.count(index) > 1), None)
    if twice is not None:
        # runc takes them as alternatives, which makes a range such as [GE 5, LE 10] match anything.
        raise InputError(
            f"{place}.args: two conditions for argument {twice}",
            "write one rule for each to accept either",
        )


def _check_errno(path: str, action: Action, value: int | None) -> None:
    if value is None:
        return
    highest = {"SCMP_ACT_ERRNO": HIGHEST_ERRNO, "SCMP_ACT_TRACE": HIGHEST_TRACE_MESSAGE}.get(action)
    if highest is None:
        raise InputError(f"{path}: {action} has no error number")
    if value > highest:
        raise InputError(f"{path}: {value} is above {highest}, the highest of {action}")


def _outcome(rule: Rule) -> tuple[Action, int | None]:
    if rule.action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} and rule.errno_ret is None:
        return rule.action, errno.EPERM
    return rule.action, rule.errno_ret
