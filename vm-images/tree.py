"""A directory tree as content: walked in one order, normalised, hashed, measured, archived."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError
from pybench.runtime.vm.initramfs import ArchiveEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOURCE_DATE: Final = 1_577_836_800
"""Seconds since the epoch: the date of everything in an image (2020-01-01), whenever it was built."""

_SECOND: Final = 1_000_000_000
_TYPES: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


@dataclass(frozen=True, slots=True)
class Member:
    """One file, directory or symbolic link of a tree; `path` is absolute within it."""

    path: str
    location: Path
    status: os.stat_result

    @property
    def type(self) -> str:
        """`file`, `directory` or `link`."""
        return _TYPES[stat.S_IFMT(self.status.st_mode)]


def members(root: Path, prefix: str = "") -> Iterator[Member]:
    """Everything beneath `root`, by name, a directory before what it contains.

    Raises:
        InputError: there is something else than files, directories and symbolic links.
    """
    for location in sorted(root.iterdir(), key=lambda path: os.fsencode(path.name)):
        member = Member(f"{prefix}/{location.name}", location, location.lstat())
        if stat.S_IFMT(member.status.st_mode) not in _TYPES:
            raise InputError(f"{location} is neither a file, nor a directory, nor a symbolic link")
        yield member
        if member.type == "directory":
            yield from members(location, member.path)


def normalise(root: Path, modes: Mapping[str, int], *, keep: bool = False) -> None:
    """Give everything the modes of `modes`, else 0755 or 0644, and the date `SOURCE_DATE`.

    Independent of the builder's umask, and readable by whichever user a container maps in. With `keep`
    the modes of packages stay, but for set-user-id and set-group-id: the tree lies where other users of
    this host can reach it.
    """
    for member in members(root):
        if member.type != "link":
            found = member.status.st_mode
            executable = member.type == "directory" or found & 0o111
            usual = found & 0o1777 if keep else 0o755 if executable else 0o644
            member.location.chmod(modes.get(member.path, usual))
    root.chmod(0o755)
    # Dates last: a chmod leaves a directory's date alone, but nothing may be added after this.
    for member in members(root):
        os.utime(member.location, (SOURCE_DATE, SOURCE_DATE), follow_symlinks=False)
    os.utime(root, (SOURCE_DATE, SOURCE_DATE))


def content_hash(root: Path) -> str:
    """SHA-256, in hexadecimal, of the tree's canonical listing.

    One record per member: type, mode, path, and the SHA-256 of a file's content or the target
    of a symbolic link, each ended by a zero byte. Owners and dates do not count.
    """
    digest = hashlib.sha256()
    for member in members(root):
        content = b""
        if member.type == "file":
            content = file_hash(member.location).encode()
        elif member.type == "link":
            content = os.fsencode(member.location.readlink())
        mode = b"%o" % stat.S_IMODE(member.status.st_mode)
        digest.update(b"\0".join((member.type.encode(), mode, os.fsencode(member.path), content, b"")))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def size(root: Path) -> int:
    """Bytes of content of all files beneath `root`."""
    return sum(member.status.st_size for member in members(root) if member.type == "file")


def latest_date(root: Path) -> int:
    """The first full second since the epoch at which everything beneath `root` had its last change."""
    return max((-(-member.status.st_mtime_ns // _SECOND) for member in members(root)), default=0)


def archive_entries(root: Path) -> Iterator[ArchiveEntry]:
    """The tree as members of an archive; files are streamed from where they are."""
    for member in members(root):
        data: bytes | Path = b""
        if member.type == "file":
            data = member.location
        elif member.type == "link":
            data = os.fsencode(member.location.readlink())
        yield ArchiveEntry(member.path, member.status.st_mode, data)
