"""Names of resource limits."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

_WITHOUT_PREFIX: Final = """
    CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
RLIMITS: Final = MappingProxyType(
    {f"RLIMIT_{name}": number for number, name in enumerate(_WITHOUT_PREFIX.split())}
)
"""Their numbers in <asm-generic/resource.h>: those of x86-64 and aarch64."""
