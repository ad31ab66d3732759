"""The container's file tree as steps: the image as root, with its own /proc, /dev, /tmp and /run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pybench.runtime.container.profiles import Profile, mask_steps
from pybench.runtime.container.spawner import FIRST_FREE_SLOT, LAST_SLOT
from pybench.runtime.container.stage import DEVICE_DIRECTORIES, DEVICE_LINKS, DEVICE_NODES
from pybench.runtime.container.steps import (
    Attach,
    CopyTree,
    MakeDirectory,
    MakeFile,
    MakeFilesystem,
    MakeSymlink,
    Pivot,
    SetMountAttributes,
    Step,
    WaitForMaps,
)
from pybench.runtime.container.system_calls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)

NO_PRIVILEGE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
SEALED = NO_PRIVILEGE | MOUNT_ATTR_NOEXEC
TMPFS_SIZE = "64m"
"""Upper bound of each in-memory file system; what is used counts against the memory limit."""

ROOT, PROC, DEV, PTS, SHM, TMP, RUN, FIRST_NODE = range(FIRST_FREE_SLOT, FIRST_FREE_SLOT + 8)


class Devices(Protocol):
    """Where /dev comes from."""

    def before_pivot(self) -> Sequence[Step]:
        """While the host's paths can still be reached."""
        ...

    def after_pivot(self) -> Sequence[Step]:
        """Once the image is the root."""
        ...


@dataclass(frozen=True, slots=True)
class StagedDevices:
    """A copy of the one /dev that the stage holds: read-only, with real device nodes."""

    place: Path

    def before_pivot(self) -> Sequence[Step]:
        """Copy the mount."""
        return (CopyTree(DEV, str(self.place)),)

    def after_pivot(self) -> Sequence[Step]:
        """Attach it."""
        return (Attach(DEV, "/dev"),)


@dataclass(frozen=True, slots=True)
class OwnDevices:
    """A /dev of its own with the host's nodes bound into it: an ordinary user cannot make nodes."""

    def before_pivot(self) -> Sequence[Step]:
        """Copy the mount of every node."""
        nodes = enumerate(DEVICE_NODES, start=FIRST_NODE)
        return tuple(CopyTree(slot, f"/dev/{name}") for slot, name in nodes)

    def after_pivot(self) -> Sequence[Step]:
        """Make the file system, bind the nodes, make it read-only."""
        steps: list[Step] = [
            MakeFilesystem(DEV, "tmpfs", "mode=755,size=64k", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC),
            Attach(DEV, "/dev"),
        ]
        for slot, name in enumerate(DEVICE_NODES, start=FIRST_NODE):
            # Any file will do as the place of a bind mount; a symbolic link will not.
            steps += (MakeFile(f"/dev/{name}"), Attach(slot, f"/dev/{name}"))
        steps += (MakeDirectory(f"/dev/{name}") for name in DEVICE_DIRECTORIES)
        steps += (MakeSymlink(target, f"/dev/{name}") for name, target in DEVICE_LINKS.items())
        steps.append(SetMountAttributes("/dev", MOUNT_ATTR_RDONLY))
        return steps


@dataclass(frozen=True, slots=True)
class RootSource:
    """The image's tree as the child finds it before the pivot."""

    place: Path
    read_only: bool
    """It is mounted read-only there already."""
    devices: Devices


def root_steps(source: RootSource, profile: Profile, identity: Sequence[Step]) -> tuple[Step, ...]:
    """From the host's tree to the image's; `identity` is taken in between.

    What needs no identity comes first and overlaps with the parent's writing of the id maps.
    /proc is made before the pivot: the kernel lets a user namespace mount one only while another,
    fully visible one is in its mount namespace. All other paths are resolved after the pivot,
    when a symbolic link in a hostile image can lead nowhere but into the image.
    """
    steps: list[Step] = [CopyTree(ROOT, str(source.place)), *source.devices.before_pivot(), Attach(ROOT, "/")]
    steps += (WaitForMaps(), *identity)
    steps.append(MakeFilesystem(PROC, "proc", profile.proc_options, SEALED))
    steps.append(Pivot(ROOT))
    if not source.read_only:
        attributes = MOUNT_ATTR_RDONLY | NO_PRIVILEGE
        steps.append(SetMountAttributes("/", attributes))
    steps.append(Attach(PROC, "/proc"))
    steps += source.devices.after_pivot()
    for slot, path, kind, options, attributes in (
        (
            PTS,
            "/dev/pts",
            "devpts",
            "newinstance,mode=620,ptmxmode=666",
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        ),
        (SHM, "/dev/shm", "tmpfs", f"mode=1777,size={TMPFS_SIZE}", SEALED),  # noqa: S108 - inside
        (TMP, "/tmp", "tmpfs", f"mode=1777,size={TMPFS_SIZE}", NO_PRIVILEGE),  # noqa: S108 - inside
        (RUN, "/run", "tmpfs", f"mode=755,size={TMPFS_SIZE}", NO_PRIVILEGE),
    ):
        steps += (MakeFilesystem(slot, kind, options, attributes), Attach(slot, path))
    return (*steps, *mask_steps(profile, LAST_SLOT))
