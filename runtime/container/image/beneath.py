"""Directories reached one name at a time, so that no symbolic link is ever followed."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.tar import printable
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Parts = tuple[bytes, ...]
"""The names of a path beneath a root; none is empty, `.` or `..`."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def joined(parts: Parts) -> bytes:
    """The path, relative to its root."""
    return b"/".join(parts)


def open_beneath(root: Path, parts: Sequence[bytes], flags: int = os.O_RDONLY) -> int:
    """Open a path beneath a directory; a symbolic link anywhere in it fails as it does for open(2).

    A named pipe does not block.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parts[:-1]:
            inner = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(parts[-1], flags, dir_fd=directory)
    finally:
        os.close(directory)


class Directories:
    """Descriptors of directories beneath a root; those of the last path stay open for the next.

    `made` is called with every directory, and its descriptor, that had to be made because an archive
    did not announce it.
    """

    def __init__(self, root: Path, where: str, made: Callable[[Parts, int], None]) -> None:
        self._where = where
        self._made = made
        self._root = os.open(root, _DIRECTORY)
        self._names: list[bytes] = []
        self._descriptors: list[int] = []

    def close(self) -> None:
        """Close all descriptors."""
        self._cut(0)
        os.close(self._root)

    def find(self, parts: Parts, *, make: bool = False) -> int:
        """The descriptor of a directory, valid until the next call.

        Raises:
            InputError: one of the names is a symbolic link or no directory, or is missing while
                `make` is false.
        """
        common = 0
        for name, wanted in zip(self._names, parts, strict=False):
            if name != wanted:
                break
            common += 1
        self._cut(common)
        for depth in range(common, len(parts)):
            self._names.append(parts[depth])
            try:
                self._descriptors.append(self._enter(parts[: depth + 1], make=make))
            except BaseException:
                self._names.pop()
                raise
        return self._last

    def parent(self, parts: Parts, *, make: bool = False) -> int:
        """The descriptor of the directory that the last name is in."""
        return self.find(parts[:-1], make=make)

    def remove(self, parts: Parts) -> None:
        """Remove whatever is called so, with what it contains; the whole path but its end must exist."""
        parent = self.parent(parts)
        try:
            os.unlink(parts[-1], dir_fd=parent)
        except IsADirectoryError:
            # Its descriptors were closed by `parent`, should they have been open.
            shutil.rmtree(os.fsdecode(parts[-1]), dir_fd=parent)

    @property
    def _last(self) -> int:
        return self._descriptors[-1] if self._descriptors else self._root

    def _enter(self, parts: Parts, *, make: bool) -> int:
        name, parent = parts[-1], self._last
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise InputError(f"{self._where}: there is no {printable(joined(parts))}") from None
        except NotADirectoryError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not (make and is_whiteout(status)):
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
                raise InputError(
                    f"{self._where}: the parent {printable(joined(parts))} of an entry is {kind}",
                    "an entry may only be in a directory of its own layer, named as it is",
                ) from None
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        self._made(parts, descriptor)
        return descriptor

    def _cut(self, depth: int) -> None:
        for descriptor in self._descriptors[depth:]:
            os.close(descriptor)
        del self._descriptors[depth:], self._names[depth:]


def is_whiteout(status: os.stat_result) -> bool:
    """A character device 0:0: how overlayfs spells that a name is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
