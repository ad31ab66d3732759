"""Where the host's kernel puts the cores of processes that crash (core(5))."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")


def core_pattern() -> str:
    """The host's, which all containers share; empty where its kernel writes no cores."""
    try:
        return _PATTERN.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def is_given_to_a_program(pattern: str) -> bool:
    """Whether cores go to a program that the kernel starts as root, or to a socket of one."""
    return pattern.startswith(("|", "@"))
