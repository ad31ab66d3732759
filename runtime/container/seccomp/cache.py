"""Compiled filters kept on disk, since translating one costs more than starting a container.

What is found there will guard containers, so it is believed only from a directory that nobody else
can write to, and only if it is whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pybench.runtime.cache import cache_directory
from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.specification.seccomp import SeccompProfile
from pybench.runtime.errors import HostError

_LARGEST: Final = 1 << 16
"""No file of ours is as large: 4096 instructions of 8 bytes and a checksum."""
_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class Entry:
    """The place of one filter; a context manager that keeps new content.

    `content` is None where there is none yet. A cache that cannot be used is not an error: the
    filter is then translated again next time.
    """

    def __init__(self, source: SeccompProfile | Policy) -> None:
        self.content: bytes | None = None
        self._key = _key(source)
        self._directory = cache_directory() / "seccomp"
        self._path = self._directory / f"{self._key.hex()}.bpf"
        self._found: bytes | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self.content = self._found = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.content is not None and self.content != self._found:
            with contextlib.suppress(OSError):
                self._write(self.content)

    def _read(self) -> bytes | None:
        with self._trusted_directory() as directory:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path.name, flags, dir_fd=directory)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(_LARGEST)
        checksum, content = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
        return content if content and checksum == self._checksum(content) else None

    def _write(self, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._trusted_directory():
            descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self._checksum(content) + content)
                Path(name).rename(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.sha256(self._key + content).digest()

    @contextlib.contextmanager
    def _trusted_directory(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory, flags)
        try:
            state = os.fstat(descriptor)
            if state.st_uid != os.geteuid() or state.st_mode & _WRITABLE_BY_OTHERS:
                raise PermissionError(f"others may write to {self._directory}")
            yield descriptor
        finally:
            os.close(descriptor)


@functools.cache
def library_version() -> tuple[int, int, int]:
    """The version of the libseccomp that is installed.

    Raises:
        HostError: there is none.
    """

    class Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))

    try:
        found = ctypes.CDLL("libseccomp.so.2").seccomp_version
    except OSError as error:
        raise HostError("libseccomp is not installed", "apt-get install libseccomp2") from error
    found.restype = ctypes.POINTER(Version)
    version = found().contents
    return version.major, version.minor, version.micro


def _key(source: SeccompProfile | Policy) -> bytes:
    """Everything the translation depends on: its source, library, architecture and the translator."""
    facts = (source, library_version(), os.uname().machine, _translator())
    return hashlib.sha256(repr(facts).encode()).digest()


@functools.cache
def _translator() -> str:
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()
