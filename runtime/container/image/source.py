"""Where an image comes from: a directory, or a tar archive that may be compressed as a whole."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pybench.runtime.container.image.beneath import open_beneath
from pybench.runtime.container.image.compression import MAGIC_SIZE, PLAIN, compression_of, decompressed
from pybench.runtime.container.image.digest import CHUNK
from pybench.runtime.container.image.tar import FILE, HARD_LINK, SYMBOLIC_LINK, TarReader, printable
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import BinaryIO

    from pybench.runtime.container.image.digest import Readable
    from pybench.runtime.container.image.limits import Limits

_LINKS = 8
"""How many links in a row an archive may use: `docker save` links a repeated layer to its first copy."""


class Source(Protocol):
    """Named files that can be read; the names are relative paths such as `blobs/sha256/…`."""

    where: str

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is no such file."""
        ...

    def open(self, name: str) -> AbstractContextManager[Readable]:
        """Read a file that is known to be there."""
        ...


def read_document(source: Source, name: str, limit: int) -> bytes:
    """The content of a small file.

    Raises:
        InputError: it is missing, or larger than `limit` bytes.
    """
    size = source.size(name)
    if size is None:
        raise InputError(f"{source.where}: {name} is missing", "the file is incomplete")
    if size > limit:
        raise InputError(f"{source.where}: {name} has {size} bytes, more than {limit}")
    with source.open(name) as stream:
        return read_all(stream)


def read_all(stream: Readable) -> bytes:
    """Everything a stream of known, modest size has left."""
    content = bytearray()
    while piece := stream.read(CHUNK):
        content += piece
    return bytes(content)


class DirectorySource:
    """An image layout directory; symbolic links in it are not followed."""

    def __init__(self, root: Path) -> None:
        self.where = str(root)
        self._root = root

    def size(self, name: str) -> int | None:
        """Bytes of a regular file."""
        try:
            descriptor = self._descriptor(name)
        except FileNotFoundError:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Read a regular file."""
        with os.fdopen(self._descriptor(name), "rb") as stream:
            yield stream

    def _descriptor(self, name: str) -> int:
        try:
            descriptor = open_beneath(self._root, os.fsencode(name).split(b"/"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(
                f"{self.where}: cannot read {name}: {error.strerror}",
                "an image layout holds regular files; symbolic links are not followed",
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{self.where}: {name} is no regular file")
        return descriptor


class ArchiveSource:
    """The files of an uncompressed tar archive, found once and read where they are."""

    def __init__(self, archive: BinaryIO, where: str, limits: Limits) -> None:
        self.where = where
        self._archive = archive
        self._files: dict[str, tuple[int, int]] = {}
        self._linked: dict[str, str] = {}
        archive.seek(0)
        reader = TarReader(archive, where, limits)
        for entry in reader:
            name = posixpath.normpath(os.fsdecode(entry.name))
            self._files.pop(name, None)
            self._linked.pop(name, None)
            if entry.type == FILE:
                if entry.segments != ((0, entry.size),):
                    raise InputError(f"{where}: {printable(entry.name)} is a sparse file")
                self._files[name] = (reader.data_position, entry.size)
            elif entry.type == HARD_LINK:
                self._linked[name] = posixpath.normpath(os.fsdecode(entry.link))
            elif entry.type == SYMBOLIC_LINK:
                target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
                self._linked[name] = posixpath.normpath(target)

    def size(self, name: str) -> int | None:
        """Bytes of a file; links are followed among the names of the archive."""
        found = self._find(name)
        return found and found[1]

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Read a file."""
        found = self._find(name)
        if found is None:
            raise FileNotFoundError(name)
        yield _Window(self._archive.fileno(), *found)

    def _find(self, name: str) -> tuple[int, int] | None:
        name = posixpath.normpath(name)
        for _ in range(_LINKS):
            if name not in self._linked:
                break
            name = self._linked[name]
        return self._files.get(name)


class _Window:
    """A part of a file, read in order."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._left = size

    def read(self, size: int, /) -> bytes:
        content = os.pread(self._descriptor, min(size, self._left), self._offset)
        self._offset += len(content)
        self._left -= len(content)
        return content


@contextmanager
def open_source(path: Path, scratch: Path, limits: Limits) -> Iterator[Source]:
    """Open a directory or an archive; a compressed archive is unpacked to a nameless file in `scratch`.

    Raises:
        InputError: it does not exist, cannot be read, or is no archive.
    """
    if path.is_dir():
        yield DirectorySource(path)
        return
    try:
        archive = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    with archive:
        if not stat.S_ISREG(os.fstat(archive.fileno()).st_mode):
            raise InputError(f"{path} is neither a directory nor a regular file")
        compression = compression_of(archive.read(MAGIC_SIZE))
        archive.seek(0)
        if compression == PLAIN:
            yield ArchiveSource(archive, str(path), limits)
            return
        with tempfile.TemporaryFile(dir=scratch) as unpacked:
            _unpack(decompressed(archive, compression, str(path)), unpacked, path, limits)
            yield ArchiveSource(unpacked, str(path), limits)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would block


def _unpack(stream: Readable, target: BinaryIO, path: Path, limits: Limits) -> None:
    count, compressed = 0, path.stat().st_size
    while piece := stream.read(CHUNK):
        count += len(piece)
        check_unpacked(count, compressed, str(path), limits)
        target.write(piece)
    target.flush()


def check_unpacked(count: int, compressed: int, where: str, limits: Limits) -> None:
    """Hold what was unpacked so far against the limits.

    Raises:
        InputError: it is a decompression bomb.
    """
    if count > limits.unpacked:
        raise InputError(f"{where} unpacks to more than {limits.unpacked} bytes, the limit of an image")
    if count > limits.unsuspicious and count > compressed * limits.ratio:
        raise InputError(
            f"{where} is a decompression bomb: {compressed} bytes unpack to {count} and more, "
            f"over {limits.ratio} times as much"
        )
