"""Objects of the host's IPC namespace, a key, and locks on files of the volumes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError
from pybench.harness.audit.canaries.place import WRITABLE
from pybench.harness.audit.guest.core import CALLS
from pybench.harness.errors import LeftoverError
from pybench.runtime.files import TemporaryFile
from pybench.runtime.ipc_objects import IpcObject, Kind

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - to be found there
_EVERYBODY: Final = 0o666
_SPECIAL_PROCESS_KEYRING: Final = -2
_UPDATE_PERMISSION, _UNLINK = 5, 9
"""KEYCTL_SETPERM and KEYCTL_UNLINK of <linux/keyctl.h>."""
_READABLE_BY_ALL: Final = 0x3F3F0B0B
"""Possessor and owner: everything; group and others: view, read and search (keyctl_setperm(3))."""
_KEY_PATIENCE: Final = 5.0
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class SystemVCanary(Canary):
    """A segment of shared memory, a semaphore and a queue of System V, open to everybody."""

    name = "system-v"

    def plant(self, removal: ExitStack) -> None:
        """Make them under keys that nobody else has."""
        self.keys: dict[str, int] = {}
        self.identifiers: dict[str, int] = {}
        kinds: tuple[Kind, ...] = ("segment", "semaphore", "queue")
        for kind in kinds:
            # Positive, and not IPC_PRIVATE.
            key = int.from_bytes(os.urandom(4), "big") >> 1 or 1
            try:
                made = IpcObject.make(
                    self.planting.journal, kind, str(key), self.token().encode(), _EVERYBODY
                )
            except OSError as error:
                raise CannotPlantError(f"cannot make a System V {kind}: {error.strerror}") from error
            removal.callback(made.remove)
            self.keys[kind], self.identifiers[kind] = key, made.identifier


class PosixCanary(Canary):
    """A file in /dev/shm, and a POSIX message queue, open to everybody."""

    name = "posix-ipc"

    def plant(self, removal: ExitStack) -> None:
        """Make both; the queue's name tells nothing, so that a guest may be told it."""
        journal = self.planting.journal
        self.file_token, self.content_token = self.token(), self.token()
        self.queue = f"/pybench-audit-{os.urandom(4).hex()}"
        path = SHARED_MEMORY / f"pybench-audit-{self.file_token}"
        try:
            file = TemporaryFile.make(journal, path, self.content_token.encode(), _EVERYBODY)
            removal.callback(file.remove)
            queue = IpcObject.make(journal, "posix-queue", self.queue, self.token().encode(), _EVERYBODY)
            removal.callback(queue.remove)
        except OSError as error:
            raise CannotPlantError(f"cannot make POSIX IPC objects: {error.strerror}") from error


class KeyCanary(Canary):
    """A key of the harness's process that everybody may read, with a token in it and one in its name."""

    name = "key"

    def plant(self, removal: ExitStack) -> None:
        """Add it to the keyring of this process, so that it ends with it at the latest."""
        self.description_token, self.payload_token = self.token(), self.token()
        payload = self.payload_token.encode()
        description = f"pybench-canary-{self.description_token}".encode()
        self.serial = _key_call(
            "add_key", b"user", description, payload, ctypes.c_size_t(len(payload)), _SPECIAL_PROCESS_KEYRING
        )
        removal.callback(self._remove)
        _key_call("keyctl", _UPDATE_PERMISSION, self.serial, _READABLE_BY_ALL)

    def _remove(self) -> None:
        _key_call("keyctl", _UNLINK, self.serial, _SPECIAL_PROCESS_KEYRING)
        # The kernel collects keys a little later (security/keys/gc.c).
        listed, deadline = f"{self.serial:08x} ", time.monotonic() + _KEY_PATIENCE
        while any(line.startswith(listed) for line in _listed_keys()):
            if time.monotonic() > deadline:
                raise LeftoverError(f"the key {self.serial} is still there")
            time.sleep(0.01)


class LockCanary(Canary):
    """A lock that the host holds on a file in the writable volume."""

    name = "lock"
    file = "locked"

    def plant(self, removal: ExitStack) -> None:
        """Make the file and lock it as a whole."""
        path = self.planting.place.volumes / WRITABLE / self.file
        removal.callback(path.unlink)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _EVERYBODY)
        removal.callback(os.close, descriptor)
        os.fchmod(descriptor, _EVERYBODY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        found = os.fstat(descriptor)
        self.identity = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        """As /proc/locks has it (proc_locks(5))."""


def _listed_keys() -> list[str]:
    try:
        return Path("/proc/keys").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _key_call(name: str, *arguments: object) -> int:
    number = CALLS.get(platform.machine(), {}).get(name)
    if number is None:
        raise CannotPlantError(f"the number of the call {name} is not known for {platform.machine()}")
    result = int(_LIBC.syscall(number, *arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise CannotPlantError(f"{name}: {errno.errorcode.get(code, code)}")
    return result
