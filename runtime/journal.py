"""What this process has made on the host, written down before it is made.

One append-only file of JSON lines per process under the state directory. The owner holds
an flock on it for as long as it lives; the kernel drops the lock when the owner dies, however
it dies, so a journal whose lock can be taken is one whose owner left things behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.errors import HostError

Detail = str | int
JOURNAL_SUFFIX = ".journal"
_UNFINISHED_SUFFIX = ".new"


def state_directory() -> Path:
    """Where sockets, journals and scratch files live: short, on tmpfs, private to this user.

    /run/pybench for root, else $XDG_RUNTIME_DIR/pybench, else /tmp/pybench-<uid>. Short, because
    a UNIX socket's path may be 107 bytes at most (unix(7)).

    Raises:
        HostError: it cannot be made, or belongs to someone else.
    """
    if os.geteuid() == 0:
        path = Path("/run/pybench")
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(runtime, "pybench")
    else:
        path = Path(f"/tmp/pybench-{os.geteuid()}")  # noqa: S108 - ownership is verified below
    try:
        status = _made(path)
    except OSError as error:
        raise HostError(f"cannot make the state directory {path}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise HostError(
            f"the state directory {path} belongs to uid {status.st_uid} or is no directory", "remove it"
        )
    return path


def _made(path: Path) -> os.stat_result:
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o711)
        # Whoever was the last to use it may have removed it in between.
        with suppress(FileNotFoundError):
            return path.lstat()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that exists, or is about to: its kind (`process`, `cgroup`, …) and how to find it."""

    number: int
    kind: str
    details: Mapping[str, Detail]


class Journal:
    """The journal of this process; thread-safe. Use `open_journal`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._next = 0
        self._open: dict[int, Entry] = {}

    def record(self, kind: str, **details: Detail) -> int:
        """Write down something before it is made; returns the number to forget it by."""
        with self._lock:
            entry = Entry(self._next, kind, details)
            self._next += 1
            self._open[entry.number] = entry
            self._append({"made": entry.number, "kind": kind, **details})
        return entry.number

    def make_directory(self, kind: str, prefix: str) -> tuple[Path, int]:
        """Make a directory of a fresh name in the state directory, written down before it is made.

        Args:
            kind: `mount-point`, or `directory` for one that may be removed with what is in it.
            prefix: what its name begins with.

        Returns:
            The directory, for this user alone, and the number to forget it by.
        """
        path = state_directory() / f"{prefix}{os.urandom(4).hex()}"
        number = self.record(kind, path=str(path))
        path.mkdir(mode=0o700)
        return path, number

    def forget(self, number: int) -> None:
        """It is gone, and that was verified."""
        with self._lock:
            if self._open.pop(number, None) is not None:
                self._append({"gone": number})

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is still there, oldest first."""
        with self._lock:
            return tuple(self._open.values())

    def _append(self, record: Mapping[str, Detail]) -> None:
        os.write(self._descriptor, json.dumps(record).encode() + b"\n")


@contextmanager
def open_journal(directory: Path | None = None) -> Iterator[Journal]:
    """Open this process's journal; on leaving, it is removed if nothing is left to clean."""
    path, descriptor = _locked_file(directory)
    try:
        journal = Journal(path, descriptor)
        try:
            yield journal
        finally:
            if not journal.entries:
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
        # Another process may be using it, or have left something to clean in it.
        with suppress(OSError):
            path.parent.rmdir()


def _locked_file(directory: Path | None) -> tuple[Path, int]:
    """A new journal and its descriptor.

    Locked before it gets its final name: a cleaner never sees an unlocked journal of a living owner.
    """
    while True:
        unfinished, descriptor = _new_file(directory)
        path = unfinished.with_suffix(JOURNAL_SUFFIX)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            unfinished.rename(path)
        except FileNotFoundError:
            # A cleaner had the lock first, and took the file for one whose owner had died.
            os.close(descriptor)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        else:
            return path, descriptor


def _new_file(directory: Path | None) -> tuple[Path, int]:
    """A file that is to be a journal, and its descriptor."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    while True:
        path = (directory or state_directory()) / f"{os.getpid()}-{os.urandom(4).hex()}{_UNFINISHED_SUFFIX}"
        try:
            return path, os.open(path, flags, 0o600)
        except FileNotFoundError:
            # The last process to use the state directory has just removed it.
            if directory is not None:
                raise


@contextmanager
def take_abandoned(path: Path) -> Iterator[list[Entry] | None]:
    """Take over the journal of a dead owner: its open entries, newest first; None if the owner lives.

    On leaving without an error the journal is removed. A torn last line (the owner died
    while writing) is ignored: what it announced was not made yet.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        with os.fdopen(os.dup(descriptor), encoding="utf-8", errors="replace") as lines:
            yield _open_entries(lines)
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open_entries(lines: Iterator[str]) -> list[Entry]:
    entries: dict[int, Entry] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "gone" in record:
            entries.pop(record["gone"], None)
        else:
            number, kind = record.pop("made"), record.pop("kind")
            entries[number] = Entry(number, kind, record)
    return list(reversed(entries.values()))


def remove_unfinished(directory: Path | None = None) -> Iterator[Path]:
    """Remove what owners left that died before they had a journal; yields what was removed.

    Nothing was made by them. A living owner whose file is taken from under its hands makes another.
    """
    for path in sorted((directory or state_directory()).glob(f"*{_UNFINISHED_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(descriptor)
        yield path


def journals(directory: Path | None = None) -> list[Path]:
    """Every journal in the state directory, of living and dead owners."""
    return sorted((directory or state_directory()).glob(f"*{JOURNAL_SUFFIX}"))
