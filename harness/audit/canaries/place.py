"""The audit's own directory on the host: a small file system in memory, with a token in its mount point.

As root it is mounted, so that it is a canary itself, and so that no flag of the host's mounts decides what a
setuid file in it does. It holds two directories that instances get as volumes.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pybench.harness.errors import LeftoverError
from pybench.runtime.container.system_calls import MNT_DETACH, mount, umount

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Tokens
    from pybench.runtime.journal import Journal

SIZE: Final = "16m"
READ_ONLY, WRITABLE = "read-only", "writable"


class Place:
    """Made for one audit; a context manager that removes it and verifies that."""

    def __init__(self, journal: Journal, tokens: Tokens) -> None:
        self._journal = journal
        self.token = tokens.make()
        """In the path of its mount point."""
        self.volume_token = tokens.make()
        """In the path of the volumes within it."""
        self.path = Path()
        self.mounted = False
        self._removal = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as removal:
            self._make(removal)
            for name, mode in ((READ_ONLY, 0o755), (WRITABLE, 0o1777)):
                directory = self.volumes / name
                directory.mkdir()
                directory.chmod(mode)
            self._removal = removal.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._removal.close()

    @property
    def volumes(self) -> Path:
        """The directory that holds the volumes."""
        return self.path / self.volume_token

    def _make(self, removal: ExitStack) -> None:
        privileged = os.geteuid() == 0
        kind = "mount" if privileged else "directory"
        self.path, number = self._journal.make_directory(kind, f"audit-{self.token}-")
        removal.callback(self._remove, number)
        self.path.chmod(0o711)
        if privileged:
            mount("pybench", str(self.path), "tmpfs", 0, f"mode=711,size={SIZE}")
            self.mounted = True
        self.volumes.mkdir(mode=0o711)
        self.volumes.chmod(0o711)

    def _remove(self, number: int) -> None:
        if self.mounted:
            umount(str(self.path), MNT_DETACH)
            self.path.rmdir()
        else:
            shutil.rmtree(self.path)
        if self.path.exists():
            raise LeftoverError(f"{self.path} is still there")
        self._journal.forget(number)
