"""The cache: where it is, what to say when its disk refuses, and who may write there."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE_VARIABLE: Final = "PYBENCH_CACHE"


def cache_directory() -> Path:
    """$PYBENCH_CACHE, else the user's cache directory (usually ~/.cache/pybench)."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override).absolute()
    import platformdirs  # noqa: PLC0415 - slow to import, for what is one path

    return platformdirs.user_cache_path("pybench")


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the file system of the cache refuses into an error that says what to do.

    Raises:
        HostError: the disk is full, or the cache cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or cache_directory()
        hint = f"make {cache_directory()} writable, or set {CACHE_VARIABLE} to another directory"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = f"free some space, or set {CACHE_VARIABLE} to a directory on another disk"
        raise HostError(f"cannot use the cache: {place}: {error.strerror}", hint) from error


@contextmanager
def locked(directory: Path, name: str, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock called `name`; waits for another process that holds it.

    The kernel drops the lock when its holder dies, so the file may stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that works on {name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
