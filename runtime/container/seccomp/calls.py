"""Numbers of system calls: what names mean to each architecture that this machine's kernel knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pybench.runtime.container.seccomp.cache import library_version
from pybench.runtime.container.seccomp.policy import KILL_PROCESS, NO_SUCH_CALL, Clause, Policy, strictness
from pybench.runtime.container.seccomp.program import HIGHEST_NUMBER, Clauses, Interval
from pybench.runtime.container.specification.seccomp import Condition
from pybench.runtime.errors import HostError, InputError

# <linux/audit.h>
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_AUDIT_ARCH_I386: Final = 0x40000003
_X32_BIT: Final = 0x40000000
"""The kernel reports x32 as x86-64, told apart by this bit of the number."""

NATIVE: Final = "SCMP_ARCH_X86_64"
_X32: Final = "SCMP_ARCH_X32"
_I386: Final = "SCMP_ARCH_X86"


def _numbers(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), start=first)}


# <linux/net.h> and <linux/ipc.h>
_SOCKETCALL: Final = _numbers(
    """socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom
    shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg""",
    1,
)
_IPC: Final = {
    **_numbers("semop semget semctl semtimedop", 1),
    **_numbers("msgsnd msgrcv msgget msgctl", 11),
    **_numbers("shmat shmdt shmget shmctl", 21),
}
_MULTIPLEXED: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {name: ("socketcall", number) for name, number in _SOCKETCALL.items()}
    | {name: ("ipc", number) for name, number in _IPC.items()}
)
"""i386 reaches these also through a call whose first argument says which one is meant."""
_DIRECT: Final[Mapping[str, int]] = MappingProxyType(
    # arch/x86/entry/syscalls/syscall_32.tbl; libseccomp gives those of _MULTIPLEXED a negative number.
    {
        "recvmmsg": 337,
        "sendmmsg": 345,
        **_numbers(
            """socket socketpair bind connect listen accept4 getsockopt setsockopt getsockname getpeername
            sendto sendmsg recvfrom recvmsg shutdown""",
            359,
        ),
        **_numbers("semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl", 393),
    }
)


def intervals_by_architecture(policy: Policy) -> dict[int, list[Interval]]:
    """What a policy decides for each number of each architecture it allows.

    Raises:
        InputError: this machine never makes calls of an architecture; starts with the path of the key.
        HostError: libseccomp, which knows the numbers, is missing or too old.
    """
    for number, name in enumerate(policy.foreign):
        if name not in {NATIVE, _X32, _I386}:
            raise InputError(
                f"linux.seccomp.architectures[{number}]: {name} cannot be filtered here: "
                "this machine runs programs of x86-64, x32 and i386 only"
            )
    native = _decisions(policy, NATIVE)
    x32 = (
        _decisions(policy, _X32) if _X32 in policy.foreign else [Interval(_X32_BIT, (Clause(KILL_PROCESS),))]
    )
    found = {
        _AUDIT_ARCH_X86_64: [
            *native,
            *x32,
            # A tracer that has a call skipped sets its number to -1, which is none of x32.
            Interval(HIGHEST_NUMBER, (Clause(policy.default),)),
        ]
    }
    if _I386 in policy.foreign:
        found[_AUDIT_ARCH_I386] = _decisions(policy, _I386)
    return found


def _decisions(policy: Policy, architecture: str) -> list[Interval]:
    """Intervals of the numbers of one architecture, neighbours with equal clauses made one."""
    numbered = _numbered(policy, architecture)
    default: Clauses = (Clause(policy.default),)
    # A profile written last year would answer EPERM to this year's calls, and a C library gives up on
    # that, while ENOSYS makes it fall back to an older call. If it names no call that exists here, it
    # says nothing of its age.
    newer: Clauses = default
    if policy.refuses_unnamed and numbered:
        newer = (Clause(NO_SUCH_CALL),)
    base = _X32_BIT if architecture == _X32 else 0
    intervals = [Interval(base, default)]
    for point in sorted(numbered):
        if point > intervals[-1].first:
            intervals.append(Interval(point, numbered[point]))
        else:
            intervals[-1] = Interval(point, numbered[point])
        intervals.append(Interval(point + 1, default))
    intervals[-1] = Interval(intervals[-1].first, newer)
    return list(_merged(intervals))


def _merged(intervals: list[Interval]) -> Iterator[Interval]:
    """Without those that decide as the one before."""
    decided: Clauses | None = None
    for interval in intervals:
        if interval.clauses != decided:
            decided = interval.clauses
            yield interval


def _numbered(policy: Policy, architecture: str) -> dict[int, Clauses]:
    library()
    # It runs ldconfig when imported; whoever finds the filter in the cache is spared that.
    import pyseccomp as libseccomp  # noqa: PLC0415

    token = getattr(libseccomp.Arch, architecture.removeprefix("SCMP_ARCH_"))
    found: dict[int, Clauses] = {}
    multiplexed: dict[str, list[Clause]] = {}
    for name, clauses in policy.calls.items():
        complete = (*clauses, Clause(policy.default)) if clauses[-1].conditions else clauses
        # Lists name calls newer than the library; those are left to the default, as runc does.
        number = libseccomp.resolve_syscall(token, name)
        if architecture == _I386 and name in _MULTIPLEXED:
            number = _DIRECT.get(name, number)
            call, function = _MULTIPLEXED[name]
            multiplexed.setdefault(call, []).append(_unseen(function, clauses, policy.default))
        if number >= 0:
            found[number] = complete
    for call, unseen in multiplexed.items():
        # Whoever names the multiplexing call itself has decided.
        found.setdefault(libseccomp.resolve_syscall(token, call), (*unseen, Clause(policy.default)))
    return found


def _unseen(function: int, clauses: Clauses, default: int) -> Clause:
    """What a multiplexed call does: the strictest it may, since its arguments lie in memory, unseen."""
    possible = [clause.returned for clause in clauses]
    if clauses[-1].conditions:
        possible.append(default)
    which = Condition(index=0, op="SCMP_CMP_MASKED_EQ", value=0xFFFFFFFF, value_two=function)
    return Clause(min(possible, key=strictness), (which,))


def library() -> tuple[int, int, int]:
    """The version of libseccomp.

    Raises:
        HostError: it is missing or older than 2.5, which does not know the calls of today.
    """
    version = library_version()
    if version < (2, 5, 0):
        raise HostError(
            f"libseccomp {'.'.join(map(str, version))} is too old, 2.5 is needed",
            "upgrade the package libseccomp2",
        )
    return version
