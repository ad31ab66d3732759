"""A file of the host that this process has made and removes again, also if it is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pybench.runtime.journal import Detail, Journal

_MARK: Final = "user.pybench"
"""The extended attribute that marks our files, where the file system has such."""


@dataclass(frozen=True, slots=True)
class TemporaryFile:
    """One such file."""

    path: Path
    _journal: Journal
    _number: int

    @classmethod
    def make(cls, journal: Journal, path: Path, content: bytes, mode: int) -> Self:
        """Make a new file with a content, whole from the moment at which it has its name.

        It is written without a name first (O_TMPFILE, open(2)), so that the journal knows which file it is
        before it can be found.

        Raises:
            OSError: there is one of this name, or it cannot be made there.
        """
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            os.fchmod(descriptor, mode)
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, _MARK, os.urandom(8).hex().encode("ascii"))
            number = journal.record("file", path=str(path.absolute()), **_identity(descriptor))
            try:
                # With a directory, though none is needed: without one Python does not follow the link.
                os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
            except OSError:
                journal.forget(number)
                raise
        finally:
            os.close(descriptor)
        return cls(path.absolute(), journal, number)

    def remove(self) -> None:
        """Remove it, unless another has its name by now.

        Raises:
            OSError: it cannot be removed.
        """
        entry = next(each for each in self._journal.entries if each.number == self._number)
        remove_file(entry.details)
        self._journal.forget(self._number)


def remove_file(details: Mapping[str, Detail]) -> str:
    """Remove a journalled file, if what has its name is still that file."""
    path = Path(str(details["path"]))
    try:
        found = _identity(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if any(details[key] != value for key, value in found.items()):
        return ""
    path.unlink()
    return f"removed file {path}"


def _identity(path: Path | int) -> dict[str, Detail]:
    """What tells a file, by its path or descriptor, from every other one; no link is followed.

    The number of its inode is given to a new file when it is gone, and few file systems keep a time of birth.
    """
    followed = isinstance(path, int)
    status = os.fstat(path) if isinstance(path, int) else path.lstat()
    try:
        token = os.getxattr(path, _MARK, follow_symlinks=followed).decode("ascii", errors="replace")
    except OSError:
        token = ""
    return {"device": status.st_dev, "inode": status.st_ino, "token": token}
