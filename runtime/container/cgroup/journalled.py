"""A control group that is written down before it is made, and gone in the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from typing import Final

from pybench.runtime.container.cgroup.base import Controller, Group, Limits
from pybench.runtime.journal import Journal

_NUMBERS: Final = itertools.count(1)
"""For their names: several sandboxes share a spawning thread."""


def make_group(
    controller: Controller, limits: Limits, journal: Journal, stack: contextlib.ExitStack
) -> Group | None:
    """A group of a fresh name; when the stack is closed, all that is inside is killed and the group removed.

    Returns:
        None where this host has no groups to make.

    Raises:
        HostError: it cannot be made.
    """
    if controller.label == "none":
        return None
    name = f"pybench-{os.getpid()}-{threading.get_native_id()}-{next(_NUMBERS)}"
    for directory in controller.directories(name, limits):
        stack.callback(journal.forget, journal.record("cgroup", path=str(directory)))
    group = controller.create(name, limits)
    stack.callback(group.remove)
    stack.callback(group.kill)
    return group
