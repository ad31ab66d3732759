"""Files of the host: in /tmp, in a volume and secret, and setuid; one that is open, and a variable."""

from __future__ import annotations

import os
import platform
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError
from pybench.harness.audit.canaries.place import READ_ONLY
from pybench.harness.audit.canaries.process import VARIABLE
from pybench.harness.errors import LeftoverError
from pybench.runtime.files import TemporaryFile

TEMPORARY: Final = Path(tempfile.gettempdir())
_CODE: Final = {
    # geteuid(); exit(the result): what the kernel made of the setuid bit is the exit code.
    "x86_64": (62, bytes.fromhex("b86b0000000f0589c7b83c0000000f05")),
    "aarch64": (183, bytes.fromhex("e81580d2010000d4a80b80d2010000d4")),
}
"""Machine → its number in ELF, and the program."""
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56


class TemporaryFileCanary(Canary):
    """A file in the host's directory for temporary files, readable by everybody."""

    name = "temporary-file"

    def plant(self, removal: ExitStack) -> None:
        """Write it; a token is in its name and another in it."""
        path = TEMPORARY / f"pybench-audit-{self.token()}"
        self.content_token = self.token()
        try:
            made = TemporaryFile.make(self.planting.journal, path, self.content_token.encode(), 0o644)
        except OSError as error:
            raise CannotPlantError(f"cannot make a file in {TEMPORARY}: {error.strerror}") from error
        removal.callback(made.remove)
        self.path = path


class SecretFileCanary(Canary):
    """A file in the read-only volume that only its owner, the host's root, may read."""

    name = "secret-file"
    file = "secret"

    def plant(self, removal: ExitStack) -> None:
        """Write it."""
        if os.geteuid() != 0:
            raise CannotPlantError("only root can plant a file of root's", "run as root")
        path = self.planting.place.volumes / READ_ONLY / self.file
        _write(removal, path, self.token().encode(), 0o600)


class SetuidFileCanary(Canary):
    """A program of root's in the read-only volume, setuid, that ends with its effective user as exit code."""

    name = "setuid-file"
    file = "setuid"

    def plant(self, removal: ExitStack) -> None:
        """Write it."""
        if os.geteuid() != 0:
            raise CannotPlantError("only root can plant a setuid file of root's", "run as root")
        self.program = program()
        _write(removal, self.planting.place.volumes / READ_ONLY / self.file, self.program, 0o4755)


class DescriptorCanary(Canary):
    """A file and a directory that the harness holds open and inheritable, and a variable of its own."""

    name = "descriptor"

    def plant(self, removal: ExitStack) -> None:
        """Open them in the harness."""
        self.content_token, self.variable_token = self.token(), self.token()
        path = self.planting.place.path / "descriptor"
        _write(removal, path, self.content_token.encode(), 0o600)
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        removal.callback(os.close, self.number)
        os.set_inheritable(self.number, True)
        self.directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        removal.callback(os.close, self.directory)
        os.set_inheritable(self.directory, True)
        found = os.fstat(self.directory)
        self.identity = f"{found.st_dev}:{found.st_ino}"
        self.variable = f"{VARIABLE}_SECRET"
        os.environ[self.variable] = self.variable_token
        removal.callback(os.environ.pop, self.variable, None)


def program() -> bytes:
    """A static program of a few bytes: exit with the effective user's number.

    Raises:
        CannotPlantError: for this machine none was written.
    """
    machine = platform.machine()
    if machine not in _CODE:
        raise CannotPlantError(f"there is no setuid program for {machine}")
    number, code = _CODE[machine]
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return identity + header + segment + code


def _write(removal: ExitStack, path: Path, content: bytes, mode: int) -> None:
    removal.callback(_remove, path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.exists():
        raise LeftoverError(f"the canary {path} is still there")
