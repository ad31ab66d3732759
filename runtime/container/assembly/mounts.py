"""Mounts of a specification as steps: what is looked up on the host, and what is put where inside.

Sources are the host's paths, so they are opened before the pivot; destinations are the image's paths,
so they are resolved after it, when a symbolic link can lead nowhere but into the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.spawn.steps import (
    Attach,
    CopyTree,
    MakeFilesystem,
    MakeSymlink,
    MountFilesystem,
    SetAttributes,
    Step,
)
from pybench.runtime.container.specification.linux import IdMapping
from pybench.runtime.container.specification.model import Mount
from pybench.runtime.container.specification.mounts import (
    MOUNT_ATTR_ATIME,
    Change,
    MountOptions,
    parse_options,
)
from pybench.runtime.container.system_calls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
)
from pybench.runtime.errors import InputError

_SAME_FLAGS: Final = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
"""Those that mount(2) has under the same numbers as fsmount(2) (linux/mount.h)."""
CGROUP_TYPES: Final = frozenset({"cgroup", "cgroup2"})
_DEVICE_BY_DEFAULT: Final = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue"})
"""Types of file systems that are not on a device: their source is a name for /proc/self/mountinfo."""


MapIds = Callable[[Path, Sequence[IdMapping], Sequence[IdMapping]], Path]
"""Makes a tree appear with other ids (uids, gids) and says where; HostError if that is impossible."""


@dataclass(slots=True)
class MountSteps:
    """Steps by the moment at which they can be taken."""

    outside: list[Step] = field(default_factory=list)
    """While the host's paths can be reached; need no identity inside."""
    unmapped: list[Step] = field(default_factory=list)
    """New file systems in which nothing belongs to the container's root, so that it need not be known."""
    unmapped_inside: list[Attach | MountFilesystem] = field(default_factory=list)
    """Where those belong, once the root is there."""
    identified: list[Step] = field(default_factory=list)
    """Before the pivot too, but as the container's root: new file systems belong to it."""
    inside: list[Step] = field(default_factory=list)
    """After the pivot."""


@dataclass(frozen=True, slots=True)
class MountMaker:
    """Turns mounts into steps."""

    bundle: Path
    """What relative sources are relative to."""
    slots: Slots
    map_ids: MapIds
    group_directories: Callable[[], Iterable[tuple[str, Path]]]
    """Of the container's control group: name of the hierarchy (empty on version 2) and directory."""
    in_root: bool = False
    """The child is in its root from the first, with every mount point, and prepares no mount outside."""

    def add(self, steps: MountSteps, mount: Mount, path: str) -> None:
        """Append the steps of one mount.

        Raises:
            InputError: it cannot be made as it is written; starts with `path`.
            HostError: its source cannot be mounted.
        """
        options = parse_options(mount.type, mount.options, f"{path}.options")
        if options.copy_up:
            raise InputError(f"{path}.options: tmpcopyup is not supported", "put the files into the image")
        if options.bind != "no":
            self._bind(steps, mount, options, path)
        elif mount.type in CGROUP_TYPES:
            self._control_groups(steps, mount, options)
        else:
            self._file_system(steps, mount, options)

    def _bind(self, steps: MountSteps, mount: Mount, options: MountOptions, path: str) -> None:
        source = self.bundle / mount.source
        if not source.exists():
            raise InputError(f"{path}.source: {source} does not exist")
        if mount.uid_mappings:
            source = self.map_ids(source, mount.uid_mappings, mount.gid_mappings)
        elif options.id_map != "no":
            raise InputError(f"{path}.options: {options.id_map} needs uidMappings and gidMappings")
        self._copy(steps, source, mount.destination, options)

    def _copy(self, steps: MountSteps, source: Path, destination: str, options: MountOptions) -> None:
        slot = self.slots.take()
        steps.outside.append(CopyTree(slot, str(source), recursive=options.bind == "rbind"))
        for change, recursive in ((options.recursive_attributes, True), (options.attributes, False)):
            if change != Change():
                steps.outside.append(SetAttributes(slot, change.set, change.clear, 0, recursive))
        steps.outside += _propagation(slot, options)
        steps.inside.append(Attach(slot, destination, "directory" if source.is_dir() else "file"))

    def _file_system(self, steps: MountSteps, mount: Mount, options: MountOptions) -> None:
        attributes = options.attributes.set | options.recursive_attributes.set
        plain = mount.type in _DEVICE_BY_DEFAULT and not (options.superblock or options.propagation)
        if self.in_root and plain and not attributes & ~_SAME_FLAGS:
            place = MountFilesystem(mount.type, mount.destination, ",".join(options.data), attributes)
            is_early = mount.type == "proc" and not steps.inside
            (steps.unmapped_inside if is_early else steps.inside).append(place)
            return
        slot = self.slots.take()
        data = [*options.superblock, *options.data]
        if mount.source and mount.type not in _DEVICE_BY_DEFAULT:
            data.insert(0, f"source={mount.source}")
        # What fsmount(2) cannot clear is clear in a new mount anyway.
        made = (MakeFilesystem(slot, mount.type, ",".join(data), attributes), *_propagation(slot, options))
        attach = Attach(slot, mount.destination, "directory")
        if mount.type == "proc" and not steps.inside:
            # The host's root owns what is not a process's. One that comes later may lie in another mount.
            steps.unmapped += made
            steps.unmapped_inside.append(attach)
        else:
            steps.identified += made
            steps.inside.append(attach)

    def _control_groups(self, steps: MountSteps, mount: Mount, options: MountOptions) -> None:
        """The container's own group and those beneath it, of every hierarchy."""
        groups = tuple(self.group_directories())
        if len(groups) == 1 and not groups[0][0]:
            self._copy(steps, groups[0][1], mount.destination, options)
            return
        slot = self.slots.take()
        steps.identified.append(
            MakeFilesystem(slot, "tmpfs", "mode=755,size=64k", _of_the_directory(options))
        )
        steps.inside.append(Attach(slot, mount.destination, "directory"))
        for name, directory in groups:
            self._copy(steps, directory, f"{mount.destination}/{name}", options)
            for controller in name.split(",") if "," in name else ():
                steps.inside.append(MakeSymlink(name, f"{mount.destination}/{controller}"))


def _propagation(slot: int, options: MountOptions) -> Iterator[Step]:
    """All that is mounted is private already, since the mount namespace it is copied from is."""
    for wanted in options.propagation:
        if wanted.flag != MS_PRIVATE:
            yield SetAttributes(slot, 0, 0, wanted.flag, wanted.recursive)


def _of_the_directory(options: MountOptions) -> int:
    """Flags of the directory that the hierarchies are mounted in; it must be writable at first."""
    return options.attributes.set & ~(MOUNT_ATTR_ATIME | MOUNT_ATTR_RDONLY)
