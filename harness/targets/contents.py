"""What a workload asks of its image, looked up there for every target alike: its user and its files."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InputError
from pybench.runtime.container.system_calls import open_in_root

if TYPE_CHECKING:
    from pybench.harness.model import Workload, WorkloadFile
    from pybench.harness.targets.base import ImageFiles
    from pybench.runtime.container.image.users import User

FOREIGN: Final = ("/dev", "/proc", "/sys", "/.pybench")
"""Where every target has something of its own."""


def find_user(workload: Workload, image: ImageFiles) -> User | None:
    """Who runs the workload, as numbers inside the image; None where it does not say.

    Raises:
        InputError: the image does not know the user, or its list of users cannot be read.
    """
    if not workload.user:
        return None
    from pybench.runtime.container.image.users import resolve_user  # noqa: PLC0415 - only where it is asked for

    try:
        return resolve_user((image.rootfs,), workload.user)
    except InputError as error:
        raise InputError(f"user {workload.user!r} of workload {workload.name}: {error.message}") from error


def find_places(workload: Workload, image: ImageFiles) -> tuple[WorkloadFile, ...]:
    """The workload's files, each by the path that the image's own symbolic links lead to.

    Raises:
        InputError: there is a directory or something strange in the image, or two files are the same one.
    """
    placed: dict[str, WorkloadFile] = {}
    for file in workload.files:
        try:
            path = _resolved(image.rootfs, PurePosixPath(file.path))
        except OSError as error:
            raise _misplaced(workload, file, error.strerror or str(error)) from error
        if any(PurePosixPath(path).is_relative_to(foreign) for foreign in FOREIGN):
            raise _misplaced(workload, file, f"{path} is not the image's")
        if path in placed:
            raise _misplaced(workload, file, f"it is the same as {placed[path].path}")
        placed[path] = dataclasses.replace(file, path=path)
    return tuple(placed.values())


def _misplaced(workload: Workload, file: WorkloadFile, problem: str) -> InputError:
    return InputError(
        f"file {file.path} of workload {workload.name} cannot be put into the image: {problem}",
        "name another path inside the image",
    )


def _resolved(rootfs: Path, path: PurePosixPath) -> str:
    """Where a file of this name would be: the links of what exists are followed, and never out of the image.

    Raises:
        OSError: something on the way is no directory, or there is no place for a regular file at the end.
    """
    if ".." in path.parts:
        raise OSError(None, "it contains '..'")
    rest: list[str] = []
    while True:
        try:
            descriptor = open_in_root(rootfs, str(path))
        except FileNotFoundError:
            rest.insert(0, path.name)
            path = path.parent
            continue
        break
    try:
        mode = os.fstat(descriptor).st_mode
        found = Path(f"/proc/self/fd/{descriptor}").readlink()
        if rest and not stat.S_ISDIR(mode):
            raise NotADirectoryError(None, f"{path} is no directory")
        if not rest and not stat.S_ISREG(mode):
            raise OSError(None, "there is something else than a regular file")
        if rest and rest[0] in os.listdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH208 - by its descriptor
            raise OSError(None, f"{path / rest[0]} is a symbolic link to nothing")
    finally:
        os.close(descriptor)
    # The image's directory may itself be reached through links.
    inside = found.relative_to(rootfs.resolve())
    return str(PurePosixPath("/", inside, *rest))
