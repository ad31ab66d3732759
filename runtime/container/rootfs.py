"""A container's root filesystem: prepared on the stage for all containers of an image, completed by each.

What all share is mounted once ahead: the image's layers, read-only and with mapped ids, merged by
overlayfs where there are several, and over them /dev, hosts, resolv.conf and hostname. A container
then is born where the whole is the root already. One that may write, or whose image lacks a mount point,
merges it with a directory of its own, in memory and of limited size, and has to pivot into that.

Volumes are prepared ahead too, but each container mounts them itself, after the file systems of its
own: a volume may be in one of those.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pybench.runtime.container import system_calls
from pybench.runtime.container.spawn.steps import (
    Attach,
    CopyTree,
    MakeDirectory,
    MakeFilesystem,
    SetAttributes,
    Step,
    WorkingDirectory,
    enter_root,
)
from pybench.runtime.container.stage import NO_PRIVILEGE, Stage
from pybench.runtime.container.system_calls import MOUNT_ATTR_NOEXEC, MOUNT_ATTR_RDONLY
from pybench.runtime.errors import HostError, InputError
from pybench.runtime.workload_files import WorkloadFile


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory or file of the host inside the container."""

    source: Path
    destination: str
    writable: bool = False
    id_map: bool = True
    """Files belong inside to whom they belong to on the host, and the other way round."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Something mounted over a path of the image."""

    place: Path
    """On the stage, complete with its flags; without a stage the source itself."""
    destination: str
    directory: bool
    """It is one; else a file. Only the spawning thread could look."""
    attributes: int = 0
    """MOUNT_ATTR_… flags still to be set; none on the stage."""
    recursive: bool = False
    volume: bool = False
    """It comes after the container's own file systems, since it may be in one of them."""


@dataclass(frozen=True, slots=True)
class Root:
    """How a container's child gets its root; `slot` is where its mount is until then."""

    place: Path
    """The tree that containers share."""
    scratch: Path
    """An existing directory that a child may mount over, unseen by anybody else."""
    covers: tuple[Cover, ...]
    """What the container itself has to mount; empty where the shared tree has it already."""
    mapped: bool
    """The image's ids are the container's."""
    upper_size: int | None
    """Bytes that the container may write; 0 where its root is read-only but lacks mount points; else None."""
    shared_attributes: int = 0
    """Flags still to be set on the copy of the shared tree."""
    namespace: int | None = None
    """The mount namespace to be cloned in, as a descriptor; None for the spawning thread's own."""
    is_root: bool = False
    """There the shared tree is the root already."""

    def outside(self, slot: int) -> tuple[Step, ...]:
        """Before the child has an identity."""
        if self.upper_size is not None or self.is_root:
            return ()
        steps: list[Step] = [CopyTree(slot, str(self.place), recursive=True)]
        if self.shared_attributes:
            steps.append(SetAttributes(slot, self.shared_attributes))
        return tuple(steps)

    def identified(self, slot: int, upper_slot: int) -> tuple[Step, ...]:
        """As the container's root: the upper directory is its own."""
        if self.upper_size is None:
            return ()
        size = max(self.upper_size, 1 << 20)
        # Relative, since the container finds in its mountinfo what was written here.
        base = self.scratch.parent
        upper, work = (f"{self.scratch.name}/{name}" for name in ("upper", "work"))
        lower = self.place.name if self.place.parent == base else str(self.place)
        options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
        return (
            WorkingDirectory(str(base)),
            MakeFilesystem(upper_slot, "tmpfs", f"mode=755,size={size}", NO_PRIVILEGE),
            Attach(upper_slot, self.scratch.name),
            MakeDirectory(upper),
            MakeDirectory(work),
            MakeFilesystem(slot, "overlay", options, NO_PRIVILEGE),
        )

    def entering(self, slot: int) -> tuple[Step, ...]:
        """From the mount in the slot to the root."""
        return () if self.is_root else enter_root(slot)

    def cover_steps(
        self, slots: Callable[[], int]
    ) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]]:
        """For what the container itself mounts over its root.

        Returns:
            Steps before the pivot, right after it, and after the container's own file systems are mounted.
        """
        outside: list[Step] = []
        first: list[Step] = []
        last: list[Step] = []
        for cover in self.covers:
            slot = slots()
            outside.append(CopyTree(slot, str(cover.place), recursive=cover.recursive))
            if cover.attributes:
                outside.append(SetAttributes(slot, cover.attributes, recursive=cover.recursive))
            attach = Attach(slot, cover.destination, "directory" if cover.directory else "file")
            (last if cover.volume else first).append(attach)
        return tuple(outside), tuple(first), tuple(last)


