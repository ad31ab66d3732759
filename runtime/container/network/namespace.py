"""Network namespaces without a name: each exists as long as a descriptor or a process holds it.

Nothing appears in /run/netns, and the kernel removes the namespace and the links in it when its
last holder is gone, however that ended. A namespace made here belongs to the *initial* user
namespace, so the root of a container that is put into it has no power over its links, addresses,
routes and firewall, whatever capabilities it keeps in its own user namespace (user_namespaces(7)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pybench.runtime.container.system_calls import CLONE_NEWNET, setns, unshare


def own_namespace() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def new_namespace() -> int:
    """A descriptor of a new network namespace; the calling thread stays where it is.

    Raises:
        OSError: this user may not make one, or there are too many.
    """
    own = own_namespace()
    try:
        unshare(CLONE_NEWNET)
        try:
            return own_namespace()
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Let the calling thread be in another network namespace; what it clones meanwhile inherits that.

    Threads started meanwhile inherit it too, and keep it.

    Raises:
        OSError: the namespace could not be entered (CAP_SYS_ADMIN is needed) or left.
    """
    own = own_namespace()
    try:
        setns(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
