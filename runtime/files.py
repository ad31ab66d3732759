"""A file of the host that this process has made and removes again, also if it is killed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pybench.runtime.journal import Detail, Journal


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
            status = os.fstat(descriptor)
            number = journal.record(
                "file", path=str(path.absolute()), device=status.st_dev, inode=status.st_ino
            )
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
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if (status.st_dev, status.st_ino) != (details["device"], details["inode"]):
        return ""
    path.unlink()
    return f"removed file {path}"