@dataclass(slots=True)
class RootBuilder:
    """Puts a root together on the stage, in the spawning thread; `stage` is None for an ordinary user."""

    stage: Stage | None
    scratch: Path
    resources: contextlib.ExitStack
    """Gets what removes it again."""
    namespace: Callable[[], contextlib.AbstractContextManager[int]] | None
    """Makes a user namespace with the container's ids, for mapped mounts; None where none are mapped."""
    owner: tuple[int, int] = (0, 0)
    """The host's ids of the container's root, to whom its files belong."""
    _mapped: bool = field(init=False, default=True)

    def build(
        self,
        layers: Sequence[Path],
        covers: Sequence[tuple[str, Path | bytes]],
        volumes: Sequence[Volume],
        *,
        files: Sequence[WorkloadFile] = (),
        own: Sequence[str],
        writable: int | None,
    ) -> Root:
        """The root of these layers, the topmost first, with covers, volumes and files.

        Args:
            layers: directories; one is enough.
            covers: destination and what covers it read-only: a tree or a text.
            volumes: what of the host is to be seen inside.
            files: what nobody inside can change, by paths without symbolic links.
            own: where the container mounts file systems of its own.
            writable: bytes that the container may write into its root, or None.

        Raises:
            HostError: something cannot be mounted.
            InputError: a volume is not there.
        """
        self._mapped = True
        base = self._merge([self._tree(layer, MOUNT_ATTR_RDONLY | NO_PRIVILEGE) for layer in layers])
        shared = [self._cover(destination, content) for destination, content in covers]
        placed = [self._file(file, beneath_own=_beneath(file.path, own)) for file in files]
        shared += (cover for cover in placed if not cover.volume)
        mounted = (
            *(self._volume(volume) for volume in volumes),
            *(cover for cover in placed if cover.volume),
        )
        needed = [
            *own,
            *(each.destination for each in (*shared, *mounted) if not _beneath(each.destination, own)),
        ]
        complete = all(_exists(layers, destination) for destination in needed)
        if self.stage is None:
            size = 0 if writable is None and not complete else writable
            attributes = MOUNT_ATTR_RDONLY | NO_PRIVILEGE
            return Root(base, self.scratch, (*shared, *mounted), True, size, attributes)
        root = Root(base, self.scratch, mounted, self._mapped, None, namespace=self.stage.bare)
        if writable is not None or not complete:
            return replace(root, covers=(*shared, *mounted), upper_size=writable or 0)
        for cover in shared:
            self.stage.cover(base, cover.destination, cover.place)
        if mounted:
            # They are mounted late, from the stage.
            return root
        namespace = self.stage.add_namespace(base, for_user_namespaces=self.namespace is not None)
        self.resources.callback(os.close, namespace)
        return replace(root, namespace=namespace, is_root=True)

    def _tree(self, source: Path, attributes: int, *, mapped: bool = True, recursive: bool = False) -> Path:
        stage = self.stage
        if stage is None:
            return source
        with contextlib.ExitStack() as held:
            user_namespace = None
            if mapped and self.namespace is not None:
                user_namespace = held.enter_context(self.namespace())
            place, done = stage.add_tree(
                source, set_=attributes, recursive=recursive, user_namespace=user_namespace
            )
        self._mapped &= done
        self.resources.callback(stage.remove_place, place)
        return place

    def _merge(self, layers: Sequence[Path]) -> Path:
        if len(layers) == 1:
            return layers[0]
        if self.stage is None:
            raise HostError(
                "an ordinary user's container takes an image of one layer",
                "`pybench images import` flattens one with --flatten, or run as root",
            )
        place = self.stage.add_overlay(layers)
        self.resources.callback(self.stage.remove_place, place)
        return place

    def _cover(self, destination: str, content: Path | bytes) -> Cover:
        attributes = MOUNT_ATTR_RDONLY | system_calls.MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC
        if isinstance(content, bytes):
            content = self._text(content)
            attributes |= system_calls.MOUNT_ATTR_NODEV
        if self.stage is None:
            return Cover(content, destination, content.is_dir(), attributes)
        # Device nodes are used by everybody, whoever they belong to.
        directory = content.is_dir()
        return Cover(self._tree(content, attributes, mapped=False), destination, directory)

    def _file(self, file: WorkloadFile, *, beneath_own: bool) -> Cover:
        attributes = MOUNT_ATTR_RDONLY | NO_PRIVILEGE
        place = self._text(file.content, file.mode, self.owner)
        if self.stage is None:
            return Cover(place, file.path, False, attributes, volume=beneath_own)
        # Owned by the host's ids: not every kernel can map those of a file system in memory.
        return Cover(self._tree(place, attributes, mapped=False), file.path, False, volume=beneath_own)

    def _text(self, content: bytes, mode: int = 0o444, owner: tuple[int, int] = (0, 0)) -> Path:
        if self.stage is not None:
            place = self.stage.add_file(content, mode, owner)
            self.resources.callback(self.stage.remove_place, place)
            return place
        descriptor, name = _temporary(self.scratch)
        place = Path(name)
        self.resources.callback(place.unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        place.chmod(mode)
        return place

    def _volume(self, volume: Volume) -> Cover:
        if not volume.source.exists():
            raise InputError(f"the volume {volume.source} does not exist", "make it first")
        attributes = NO_PRIVILEGE | (0 if volume.writable else MOUNT_ATTR_RDONLY)
        directory = volume.source.is_dir()
        if self.stage is None:
            return Cover(
                volume.source, volume.destination, directory, attributes, recursive=True, volume=True
            )
        place = self._tree(volume.source, attributes, mapped=volume.id_map, recursive=True)
        return Cover(place, volume.destination, directory=directory, recursive=True, volume=True)


def _beneath(path: str, points: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(point) for point in points)


def _exists(layers: Sequence[Path], destination: str) -> bool:
    """Whether an image has a mount point, in whichever layer; merged symbolic links count as missing."""
    for layer in layers:
        try:
            os.close(system_calls.open_in_root(layer, destination))
        except OSError:
            continue
        return True
    return False


def _temporary(directory: Path) -> tuple[int, str]:
    import tempfile  # noqa: PLC0415 - only where there is no stage

    return tempfile.mkstemp(prefix="cover-", dir=directory.parent)
