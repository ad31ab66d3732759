"""Namespaces by name, and which sysctls each of them has for itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from pybench.runtime.container import system_calls
from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.linux import Namespace
from pybench.runtime.errors import InputError

FLAGS: Final = MappingProxyType(
    {
        "pid": system_calls.CLONE_NEWPID,
        "network": system_calls.CLONE_NEWNET,
        "mount": system_calls.CLONE_NEWNS,
        "ipc": system_calls.CLONE_NEWIPC,
        "uts": system_calls.CLONE_NEWUTS,
        "user": system_calls.CLONE_NEWUSER,
        "cgroup": system_calls.CLONE_NEWCGROUP,
        "time": system_calls.CLONE_NEWTIME,
    }
)

_SYSCTLS: Final = (
    ("network", re.compile(r"net/.+")),
    ("ipc", re.compile(r"kernel/(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)")),
    ("ipc", re.compile(r"fs/mqueue/.+")),
    ("uts", re.compile(r"kernel/(hostname|domainname)")),
)
_COMPONENT: Final = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.:@-]+", re.ASCII)


def clone_flags(namespaces: Iterable[Namespace]) -> int:
    """The CLONE_NEW* flags of the namespaces to make; those with a path are joined instead."""
    flags = 0
    for namespace in namespaces:
        if not namespace.path:
            flags |= FLAGS[namespace.type]
    return flags


def sysctl_path(name: str) -> str | None:
    """Where a sysctl is beneath /proc/sys; None if that is not a name of one.

    As in sysctl(8): if the first separator is a dot, then dots separate and slashes stand for dots, as in
    `net.ipv4.conf.eth0/100.forwarding`; else slashes separate.
    """
    first = re.search(r"[./]", name)
    if first and first[0] == ".":
        name = name.translate(str.maketrans("./", "/."))
    components = name.split("/")
    valid = len(components) > 1 and all(_COMPONENT.fullmatch(component) for component in components)
    return name if valid else None


def check_sysctl(name: str, namespaces: Iterable[Namespace], path: str) -> str:
    """Where to write a sysctl, beneath /proc/sys, if it belongs to a namespace of the container.

    Raises:
        InputError: it would change the host, or is no name; starts with `path`.
    """
    place = sysctl_path(name)
    if place is None:
        raise InputError(f"{path}: {show(name)} is not the name of a sysctl")
    owner = next((kind for kind, pattern in _SYSCTLS if pattern.fullmatch(place)), None)
    if owner is None:
        raise InputError(f"{path}: {show(name)} belongs to no namespace, it would change the host")
    if all(namespace.type != owner for namespace in namespaces):
        raise InputError(
            f"{path}: {show(name)} needs the namespace {owner!r}, or it would change the host",
            "add it to linux.namespaces",
        )
    return place
