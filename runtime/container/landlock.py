"""Landlock scopes: what holds even where a namespace is shared (landlock(7)).

A process in a domain of its own can neither connect to an abstract socket nor send a signal to a
process outside it. Rules on files are not used: the container's root is read-only, mounted apart
from the host's tree and all that it can name; such rules would be checked at every open and add nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Final

from pybench.runtime.container.spawn.steps import Scopes, Step

SCOPES: Final = {"abstract unix sockets": 1 << 0, "signals": 1 << 1}
"""What can be confined, with its flag LANDLOCK_SCOPE_… of <linux/landlock.h> (interface version 6)."""

_SYS_LANDLOCK_CREATE_RULESET: Final = 444
_CREATE_RULESET_VERSION: Final = 1


class _RulesetAttributes(ctypes.Structure):
    """struct landlock_ruleset_attr as of interface version 6.

    An older kernel takes it as long as what it does not know is zero, and answers E2BIG otherwise.
    """

    _fields_ = (("file_system", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def interface_version() -> int:
    """The kernel's interface version.

    Raises:
        OSError: it has no Landlock (ENOSYS), or has it switched off (EOPNOTSUPP).
    """
    return _create_ruleset(None, _CREATE_RULESET_VERSION)


@functools.cache
def available_scopes() -> tuple[str, ...]:
    """Which of `SCOPES` this kernel has, found out by making a set of rules with each; none is applied."""
    found = []
    for name, flag in SCOPES.items():
        try:
            os.close(_create_ruleset(_RulesetAttributes(0, 0, flag), 0))
        except OSError:
            continue
        found.append(name)
    return tuple(found)


def scope_steps() -> tuple[Step, ...]:
    """Leave nothing reachable outside, by any scope there is; after NoNewPrivileges, before the filter.

    Only for the process that founds the container. A domain of its own would keep a program that
    joins later from signalling the others, which `exec` is often used for.
    """
    scopes = sum(SCOPES[name] for name in available_scopes())
    return (Scopes(scopes),) if scopes else ()


def _create_ruleset(attributes: _RulesetAttributes | None, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(
        ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET),
        None if attributes is None else ctypes.byref(attributes),
        ctypes.c_size_t(0 if attributes is None else ctypes.sizeof(attributes)),
        ctypes.c_uint(flags),
    )
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock_create_ruleset: {os.strerror(error)}")
    return result
