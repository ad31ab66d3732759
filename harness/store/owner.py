"""Who carries a run out, so that a run that goes on can be told from one whose process died."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


def this_process() -> dict[str, str | int | float]:
    """Host, boot, pid and the time of the process's creation."""
    import psutil  # noqa: PLC0415 - only for runs that go on

    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
    }


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to be gone; an owner on another host cannot be asked and counts as alive."""
    if owner["host"] != socket.gethostname():
        return False
    if owner["boot"] != _boot_id():
        return True
    import psutil  # noqa: PLC0415 - only for runs that go on

    try:
        # A pid may have been given to another process since; the time of its creation tells.
        return abs(psutil.Process(owner["pid"]).create_time() - float(owner["created"])) > 1.0
    except psutil.NoSuchProcess:
        return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
