"""Names of capabilities, and the bit sets that capset(2) takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.model import Capabilities
from pybench.runtime.errors import InputError

_WITHOUT_PREFIX: Final = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES: Final = tuple(f"CAP_{name}" for name in _WITHOUT_PREFIX.split())
"""In the order of their numbers in <linux/capability.h>."""
_NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}


@dataclass(frozen=True, slots=True)
class CapabilitySets:
    """The five sets of a process, one bit for each capability."""

    bounding: int = 0
    effective: int = 0
    inheritable: int = 0
    permitted: int = 0
    ambient: int = 0


def to_bits(names: Iterable[str], path: str) -> int:
    """The bit set of some names.

    Raises:
        InputError: one is unknown; starts with its path.
    """
    bits = 0
    for number, name in enumerate(names):
        if name not in _NUMBERS:
            raise InputError(
                f"{path}[{number}]: {show(name)} is not a capability", "capabilities(7) lists them"
            )
        bits |= 1 << _NUMBERS[name]
    return bits


def to_names(bits: int) -> tuple[str, ...]:
    """The names in a bit set; bits without a name are left out."""
    return tuple(name for name, number in _NUMBERS.items() if bits >> number & 1)


def capability_sets(
    capabilities: Capabilities, path: str = "process.capabilities"
) -> tuple[CapabilitySets, tuple[str, ...]]:
    """The bit sets of a process, and warnings about what the kernel would not grant.

    A capability can be ambient only while it is permitted and inheritable (capabilities(7)). Tools,
    `runc spec` among them, list others too; those are left out, as other runtimes do, with a warning.

    Raises:
        InputError: an unknown name, or an effective capability that is not permitted.
    """
    bounding, effective, inheritable, permitted, ambient = (
        to_bits(getattr(capabilities, name), f"{path}.{name}")
        for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
    )
    if lacking := to_names(effective & ~permitted):
        raise InputError(f"{path}.effective: {', '.join(lacking)} must be in {path}.permitted too")
    warnings = tuple(
        f"{path}.ambient: {name} is not both permitted and inheritable; left out"
        for name in to_names(ambient & ~(permitted & inheritable))
    )
    ambient &= permitted & inheritable
    return CapabilitySets(bounding, effective, inheritable, permitted, ambient), warnings
