"""System call filters: from a profile or policy to the program that the kernel runs."""

from __future__ import annotations

import functools
from typing import Final

from pybench.runtime.container.seccomp import cache
from pybench.runtime.container.seccomp.calls import intervals_by_architecture
from pybench.runtime.container.seccomp.policy import KILL_PROCESS, Policy, policy_of
from pybench.runtime.container.seccomp.program import write_program
from pybench.runtime.container.specification.seccomp import SeccompProfile
from pybench.runtime.container.specification.seccomp_rules import check_profile
from pybench.runtime.errors import InputError

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


def compile_filter(source: SeccompProfile | Policy) -> bytes:
    """Compile a profile in OCI's vocabulary, or a policy of ours.

    Returns:
        An array of `struct sock_filter`, 8 bytes each, for seccomp(2).

    Raises:
        InputError: the profile cannot be carried out as it is written; starts with the path of the key.
        HostError: libseccomp is missing or too old.
    """
    if isinstance(source, SeccompProfile):
        check_profile(source)
    with cache.Entry(source) as entry:
        if entry.content is None:
            entry.content = _translate(_policy(source))
        return entry.content


def filter_flags(source: SeccompProfile | Policy) -> int:
    """Flags for seccomp(SECCOMP_SET_MODE_FILTER); with a listener the call returns its descriptor."""
    policy = _policy(source)
    flags = functools.reduce(lambda all_, flag: all_ | _FILTER_FLAGS[flag], policy.flags, 0)
    if policy.notifies:
        flags |= FILTER_FLAG_NEW_LISTENER
        # The two flags exclude each other unless a failure to synchronise is an errno, not a thread id.
        if flags & _FILTER_FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
            flags |= _FILTER_FLAG_TSYNC_ESRCH
    return flags


def _policy(source: SeccompProfile | Policy) -> Policy:
    return policy_of(source) if isinstance(source, SeccompProfile) else source


def _translate(policy: Policy) -> bytes:
    program = write_program(intervals_by_architecture(policy), KILL_PROCESS)
    if len(program) > 8 * MAXIMUM_INSTRUCTIONS:
        count = len(program) // 8
        raise InputError(
            f"linux.seccomp.syscalls: compiled to {count} instructions, over {MAXIMUM_INSTRUCTIONS}",
            "the kernel refuses longer filters; use fewer rules with args",
        )
    return program
