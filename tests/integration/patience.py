"""Waiting for what must come about, however busy the host is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil

PATIENCE: Final = 120.0
"""Seconds for what takes a fraction of one on a machine that does nothing else."""


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not reaped yet."""
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return True
