"""What a filter decides, before it is a program: of each call's clauses the first that holds."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pybench.runtime.container.specification.seccomp import Action, Condition, FilterFlag, SeccompProfile

# <linux/seccomp.h>
_RETURNED: Final[Mapping[Action, int]] = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
KILL_PROCESS: Final = _RETURNED["SCMP_ACT_KILL_PROCESS"]
NO_SUCH_CALL: Final = _RETURNED["SCMP_ACT_ERRNO"] | errno.ENOSYS


@dataclass(frozen=True, slots=True)
class Clause:
    """An outcome, and what the arguments must be for it; all conditions must hold."""

    returned: int
    """What the filter returns to the kernel."""
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A filter's decisions, independent of the numbers that calls have."""

    default: int
    """What the filter returns where no clause of a call holds, and for calls without any."""
    calls: Mapping[str, tuple[Clause, ...]]
    foreign: tuple[str, ...] = ()
    """Architectures that may be used besides the native one, as `SCMP_ARCH_…`."""
    flags: tuple[FilterFlag, ...] = ()

    @property
    def notifies(self) -> bool:
        """Whether some call is answered by a listener."""
        listener = _RETURNED["SCMP_ACT_NOTIFY"]
        return any(clause.returned == listener for clauses in self.calls.values() for clause in clauses)

    @property
    def refuses_unnamed(self) -> bool:
        """Whether unnamed calls get an error. Who asks for a kill or a log means newer calls too."""
        return self.default & 0xFFFF0000 == _RETURNED["SCMP_ACT_ERRNO"]


def outcome(action: Action, value: int | None = None) -> int:
    """What a filter returns for an action; `value` is the error or the message, EPERM where not given."""
    if action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}:
        return _RETURNED[action] | (errno.EPERM if value is None else value)
    return _RETURNED[action]


def strictness(returned: int) -> int:
    """A key that sorts outcomes as the kernel ranks them, the strictest first: as signed numbers."""
    action = returned & 0xFFFF0000
    return action - (1 << 32) if action & 0x80000000 else action


def policy_of(profile: SeccompProfile) -> Policy:
    """The policy of an OCI profile.

    The profile has no order, and libseccomp, for which it was made, keeps silently one of two rules
    for the same call. Here the strictest of those that hold decides, of two equally strict ones
    the first, which is how the kernel combines filters. Podman's profile, say, allows setns and refuses it.
    """
    calls: dict[str, list[Clause]] = {}
    for rule in profile.syscalls:
        clause = Clause(outcome(rule.action, rule.errno_ret), rule.args)
        for name in dict.fromkeys(rule.names):
            calls.setdefault(name, []).append(clause)
    return Policy(
        outcome(profile.default_action, profile.default_errno_ret),
        {name: _until_certain(clauses) for name, clauses in calls.items()},
        tuple(profile.architectures),
        profile.flags,
    )


def _until_certain(clauses: Iterable[Clause]) -> tuple[Clause, ...]:
    """In the order of strictness, without those behind one that always holds."""
    kept: list[Clause] = []
    for clause in sorted(clauses, key=lambda clause: strictness(clause.returned)):
        kept.append(clause)
        if not clause.conditions:
            break
    return tuple(kept)
