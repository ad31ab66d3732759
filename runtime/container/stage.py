"""The stage: a private mount namespace in which the spawning thread keeps what all containers share.

A child's mount namespace is a copy of its spawner's. So the image, mapped to the container's ids
and made read-only once, and one /dev with its device nodes are mounted on the stage, where no
other process sees them, and every container takes a copy of both with one system call each.
When the thread ends the kernel removes the namespace and everything in it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pybench.runtime.container import system_calls
from pybench.runtime.container.system_calls import (
    AT_FDCWD,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from pybench.runtime.errors import HostError
from pybench.runtime.journal import Journal, state_directory

DEVICE_NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
"""Name → major, minor; the minimum that the OCI runtime spec requires (config-linux.md, Default Devices)."""
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
DEVICE_DIRECTORIES = ("pts", "shm")


class Stage:
    """Lives and dies with the thread that makes it; use it from that thread only."""

    def __init__(self, journal: Journal) -> None:
        """Move the calling thread into a mount namespace of its own.

        Raises:
            HostError: this user may not (it takes CAP_SYS_ADMIN).
        """
        # A directory of its own: removing one that is a mount point elsewhere unmounts it there too.
        self._directory = Path(tempfile.mkdtemp(prefix="stage-", dir=state_directory()))
        self._journalled = journal.record("mount-point", path=str(self._directory))
        self._journal = journal
        try:
            system_calls.unshare(system_calls.CLONE_FS | system_calls.CLONE_NEWNS)
            system_calls.mount_setattr(AT_FDCWD, "/", propagation=system_calls.MS_PRIVATE, recursive=True)
            _mount_tmpfs(self._directory, attributes=0, size="1m")
        except OSError as error:
            raise HostError(f"cannot make a private mount namespace: {error}") from error
        self.devices = self._directory / "dev"
        self._make_devices()
        self._images = 0

    def remove(self) -> None:
        """Take everything down while the thread still lives; idempotent."""
        if self._directory.exists():
            system_calls.umount(str(self._directory), system_calls.MNT_DETACH)
            self._directory.rmdir()
            self._journal.forget(self._journalled)

    def _make_devices(self) -> None:
        self.devices.mkdir()
        _mount_tmpfs(self.devices, attributes=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, size="64k")
        for name, (major, minor) in DEVICE_NODES.items():
            os.mknod(self.devices / name, stat.S_IFCHR, os.makedev(major, minor))
            (self.devices / name).chmod(0o666)
        for name in DEVICE_DIRECTORIES:
            (self.devices / name).mkdir()
        for name, target in DEVICE_LINKS.items():
            (self.devices / name).symlink_to(target)
        system_calls.mount_setattr(AT_FDCWD, str(self.devices), set_=MOUNT_ATTR_RDONLY)

    def add_image(self, rootfs: Path, user_namespace: int | None) -> tuple[Path, bool]:
        """Mount a root filesystem read-only, its ids mapped as in a user namespace (a descriptor).

        Returns:
            Where it is, and whether its ids are mapped: a filesystem may not support that
            (mount_setattr(2), "ID-mapped mounts"), and then its files belong to nobody inside.

        Raises:
            HostError: it cannot be mounted at all.
        """
        self._images += 1
        place = self._directory / f"image-{self._images}"
        place.mkdir()
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        try:
            flags = system_calls.OPEN_TREE_CLONE | system_calls.OPEN_TREE_CLOEXEC
            tree = system_calls.open_tree(AT_FDCWD, str(rootfs), flags)
            try:
                mapped = _set_image_attributes(tree, attributes, user_namespace)
                system_calls.move_mount(tree, str(place))
            finally:
                os.close(tree)
        except OSError as error:
            raise HostError(f"cannot mount the image {rootfs}: {error}") from error
        return place, mapped

    def remove_image(self, place: Path) -> None:
        """Unmount what `add_image` returned."""
        system_calls.umount(str(place), system_calls.MNT_DETACH)
        place.rmdir()


def _set_image_attributes(tree: int, attributes: int, user_namespace: int | None) -> bool:
    if user_namespace is not None:
        try:
            system_calls.mount_setattr(tree, "", set_=attributes | MOUNT_ATTR_IDMAP, userns=user_namespace)
        except OSError:
            pass
        else:
            return True
    system_calls.mount_setattr(tree, "", set_=attributes)
    return False


def _mount_tmpfs(place: Path, *, attributes: int, size: str) -> None:
    context = system_calls.fsopen("tmpfs")
    try:
        for key, value in (("source", "pybench"), ("mode", "755"), ("size", size)):
            system_calls.fsconfig(context, key, value)
        system_calls.fsconfig(context)
        mount = system_calls.fsmount(context, attributes)
    finally:
        os.close(context)
    try:
        system_calls.move_mount(mount, str(place))
    finally:
        os.close(mount)
