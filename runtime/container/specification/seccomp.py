"""The vocabulary of `linux.seccomp`: which system calls a container may make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pybench.runtime.container.specification.decode import Between, UInt32, UInt64

Action = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]

Operator = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]

FilterFlag = Literal[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]

Architecture = Literal[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What one argument of a system call must be for a rule to apply."""

    index: Annotated[int, Between(0, 5)]
    value: UInt64
    """What to compare with; for SCMP_CMP_MASKED_EQ the mask."""
    value_two: UInt64 = 0
    """For SCMP_CMP_MASKED_EQ what the masked argument must equal; else unused."""
    op: Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens to calls of these names whose arguments meet all conditions."""

    names: tuple[str, ...]
    action: Action
    errno_ret: UInt32 | None = None
    """Of SCMP_ACT_ERRNO the error, of SCMP_ACT_TRACE the message; EPERM where not given."""
    args: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompProfile:
    """One filter. Calls of an architecture that is neither listed nor the native one are fatal."""

    default_action: Action
    default_errno_ret: UInt32 | None = None
    architectures: tuple[Architecture, ...] = ()
    flags: tuple[FilterFlag, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Rule, ...] = ()
