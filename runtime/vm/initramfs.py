"""Initial root filesystems for a guest's kernel: archives in the `newc` form of cpio.

The kernel unpacks a concatenation of such archives, each padded with zero bytes
(Documentation/driver-api/early-userspace/buffer-format.rst), so that a large segment can be
built once and a small one appended per launch. Nothing is compressed: unpacking costs boot time.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SEGMENT_ALIGNMENT: Final = 512
"""Bytes; every archive's length is a multiple of it."""

_MAGIC: Final = b"070701"
_FIELD_ALIGNMENT: Final = 4
_TRAILER_NAME: Final = "TRAILER!!!"
_LARGEST_FIELD: Final = 0xFFFF_FFFF
_LONGEST_PATH: Final = 4096  # PATH_MAX: init/initramfs.c skips an entry whose name is longer.
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One member of an archive; a directory must come before what it contains.

    `path` is absolute in the guest, with or without its leading slash. `mode` includes the
    file type (`stat.S_IFREG | 0o755`). `data` is a regular file's content, as bytes or as the
    host file to stream it from, or a symbolic link's target. `device` is the (major, minor)
    of a device node.
    """

    path: str
    mode: int
    data: bytes | Path = b""
    device: tuple[int, int] = (0, 0)


def write_archive(entries: Iterable[ArchiveEntry], output: BinaryIO) -> None:
    """Append one archive to `output`; the same entries always give the same bytes.

    Everything belongs to 0:0, dates from the epoch and has one link; inode numbers count from 1.

    Raises:
        InputError: an entry cannot be expressed: an unsafe or too long path, data on a device or
            directory, a file of 4 GiB or more.
        HostError: a host file cannot be read or changed while it was read.
    """
    written = 0
    number = 0
    for number, entry in enumerate(entries, start=1):
        written += _write_member(number, entry, output)
    written += output.write(_header(number + 1, 0, 0, (0, 0), _TRAILER_NAME))
    output.write(_padding(written, SEGMENT_ALIGNMENT))


def _write_member(number: int, entry: ArchiveEntry, output: BinaryIO) -> int:
    """Write one member with its padding; returns the bytes written, a multiple of 4."""
    name = _archived_name(entry.path)
    if entry.data and not (stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode)):
        raise InputError(f"archive entry {entry.path}: only files and symbolic links hold data")
    if isinstance(entry.data, bytes):
        header = _header(number, entry.mode, len(entry.data), entry.device, name)
        member = header + entry.data + _padding(len(entry.data), _FIELD_ALIGNMENT)
        output.write(member)
        return len(member)
    if not stat.S_ISREG(entry.mode):
        raise InputError(f"archive entry {entry.path}: only a regular file is streamed from a host file")
    return _stream_member(number, entry, name, entry.data, output)


def _stream_member(number: int, entry: ArchiveEntry, name: str, source: Path, output: BinaryIO) -> int:
    with ExitStack() as resources:
        with _read_errors(source):
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            content = resources.enter_context(os.fdopen(descriptor, "rb"))
            size = os.fstat(descriptor).st_size
        written = output.write(_header(number, entry.mode, size, entry.device, name))
        remaining = size
        while remaining:
            with _read_errors(source):
                chunk = content.read(min(_CHUNK, remaining))
            if not chunk:
                raise HostError(f"{source} became shorter while it was archived", "try again")
            output.write(chunk)
            remaining -= len(chunk)
    padding = _padding(size, _FIELD_ALIGNMENT)
    output.write(padding)
    return written + size + len(padding)


@contextmanager
def _read_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot archive {source}: {error.strerror}") from error


def _archived_name(path: str) -> str:
    name = path.removeprefix("/")
    parts = name.split("/")
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise InputError(f"archive entry {path!r}: not a plain absolute path")
    if len(os.fsencode(name)) >= _LONGEST_PATH:
        raise InputError(f"archive entry {name[:40]}…: longer than {_LONGEST_PATH - 1} bytes")
    return name


def _header(number: int, mode: int, size: int, device: tuple[int, int], name: str) -> bytes:
    if size > _LARGEST_FIELD:
        raise InputError(f"archive entry {name}: {size} bytes, and cpio's newc form ends at 4 GiB")
    encoded = os.fsencode(name) + b"\0"
    owner = (0, 0)
    links, modified, checksum = 1, 0, 0
    archive_device = (0, 0)
    fields = (number, mode, *owner, links, modified, size, *archive_device, *device, len(encoded), checksum)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
    return header + _padding(len(header), _FIELD_ALIGNMENT)


def _padding(length: int, alignment: int) -> bytes:
    return b"\0" * (-length % alignment)
