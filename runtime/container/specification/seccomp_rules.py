"""What in `linux.seccomp` would compile into something else than what is written, and so is refused."""

from __future__ import annotations

import errno
import itertools
from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.seccomp import Action, Condition, Rule, SeccompProfile
from pybench.runtime.errors import InputError

HIGHEST_ERRNO: Final = 4095
HIGHEST_TRACE_MESSAGE: Final = 0xFFFF
MAXIMUM_RULES_OF_A_CALL: Final = 512
"""Contradictory rules are looked for pairwise; a filter with more of them would be too long anyway."""
_HIGHEST_ARGUMENT: Final = 2**64 - 1


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
    """Refuse what would compile into something else than what is written.

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
    _check_contradictions(path, profile)
    return tuple(
        f"{path}.syscalls[{number}].names: {show(name)} is decided by syscalls[{winner}], which is stricter"
        for (number, name), winner in outranked(profile).items()
    )


def outranked(profile: SeccompProfile) -> dict[tuple[int, str], int]:
    """Rules without conditions that give way to another one for the same call.

    libseccomp keeps either, without a word. Profiles in use have such rules: Podman's both allows
    setns and refuses it, so the document cannot be refused; the stricter rule holds, of two that are
    equally strict the first.

    Returns:
        Index of the rule and name of the call, with the index of the rule that decides.
    """
    winners: dict[str, int] = {}
    entries = [
        (number, name)
        for number, rule in enumerate(profile.syscalls)
        if not rule.args
        for name in dict.fromkeys(rule.names)
    ]
    for number, name in entries:
        winner = winners.setdefault(name, number)
        if _rank(profile.syscalls[number]) < _rank(profile.syscalls[winner]):
            winners[name] = number
    return {
        (number, name): winners[name]
        for number, name in entries
        if _outcome(profile.syscalls[number]) != _outcome(profile.syscalls[winners[name]])
    }


def _rank(rule: Rule) -> int:
    return _STRICTEST_FIRST.index(rule.action)


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
            "libseccomp cannot require both; write one rule for each to accept either",
        )


def _check_errno(path: str, action: Action, value: int | None) -> None:
    if value is None:
        return
    highest = {"SCMP_ACT_ERRNO": HIGHEST_ERRNO, "SCMP_ACT_TRACE": HIGHEST_TRACE_MESSAGE}.get(action)
    if highest is None:
        raise InputError(f"{path}: {action} has no error number")
    if value > highest:
        raise InputError(f"{path}: {value} is above {highest}, the highest of {action}")


def _check_contradictions(path: str, profile: SeccompProfile) -> None:
    """Refuse rules with conditions of which libseccomp would silently drop one.

    It lets a rule without conditions swallow all others for its call, and which of two conditions
    wins that hold for the same arguments is not said anywhere.
    """
    by_name: dict[str, list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(profile.syscalls):
        for name in dict.fromkeys(rule.names):
            by_name.setdefault(name, []).append((number, rule))
    for name, rules in by_name.items():
        if len({_outcome(rule) for _, rule in rules}) == 1:
            continue
        if len(rules) > MAXIMUM_RULES_OF_A_CALL:
            raise InputError(f"{path}.syscalls: more than {MAXIMUM_RULES_OF_A_CALL} rules for {show(name)}")
        for (first, one), (second, other) in itertools.combinations(rules, 2):
            conditional = one.args or other.args
            if conditional and _outcome(one) != _outcome(other) and not _exclude_each_other(one, other):
                raise InputError(
                    f"{path}.syscalls[{second}].names: {show(name)} contradicts syscalls[{first}]",
                    "both apply to the same call; give them args that exclude each other",
                )


def _outcome(rule: Rule) -> tuple[Action, int | None]:
    if rule.action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} and rule.errno_ret is None:
        return rule.action, errno.EPERM
    return rule.action, rule.errno_ret


def _exclude_each_other(one: Rule, other: Rule) -> bool:
    """Whether some argument cannot meet the conditions of both."""
    return any(
        first.index == second.index and _disjoint(first, second)
        for first in one.args
        for second in other.args
    )


def _disjoint(one: Condition, other: Condition) -> bool:
    (mask, value), (other_mask, other_value) = _fixed_bits(one), _fixed_bits(other)
    if (value ^ other_value) & mask & other_mask:
        return True
    return not any(
        max(low, other_low) <= min(high, other_high)
        for low, high in _ranges(one)
        for other_low, other_high in _ranges(other)
    )


def _fixed_bits(condition: Condition) -> tuple[int, int]:
    """The bits that the condition decides, as mask and value."""
    if condition.op == "SCMP_CMP_MASKED_EQ":
        return condition.value, condition.value_two
    return (_HIGHEST_ARGUMENT, condition.value) if condition.op == "SCMP_CMP_EQ" else (0, 0)


def _ranges(condition: Condition) -> tuple[tuple[int, int], ...]:
    """The values for which the condition may hold, as closed ranges; one with low > high is empty."""
    value = condition.value
    return {
        "SCMP_CMP_NE": ((0, value - 1), (value + 1, _HIGHEST_ARGUMENT)),
        "SCMP_CMP_LT": ((0, value - 1),),
        "SCMP_CMP_LE": ((0, value),),
        "SCMP_CMP_EQ": ((value, value),),
        "SCMP_CMP_GE": ((value, _HIGHEST_ARGUMENT),),
        "SCMP_CMP_GT": ((value + 1, _HIGHEST_ARGUMENT),),
        "SCMP_CMP_MASKED_EQ": ((0, _HIGHEST_ARGUMENT),),
    }[condition.op]
