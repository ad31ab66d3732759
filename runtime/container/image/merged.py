"""Several layers seen as the one tree that an overlay of them shows."""

from __future__ import annotations

import os
import shutil
import stat
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.beneath import is_whiteout, open_beneath
from pybench.runtime.container.image.layer import OPAQUE_ATTRIBUTES
from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LINKS: Final = 40
"""Symbolic links on the way to one file, as in the kernel."""
_PIECE: Final = 1 << 27
_OVERLAY_ATTRIBUTES: Final = ("user.overlay.", "trusted.overlay.")


def is_opaque(directory: Path) -> bool:
    """Nothing of lower layers shows in this directory."""
    for name in OPAQUE_ATTRIBUTES:
        with suppress(OSError):
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
    return False


def entries(directories: Sequence[Path]) -> dict[str, list[Path]]:
    """What the merged directories show, by name; `directories` begins with the topmost.

    Each name has the file that shows, or all the directories that merge there, topmost first.
    """
    found: dict[str, list[Path]] = {}
    closed: set[str] = set()
    for directory in directories:
        with os.scandir(directory) as listing:
            names = sorted(entry.name for entry in listing)
        for name in names:
            if name not in closed and _add(found.setdefault(name, []), directory / name):
                closed.add(name)
    return {name: found[name] for name in sorted(found) if found[name]}


def _add(found: list[Path], candidate: Path) -> bool:
    """Add what a layer has of a name; true if no lower layer can add to it."""
    status = candidate.lstat()
    if is_whiteout(status):
        return True
    if stat.S_ISDIR(status.st_mode):
        found.append(candidate)
        return is_opaque(candidate)
    if not found:
        found.append(candidate)
    return True


class MergedTree:
    """Files of an image, looked up as the container would see them: links are resolved inside."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = list(layers)

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of a regular file; None if there is none.

        Raises:
            InputError: it has more than `limit` bytes.
        """
        place = self._find(path)
        if place is None:
            return None
        layer = next(layer for layer in self._layers if place.is_relative_to(layer))
        try:
            descriptor = open_beneath(layer, [os.fsencode(part) for part in place.relative_to(layer).parts])
        except OSError as error:
            raise InputError(f"cannot read {path} of the image: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise InputError(f"{path} of the image has more than {limit} bytes")
        return content

    def is_file(self, path: str) -> bool:
        """Whether there is a regular file, by whatever links of the image."""
        found = self._find(path)
        return found is not None and stat.S_ISREG(found.lstat().st_mode)

    def _find(self, path: str) -> Path | None:
        levels = [self._layers]
        pending = deque(path.split("/"))
        links = 0
        while pending:
            name = pending.popleft()
            if name == "..":
                del levels[max(1, len(levels) - 1) :]
            if name in {"", ".", ".."}:
                continue
            found = self._look_up(levels[-1], name)
            if not found:
                return None
            mode = found[0].lstat().st_mode
            if stat.S_ISDIR(mode):
                levels.append(found)
            elif not stat.S_ISLNK(mode):
                return None if any(pending) else found[0]
            else:
                links += 1
                if links > _LINKS:
                    return None
                target = str(found[0].readlink())
                if target.startswith("/"):
                    del levels[1:]
                pending.extendleft(reversed(target.split("/")))
        return None

    @staticmethod
    def _look_up(directories: Sequence[Path], name: str) -> list[Path]:
        found: list[Path] = []
        for directory in directories:
            try:
                if _add(found, directory / name):
                    break
            except (FileNotFoundError, NotADirectoryError):
                continue
        return found


def flatten(layers: Sequence[Path], target: Path) -> None:
    """Copy what an overlay of the layers (topmost first) shows to the new directory `target`.

    Hard links, holes, attributes and dates are kept; owners only as root. After an error nothing is left.

    Raises:
        InputError: the target exists, or cannot be made.
        HostError: the file system refuses.
    """
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"cannot make the directory {target}: {error.strerror}") from error
    try:
        if layers:
            _Copier().copy_directory(list(layers), target)
        else:
            target.chmod(0o755)
    except BaseException as error:
        shutil.rmtree(target)
        if isinstance(error, OSError):
            raise HostError(f"cannot copy an image to {target}: {error.strerror}") from error
        raise


class _Copier:
    def __init__(self) -> None:
        self._privileged = os.geteuid() == 0
        self._linked: dict[tuple[int, int], Path] = {}

    def copy_directory(self, sources: list[Path], target: Path) -> None:
        for name, found in entries(sources).items():
            if stat.S_ISDIR(found[0].lstat().st_mode):
                (target / name).mkdir(mode=0o700)
                self.copy_directory(found, target / name)
            else:
                self._copy(found[0], target / name)
        self._copy_metadata(sources[0], target, sources[0].lstat())

    def _copy(self, source: Path, target: Path) -> None:
        status = source.lstat()
        key = (status.st_dev, status.st_ino)
        if key in self._linked:
            os.link(self._linked[key], target, follow_symlinks=False)
            return
        if status.st_nlink > 1:
            self._linked[key] = target
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211 - a Path would tidy the target up
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(target)
        else:
            _copy_content(source, target, status.st_size)
        self._copy_metadata(source, target, status)

    def _copy_metadata(self, source: Path, target: Path, status: os.stat_result) -> None:
        if self._privileged:
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        for name in os.listxattr(source, follow_symlinks=False):
            if not name.startswith(_OVERLAY_ATTRIBUTES):
                value = os.getxattr(source, name, follow_symlinks=False)
                os.setxattr(target, name, value, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            target.chmod(stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_content(source: Path, target: Path, size: int) -> None:
    """Copy the data of a file; what is a hole stays one."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(writing, size)
            for start, end in _data(reading, size):
                position = start
                while position < end:
                    length = min(_PIECE, end - position)
                    count = os.copy_file_range(reading, writing, length, position, position)
                    if not count:
                        raise InputError(f"{source} became shorter while it was copied")
                    position += count
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _data(descriptor: int, size: int) -> list[tuple[int, int]]:
    found, position = [], 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, position))
    return found
