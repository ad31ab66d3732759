"""State directories of processes that run tests side by side: each has its own, and none outlives them.

Run as a program with such a directory, it removes what the journals in it tell of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from pybench.runtime.container.network.bridge import NAME_PATTERN, NAME_PREFIX
from pybench.runtime.container.system_calls import (
    AT_FDCWD,
    CLONE_NEWNS,
    MS_PRIVATE,
    mount,
    mount_setattr,
    unshare,
)
from pybench.runtime.journal import open_journal, state_directory
from pybench.runtime.leftovers import remove_leftovers

PREFIX = "tests-"
"""What the name of such a directory begins with; the pid follows."""
_MS_BIND = 4096


def is_anothers(name: str) -> bool:
    """Whether a group or link belongs to another run that still goes on: its name has the maker's pid."""
    link = re.fullmatch(rf"({NAME_PATTERN})(-\d+)?", name)
    pid = name[len(NAME_PREFIX) :][:6] if link else ""
    maker = int(pid, 16) if link else next((int(word) for word in name.split("-") if word.isdigit()), 0)
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return maker not in own and psutil.pid_exists(maker)


def separate() -> None:
    """Give this process mounts and a state directory of its own.

    The directory is one of the host's: a process that is killed leaves its journals there.
    """
    # A journal that is held keeps others from removing what is above it.
    with open_journal():
        own = state_directory() / f"{PREFIX}{os.getpid()}"
        own.mkdir(mode=0o711)
    _use(own)


def clean_up() -> None:
    """Remove what processes that are no more have left, and their directories.

    Where that fails the reason is printed, and the directory stays for the next attempt.
    """
    with _alone():
        for folder in state_directory().glob(f"{PREFIX}*"):
            if not psutil.pid_exists(int(folder.name.removeprefix(PREFIX))):
                done = subprocess.run([sys.executable, __file__, str(folder)], check=False)
                if done.returncode == 0:
                    shutil.rmtree(folder)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Other tests of this host may be at the same point."""
    descriptor = os.open(state_directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _use(folder: Path) -> None:
    unshare(CLONE_NEWNS)
    mount_setattr(AT_FDCWD, "/", propagation=MS_PRIVATE, recursive=True)
    mount(str(folder), str(state_directory()), "", _MS_BIND, "")


if __name__ == "__main__":
    _use(Path(sys.argv[1]))
    for _ in remove_leftovers():
        pass
