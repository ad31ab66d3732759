"""One run at a time on a host: two would measure each other."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pybench.harness.errors import HostError
from pybench.runtime.output import printable

LOCK_VARIABLE: Final = "PYBENCH_LOCK"
"""Names another file, for a host whose parts are measured on their own, each with a lock of its own."""
_PLACES: Final = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - opened without following links
_NAME: Final = "pybench-run.lock"
_LONGEST_NOTE: Final = 500


def lock_path() -> Path:
    """The file, in a directory that every user of the host can write to."""
    if chosen := os.environ.get(LOCK_VARIABLE):
        return Path(chosen)
    folder = next((place for place in _PLACES if os.access(place, os.W_OK | os.X_OK)), _PLACES[-1])
    return folder / _NAME


@contextmanager
def host_lock(scenario: str, *, wait: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the host for one run; the kernel lets go of it when the process ends, however it ends.

    Args:
        scenario: what is about to run, for whoever finds the host taken.
        wait: wait for a run that goes on, instead of failing.
        tell: is told whom one waits for.

    Raises:
        HostError: another run goes on, or the file cannot be opened.
    """
    path = lock_path()
    descriptor = _lock(path, wait=wait, tell=tell)
    try:
        _write_note(path, descriptor, scenario)
        yield
    finally:
        # Removed while it is held: whoever opened it meanwhile finds out that it has no name any more.
        with suppress(OSError):
            if _is_named(path, descriptor):
                path.unlink()
        os.close(descriptor)


def _lock(path: Path, *, wait: bool, tell: Callable[[str], None]) -> int:
    """A descriptor of the file that bears the name, locked."""
    while True:
        descriptor = _open(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = _owner(descriptor)
                if not wait:
                    raise HostError(
                        f"another run goes on here: {owner}",
                        "wait for its end with --wait; two at once would measure each other",
                    ) from None
                tell(f"waiting for {owner}")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_named(path: Path, descriptor: int) -> bool:
    """Whether the file is still the one that bears the name; its owner removes it in the end."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    """A descriptor to lock: flock(2) needs no right to write, so the file of another user will do."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        while True:
            with suppress(FileExistsError):
                return os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            # Between the two calls its owner may have removed it.
            with suppress(FileNotFoundError):
                return os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        hint = f"name another file with {LOCK_VARIABLE}"
        raise HostError(f"{path}: cannot open the lock of this host: {error.strerror}", hint) from error


def _write_note(path: Path, descriptor: int, scenario: str) -> None:
    """Who holds it; where the file is another user's, it is only known to be held."""
    note = {
        "pid": os.getpid(),
        "user": _user(),
        "scenario": scenario,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        writable = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if os.path.samestat(os.fstat(writable), os.fstat(descriptor)):
            os.ftruncate(writable, 0)
            os.pwrite(writable, json.dumps(note).encode(), 0)
    finally:
        os.close(writable)


def _owner(descriptor: int) -> str:
    """Whom the note names: written by another, so it is bounded and escaped."""
    try:
        note = json.loads(os.pread(descriptor, _LONGEST_NOTE, 0))
        text = f"{note['scenario']} of {note['user']}, process {note['pid']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its owner left no name"
    return printable(text.encode()).replace("\n", " ")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
