"""Commands of an image: finding one as the workload's own root would, and writing a file by one."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.targets.base import Completed
from pybench.runtime.container.system_calls import open_in_root
from pybench.runtime.output import printable

EXECUTABLE = 0o111
COPY_SECONDS: Final = 60.0
_WRITER: Final = 'set -eCu; umask 077; cat > "$1"; chmod "$2" "$1"'


def check_command(rootfs: Path, command: Sequence[str]) -> Path:
    """The file on the host that a command's first word names inside the image.

    Raises:
        InputError: it is not an absolute path, not in the image, or no executable file.
    """
    if not command or not command[0].startswith("/"):
        word = command[0] if command else ""
        raise InputError(
            f"command {word!r} is not an absolute path", "name the program by its path inside the image"
        )
    try:
        descriptor = open_in_root(rootfs, command[0])
    except OSError as error:
        raise InputError(
            f"command {command[0]} is not in the image: {error.strerror}", _suggestion(rootfs, command[0])
        ) from error
    try:
        mode = os.fstat(descriptor).st_mode
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise InputError(f"command {command[0]} is a directory in the image", "name a program in it")
    if not stat.S_ISREG(mode) or not mode & EXECUTABLE:
        raise InputError(f"command {command[0]} is not an executable file in the image", "chmod +x it")
    return path


class Execute(Protocol):
    """Runs a command in an instance, as `HasCommands.execute` does."""

    def __call__(self, command: Sequence[str], timeout: float, *, stdin: bytes = b"") -> Completed:
        """Run it to its end."""
        ...


def copy_by_shell(execute: Execute, path: str, content: bytes, mode: int) -> None:
    """Make a new file by the image's own shell, so that its owner is one that the inside knows.

    Raises:
        InstanceError: there is one of this name, it cannot be written there, or the image has no /bin/sh.
    """
    command = ("/bin/sh", "-c", _WRITER, "sh", path, f"{mode:o}")
    done = execute(command, COPY_SECONDS, stdin=content)
    if done.status != 0:
        raise InstanceError(f"cannot write {path} inside: {printable(done.stderr).strip()}")


def _suggestion(rootfs: Path, command: str) -> str:
    """The nearest name in the same directory of the image, if there is one."""
    wanted = PurePosixPath(command)
    try:
        descriptor = open_in_root(rootfs, str(wanted.parent))
    except OSError:
        return "`pybench images list` shows the images"
    try:
        names = os.listdir(f"/proc/self/fd/{descriptor}")  # noqa: PTH208 - a directory without a path
    except OSError:
        names = []
    finally:
        os.close(descriptor)
    nearest = difflib.get_close_matches(wanted.name, names, n=1)
    return f"did you mean {wanted.parent / nearest[0]}?" if nearest else "look into the image's recipe"
