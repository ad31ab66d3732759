"""Namespaces that exist already: entered by the spawning thread, so that a child is born inside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pybench.runtime.container import system_calls
from pybench.runtime.container.specification.linux import Namespace
from pybench.runtime.container.specification.namespaces import FLAGS
from pybench.runtime.errors import HostError, InputError

_FILES: Final = {
    "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "pid": "pid_for_children",
}  # fmt: skip
"""Those that a thread can enter by itself (setns(2)), and where /proc names its own."""


def enterable(namespaces: Iterable[Namespace]) -> tuple[Namespace, ...]:
    """Those with a path.

    Raises:
        InputError: one of a kind that no thread of a process can enter.
    """
    wanted = tuple(namespace for namespace in namespaces if namespace.path)
    for namespace in wanted:
        if namespace.type not in _FILES:
            raise InputError(
                f"linux.namespaces: the {namespace.type} namespace {namespace.path} cannot be joined",
                f"joined can be: {', '.join(_FILES)}",
            )
    return wanted


@contextlib.contextmanager
def entered(namespaces: Iterable[Namespace]) -> Iterator[None]:
    """Be in these namespaces, and in the own ones again afterwards; in the spawning thread.

    Raises:
        HostError: one is gone, is of another kind, or may not be entered.
    """
    with contextlib.ExitStack() as stack:
        for namespace in namespaces:
            own = _open(stack, Path("/proc/thread-self/ns", _FILES[namespace.type]))
            try:
                other = _open(stack, Path(namespace.path))
                system_calls.setns(other, FLAGS[namespace.type])
            except OSError as error:
                raise HostError(
                    f"linux.namespaces: cannot join the {namespace.type} namespace {namespace.path}: "
                    f"{error.strerror}"
                ) from error
            stack.callback(system_calls.setns, own, FLAGS[namespace.type])
        yield


def _open(stack: contextlib.ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
