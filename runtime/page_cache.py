"""What the kernel keeps of files in its page cache, file by file."""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_FAILED = ctypes.c_void_p(-1).value


def regular_files(place: Path) -> Iterator[Path]:
    """A file, or every regular file beneath a directory, each inode once; no symbolic link is followed."""
    if not place.is_dir():
        yield place
        return
    seen: set[tuple[int, int]] = set()
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            identity = status.st_dev, status.st_ino
            if stat.S_ISREG(status.st_mode) and identity not in seen:
                seen.add(identity)
                yield path


def disk_bytes(path: Path) -> int:
    """What a file takes on its disk."""
    return path.lstat().st_blocks * 512


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache, in whole pages.

    By mincore(2), which tells this only to who owns the file or may write to it, and everybody else that all
    of it is.

    Raises:
        OSError: it cannot be opened or mapped.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            return 0
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address in {None, _FAILED}:
            raise OSError(ctypes.get_errno(), f"mmap of {path}")
        try:
            pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
            if _libc.mincore(address, size, pages) != 0:
                raise OSError(ctypes.get_errno(), f"mincore of {path}")
        finally:
            _libc.munmap(address, size)
    finally:
        os.close(descriptor)
    # The lowest bit of each byte tells; the others are reserved.
    return sum(byte & 1 for byte in pages.raw) * mmap.PAGESIZE


def forget(path: Path) -> None:
    """Have the kernel drop what it keeps of a file and nobody has mapped.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
