"""Unpack a layer into a directory that overlayfs takes as a lower directory.

What a layer's tar says of lower layers (OCI image-spec, layer.md, "Whiteouts") becomes what the
kernel understands (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a
whiteout is a character device 0:0, which ordinary users may make, too, since Linux 5.8; an opaque
directory has the attribute `user.overlay.opaque` for overlays mounted with `userxattr`, and
`trusted.overlay.opaque` for others.
"""

from __future__ import annotations

import base64
import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.beneath import Directories, Parts, is_whiteout, joined
from pybench.runtime.container.image.tar import (
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMBOLIC_LINK,
    TYPE_NAMES,
    printable,
)
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.runtime.container.image.limits import Limits
    from pybench.runtime.container.image.tar import Entry, TarReader

WHITEOUT_PREFIX: Final = b".wh."
OPAQUE_NAME: Final = b".wh..wh..opq"
OPAQUE_ATTRIBUTES: Final = ("user.overlay.opaque", "trusted.overlay.opaque")
CAPABILITY_ATTRIBUTE: Final = "security.capability"
_ORIGIN_ATTRIBUTES: Final = ("user.overlay.origin", "trusted.overlay.origin")
_FOREIGN_LABELS: Final = {b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor"}
"""They belong to the security policy of the host that built the image; containers-storage drops them, too."""
_NAME_SIZE: Final = 255
_HIGHEST_ID: Final = (1 << 32) - 2
_LATEST_DATE: Final = 10**9 << 34
"""Nanoseconds; what ext4 can store ends in the year 2446."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an ordinary user's file could not be given and is written down instead."""

    uid: int
    gid: int
    mode: int
    capability: str = ""
    """The value of security.capability in base64."""


@dataclass(slots=True)
class LayerFacts:
    """What unpacking a layer found out."""

    entries: int = 0
    size: int = 0
    """Bytes of all files, holes included."""
    opaque_root: bool = False
    """Nothing of the lower layers shows; overlayfs does not look for that at a root directory."""
    recorded: dict[str, Recorded] = field(default_factory=dict)
    """By path, only where the layer was unpacked without privilege."""


def unpack(reader: TarReader, root: Path, where: str, limits: Limits) -> LayerFacts:
    """Unpack all entries beneath the empty directory `root`.

    As root, owners and capabilities are those of the archive. An ordinary user's files belong to
    the user, and the difference is in the facts.

    Raises:
        InputError: an entry is hostile, malformed or of a kind that images may not have.
        OSError: the file system refuses.
    """
    unpacker = _Unpacker(root, where, limits)
    try:
        for entry in reader:
            unpacker.add(entry, reader)
        return unpacker.finish()
    finally:
        unpacker.close()


@dataclass(frozen=True, slots=True)
class _Metadata:
    mode: int
    uid: int
    gid: int
    modified: int


_UNANNOUNCED: Final = _Metadata(0o755, 0, 0, 0)
"""Of a directory that the archive does not list; docker makes them so, too."""


class _Unpacker:
    def __init__(self, root: Path, where: str, limits: Limits) -> None:
        self._where = where
        self._limits = limits
        self._facts = LayerFacts()
        self._privileged = os.geteuid() == 0
        # Applied at the end: whatever is put into a directory changes its date, and needs a writable one.
        self._pending: dict[Parts, _Metadata] = {(): _UNANNOUNCED}
        self._whiteouts: set[Parts] = set()
        self._directories = Directories(root, where, self._made)

    def close(self) -> None:
        self._directories.close()

    def add(self, entry: Entry, reader: TarReader) -> None:
        self._facts.entries += 1
        parts = self._parts(entry.name)
        self._check(entry)
        if parts and parts[-1].startswith(WHITEOUT_PREFIX):
            self._add_marker(parts, entry)
        elif entry.type == DIRECTORY:
            self._add_directory(parts, entry)
        elif not parts:
            raise self._error(entry, f"is the root of the layer, and {TYPE_NAMES[entry.type]}")
        elif entry.type == FILE:
            self._add_file(parts, entry, reader)
        elif entry.type == HARD_LINK:
            self._add_hard_link(parts, entry)
        elif entry.type == SYMBOLIC_LINK:
            self._add_symbolic_link(parts, entry)
        elif entry.type == FIFO:
            parent = self._free(parts)
            os.mkfifo(parts[-1], 0o600, dir_fd=parent)
            self._apply_by_name(parts, parent, entry)
        elif entry.type == CHARACTER_DEVICE and entry.device == (0, 0):
            # A layer made of an overlay's upper directory, as it is.
            self._add_whiteout(parts)
        else:
            major, minor = entry.device
            raise self._error(
                entry, f"is {TYPE_NAMES[entry.type]} ({major}:{minor})", "images hold no devices"
            )

    def finish(self) -> LayerFacts:
        for parts in sorted(self._pending, reverse=True):  # what is inside comes before its directory
            self._finish_directory(parts, self._pending[parts])
        return self._facts

    def _finish_directory(self, parts: Parts, metadata: _Metadata) -> None:
        try:
            descriptor = self._directories.find(parts)
        except InputError:
            return  # a later entry replaced it
        self._apply(parts, descriptor, metadata)

    def _add_directory(self, parts: Parts, entry: Entry) -> None:
        if parts:
            parent = self._directories.parent(parts, make=True)
            try:
                os.mkdir(parts[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                if not stat.S_ISDIR(self._status(parts, parent).st_mode):
                    self._directories.remove(parts)
                    os.mkdir(parts[-1], 0o700, dir_fd=self._directories.parent(parts))
            if parts in self._whiteouts:
                self._make_opaque(parts)
        descriptor = self._directories.find(parts)
        for name in os.listxattr(descriptor):
            if name.startswith("user.") and name not in OPAQUE_ATTRIBUTES + _ORIGIN_ATTRIBUTES:
                os.removexattr(descriptor, name)
        self._set_attributes(entry, descriptor)
        self._pending[parts] = _metadata(entry)

    def _add_file(self, parts: Parts, entry: Entry, reader: TarReader) -> None:
        self._facts.size += entry.size
        if self._facts.size > self._limits.unpacked:
            raise self._error(entry, f"makes the layer larger than {self._limits.unpacked} bytes")
        parent = self._free(parts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o600, dir_fd=parent)
        try:
            end = 0
            for offset, piece in reader.content(entry):
                _write(descriptor, offset, piece)
                end = offset + len(piece)
            if end < entry.size:
                os.ftruncate(descriptor, entry.size)
            self._apply(parts, descriptor, _metadata(entry), entry)
        finally:
            os.close(descriptor)

    def _add_hard_link(self, parts: Parts, entry: Entry) -> None:
        target = self._parts(entry.link)
        refused = f"is a hard link to {printable(entry.link)}, which is not an earlier file of this layer"
        if not target or target == parts:
            raise self._error(entry, refused)
        try:
            directory = os.dup(self._directories.parent(target))
        except InputError as error:
            raise self._error(entry, refused) from error
        try:
            status = os.stat(target[-1], dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) or is_whiteout(status):
                raise self._error(entry, refused)
            parent = self._free(parts)
            os.link(target[-1], parts[-1], src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise self._error(entry, refused) from error
        finally:
            os.close(directory)
        if recorded := self._facts.recorded.get(os.fsdecode(joined(target))):
            self._facts.recorded[os.fsdecode(joined(parts))] = recorded

    def _add_symbolic_link(self, parts: Parts, entry: Entry) -> None:
        if not entry.link or b"\0" in entry.link or len(entry.link) > self._limits.path:
            raise self._error(entry, f"is a symbolic link to {printable(entry.link)}")
        parent = self._free(parts)
        os.symlink(entry.link, parts[-1], dir_fd=parent)
        self._apply_by_name(parts, parent, entry)

    def _add_marker(self, parts: Parts, entry: Entry) -> None:
        hidden = parts[-1].removeprefix(WHITEOUT_PREFIX)
        if entry.type != FILE or entry.size:
            raise self._error(entry, "is a whiteout, and not an empty file")
        if parts[-1] == OPAQUE_NAME:
            self._directories.parent(parts, make=True)
            self._make_opaque(parts[:-1])
        elif hidden in {b"", b".", b".."} or hidden.startswith(WHITEOUT_PREFIX):
            raise self._error(entry, "is a whiteout of no possible name")
        else:
            self._add_whiteout((*parts[:-1], hidden))

    def _add_whiteout(self, parts: Parts) -> None:
        """Hide what lower layers call so; what this layer itself calls so stays, whichever came first."""
        self._whiteouts.add(parts)
        parent = self._directories.parent(parts, make=True)
        for name in _ORIGIN_ATTRIBUTES:
            # It may be that there is nothing to hide. overlayfs lists such a whiteout as if it were a file,
            # except in a directory that looks like a copied-up one (ovl_get_inode, fs/overlayfs/inode.c).
            _set_overlay_attribute(parent, name, b"")
        try:
            os.mknod(parts[-1], stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(self._status(parts, parent).st_mode):
                self._make_opaque(parts)

    def _make_opaque(self, parts: Parts) -> None:
        if not parts:
            self._facts.opaque_root = True
            return
        _mark_opaque(self._directories.find(parts))

    def _made(self, parts: Parts, descriptor: int) -> None:
        self._pending[parts] = _UNANNOUNCED
        if parts in self._whiteouts:
            _mark_opaque(descriptor)

    def _free(self, parts: Parts) -> int:
        """The directory that an entry goes into; an earlier entry of its name is gone: the last one wins."""
        parent = self._directories.parent(parts, make=True)
        try:
            self._status(parts, parent)
        except FileNotFoundError:
            return parent
        self._directories.remove(parts)
        return self._directories.parent(parts)

    def _status(self, parts: Parts, parent: int) -> os.stat_result:
        return os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)

    def _parts(self, name: bytes) -> Parts:
        """The names of a path; an absolute one counts from the root of the layer, as tar has it."""
        parts = tuple(part for part in name.split(b"/") if part not in {b"", b"."})
        reason = ""
        if not name or b"\0" in name:
            reason = "is no name"
        elif b".." in parts:
            reason = "leads outside of the layer"
        elif len(name) > self._limits.path or len(parts) > self._limits.depth:
            reason = f"has more than {self._limits.path} bytes or {self._limits.depth} names"
        elif any(len(part) > _NAME_SIZE for part in parts):
            reason = f"has a name of more than {_NAME_SIZE} bytes"
        elif any(part.startswith(WHITEOUT_PREFIX) for part in parts[:-1]):
            reason = "is inside a whiteout"
        if reason:
            raise InputError(f"{self._where}: the entry {printable(name)} {reason}")
        return parts

    def _check(self, entry: Entry) -> None:
        for name, number in (("uid", entry.uid), ("gid", entry.gid)):
            if number > _HIGHEST_ID:
                raise self._error(entry, f"has the impossible {name} {number}")
        if abs(entry.modified) > _LATEST_DATE:
            raise self._error(entry, f"has the impossible date {entry.modified / 10**9:.0f}")

    def _set_attributes(self, entry: Entry, descriptor: int, parts: Parts = ()) -> None:
        for name, value in entry.attributes.items():
            if name in _FOREIGN_LABELS:
                continue
            is_capability = name == CAPABILITY_ATTRIBUTE.encode() and entry.type == FILE
            is_user = name.startswith(b"user.") and not name.startswith(b"user.overlay.")
            if not (is_capability or is_user) or b"\0" in name or len(name) > _NAME_SIZE:
                refused = f"has the extended attribute {printable(name)}"
                raise self._error(entry, refused, "images may not set it")
            if is_capability and not self._privileged:
                capability = base64.b64encode(value).decode()
                record = Recorded(entry.uid, entry.gid, entry.mode, capability)
                self._facts.recorded[os.fsdecode(joined(parts))] = record
                continue
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.E2BIG}:
                    raise
                raise self._error(entry, f"has a wrong value of {printable(name)}") from error

    def _apply(
        self, parts: Parts, descriptor: int, metadata: _Metadata, with_attributes: Entry | None = None
    ) -> None:
        mode = metadata.mode
        if self._privileged:
            os.chown(descriptor, metadata.uid, metadata.gid)
        else:
            # Its owner has no right to override the mode, and must be able to read and remove it.
            mode |= 0o400 if with_attributes else 0o700
            self._record(parts, metadata, mode)
        # A change of the owner clears capabilities and the setuid bit; a mode may forbid setting attributes.
        if with_attributes:
            self._set_attributes(with_attributes, descriptor, parts)
        os.chmod(descriptor, mode)
        os.utime(descriptor, ns=(metadata.modified, metadata.modified))

    def _apply_by_name(self, parts: Parts, parent: int, entry: Entry) -> None:
        """For what cannot be opened: a symbolic link or a named pipe that was just made."""
        name = parts[-1]
        if set(entry.attributes) - _FOREIGN_LABELS:
            raise self._error(entry, f"is {TYPE_NAMES[entry.type]} and has extended attributes")
        if self._privileged:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        else:
            self._record(parts, _metadata(entry), entry.mode)
        if entry.type == FIFO:
            os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, ns=(entry.modified, entry.modified), dir_fd=parent, follow_symlinks=False)

    def _record(self, parts: Parts, metadata: _Metadata, mode: int) -> None:
        path = os.fsdecode(joined(parts))
        self._facts.recorded.pop(path, None)
        if (metadata.uid, metadata.gid, metadata.mode) != (0, 0, mode):
            self._facts.recorded[path] = Recorded(metadata.uid, metadata.gid, metadata.mode)

    def _error(self, entry: Entry, reason: str, hint: str = "") -> InputError:
        return InputError(f"{self._where}: the entry {printable(entry.name)} {reason}", hint)


def _metadata(entry: Entry) -> _Metadata:
    return _Metadata(entry.mode, entry.uid, entry.gid, entry.modified)


def _write(descriptor: int, offset: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset += count
        view = view[count:]


def _mark_opaque(descriptor: int) -> None:
    for name in OPAQUE_ATTRIBUTES:
        _set_overlay_attribute(descriptor, name, b"y")


def _set_overlay_attribute(descriptor: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(descriptor, name, value)
    except PermissionError:
        # trusted.* is for root in the initial user namespace, the only one whose overlays look at it.
        if not name.startswith("trusted."):
            raise
