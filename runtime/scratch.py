"""Room on the host's disk for one instance: a directory, or a file that a guest has as its disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pybench.runtime.errors import HostError, InputError, LeftoverError
from pybench.runtime.journal import Detail, Journal

KIND: Final = "scratch"
"""Of its entries in the journal."""
DISK_NAME: Final = "disk"
LEAST_DISK: Final = 8 << 20
"""Bytes: a smaller ext4 has no journal, and would be another file system to measure."""
_NAME: Final = re.compile(r"pybench-scratch-[0-9a-f]{16}")
_MAKE_TIMEOUT: Final = 60.0


@contextmanager
def scratch_directory(journal: Journal, parent: Path) -> Iterator[Path]:
    """A new directory in `parent`, removed in the end with whatever is in it.

    Raises:
        HostError: it cannot be made.
        LeftoverError: it cannot be removed.
    """
    path = parent.absolute() / f"pybench-scratch-{os.urandom(8).hex()}"
    number = journal.record(KIND, path=str(path))
    try:
        try:
            path.mkdir()
            # As /tmp is: the workload may run as another user.
            path.chmod(0o1777)
        except OSError as error:
            raise HostError(f"cannot make {path}: {error.strerror}") from error
        yield path
    finally:
        remove_scratch({"path": str(path)})
        journal.forget(number)


def remove_scratch(details: Mapping[str, Detail]) -> str:
    """Remove a journalled directory and what is in it.

    Raises:
        LeftoverError: it cannot be removed, or is none that was made here.
    """
    path = Path(str(details["path"]))
    if not _NAME.fullmatch(path.name) or path.is_symlink():
        raise LeftoverError(f"the journal names {path}, which is no scratch directory")
    if not path.exists():
        return ""
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise LeftoverError(f"cannot remove {path}: {error.strerror}", "remove it") from error
    return f"removed directory {path}"


def make_disk(directory: Path, size: int) -> Path:
    """A new disk of `size` bytes in `directory`, with an empty ext4 file system that root owns.

    Raises:
        InputError: it would be too small.
        HostError: the disk is full, or mke2fs is missing.
    """
    if size < LEAST_DISK:
        raise InputError(f"a disk of {size} bytes is too small", f"{LEAST_DISK >> 20} MiB is the least")
    path = directory / DISK_NAME
    # Nothing is left to do later in the background, where it would be measured.
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E", options, str(path)]
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        done = subprocess.run(command, capture_output=True, timeout=_MAKE_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise HostError("mke2fs is missing", "apt-get install e2fsprogs") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"mke2fs did not end within {_MAKE_TIMEOUT:g} s") from error
    except OSError as error:
        raise HostError(f"cannot make a disk of {size} bytes in {directory}: {error.strerror}") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise HostError(f"mke2fs cannot make a disk in {directory}: {' '.join(reason)}")
    return path
