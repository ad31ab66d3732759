"""A whole container as a program to spawn: its file tree, then its process, in the one order that works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from pybench.runtime.container.assembly.devices import add_devices
from pybench.runtime.container.assembly.mounts import MapIds, MountMaker, MountSteps
from pybench.runtime.container.assembly.process import attribute_steps, program_step, right_steps
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.spawn.process_steps import SystemCall
from pybench.runtime.container.spawn.spawner import Program
from pybench.runtime.container.spawn.steps import (
    CopyTree,
    HideExecutable,
    HostName,
    Identity,
    LoopbackUp,
    MakeFilesystem,
    Mask,
    MaskFrom,
    MountFilesystem,
    NewSessionKeyring,
    Protect,
    SetAttributes,
    SetMountAttributes,
    Step,
    WaitForMaps,
    WorkingDirectory,
    WriteFile,
    enter_root,
)
from pybench.runtime.container.specification.model import Process, Specification
from pybench.runtime.container.specification.mounts import parse_propagation
from pybench.runtime.container.specification.namespaces import FLAGS, clone_flags, sysctl_path
from pybench.runtime.container.specification.seccomp import SeccompProfile
from pybench.runtime.container.system_calls import (
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
)
from pybench.runtime.errors import InputError

# Numbers of system calls on x86-64
_SETDOMAINNAME: Final = 171
_UNSHARE: Final = 272
_UMOUNT2: Final = 166

_SEALED: Final = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def no_groups() -> Iterable[tuple[str, Path]]:
    """The group directories of a container without a control group."""
    return ()


class RootSource(Protocol):
    """How the child gets its root: as a detached mount in a slot, or by being born in it."""

    @property
    def is_root(self) -> bool:
        """It is born in it."""
        ...

    def outside(self, slot: int) -> tuple[Step, ...]:
        """Steps that need no identity."""
        ...

    def identified(self, slot: int, spare: int) -> tuple[Step, ...]:
        """Steps as the container's root; `spare` is a slot for their use."""
        ...

    def entering(self, slot: int) -> tuple[Step, ...]:
        """Steps that make it the root."""
        ...

    def cover_steps(
        self, slots: Callable[[], int]
    ) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]]:
        """For what is mounted over the root besides the specification's mounts.

        Returns:
            Steps before the pivot, right after it, and after the specification's mounts.
        """
        ...


@dataclass(frozen=True, slots=True)
class PlainRoot:
    """A directory of the host as it is."""

    place: Path
    is_root = False

    def outside(self, slot: int) -> tuple[Step, ...]:
        """A copy of its mount, and of those beneath it."""
        return (CopyTree(slot, str(self.place), recursive=True),)

    def identified(self, slot: int, spare: int) -> tuple[Step, ...]:  # noqa: ARG002
        """None."""
        return ()

    def entering(self, slot: int) -> tuple[Step, ...]:
        """By pivoting."""
        return enter_root(slot)

    def cover_steps(
        self,
        slots: Callable[[], int],  # noqa: ARG002
    ) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]]:
        """None."""
        return (), (), ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container needs that its specification does not say."""

    root: RootSource
    bundle: Path
    """What relative paths are relative to."""
    slots: Slots
    map_ids: MapIds
    group_directories: Callable[[], Iterable[tuple[str, Path]]] = no_groups
    policy: SeccompProfile | Policy | None = None
    """In the place of the specification's own filter."""
    grantable: int | None = None
    """The capabilities that can be granted, a bit set; None: all, as in a new user namespace."""
    keyring: bool = True
    """A session keyring of its own."""
    keep_groups: bool = False
    """setgroups is denied in its user namespace."""
    null: str = "/dev/null"
    """A null device that is the host's, to cover files with."""
    empty: str = ""
    """An empty directory of the host's, to cover directories with; one is made where there is none."""
    own_devices: bool = True
    """/dev is to be filled; false where something complete is mounted there."""
    entered: frozenset[str] = frozenset()
    """Namespaces that the spawning thread enters, so that the child is born inside."""
    early: Sequence[Step] = ()
    """Once the child is the container's root."""
    stdio: Sequence[Step] = ()
    """Once /dev is complete."""
    waiting: Sequence[Step] = ()
    """When all is made: waiting to be started, hooks."""
    last: Sequence[Step] = ()
    """Just before the filter that comes before execve."""
    clock_offsets: str | None = None
    """For a child with memory of its own, which enters a new time namespace at once and so fixes its offsets:
    it makes the namespace itself, writes this text, and enters it by execve."""


@dataclass(slots=True)
class _Parts:
    tree: MountSteps = field(default_factory=MountSteps)
    covers: list[Mask | MaskFrom | Protect] = field(default_factory=list)

    def is_early(self, path: str) -> bool:
        """Whether it lies in what is mounted before the ids are known."""
        points = (place.path for place in self.tree.unmapped_inside)
        return any(PurePosixPath(path).is_relative_to(point) for point in points)

    def without_ids(self, settings: Sequence[Step]) -> tuple[Step, ...]:
        """Takes out what needs neither ids nor what needs them: mounts, settings and covers in those."""
        tree = self.tree
        early = [cover for cover in self.covers if self.is_early(cover.path)]
        steps = (*tree.unmapped, *tree.unmapped_inside, *settings, *early)
        tree.unmapped.clear()
        tree.unmapped_inside.clear()
        self.covers = [cover for cover in self.covers if cover not in early]
        return steps


def assemble(specification: Specification, surroundings: Surroundings) -> Program:
    """The program that is the container.

    Raises:
        InputError: something cannot be made as it is written; starts with the path of the key.
        HostError: a part of the host cannot be mounted, or libseccomp is missing.
    """
    process = specification.process
    if process is None:
        raise InputError("process: is required to run a container", "`runc spec` writes an example")
    kinds = {namespace.type for namespace in specification.linux.namespaces}
    if "mount" not in kinds:
        raise InputError("linux.namespaces: a mount namespace is required, or the host's tree would change")
    parts = _file_tree(specification, surroundings, own_user="user" in kinds)
    root, spare = surroundings.slots.take(), surroundings.slots.take()
    covers_outside, covers_first, covers_last = surroundings.root.cover_steps(surroundings.slots.take)
    settings = [WriteFile(f"/proc/sys/{sysctl_path(name)}", text) for name, text in _sysctls(specification)]
    outside = (*surroundings.root.outside(root), *covers_outside, *parts.tree.outside)
    steps: list[Step] = []
    if surroundings.root.is_root:
        steps += outside
        # While the parent writes the maps: what depends on none of them.
        if _shows_processes_only(specification):
            steps += _made_in_own_proc(settings)
            settings = []
        steps += parts.without_ids(settings)
    steps.append(WaitForMaps())
    if not surroundings.root.is_root:
        # A source may lie in a directory of the container's root (podman's do), which only has power over
        # it once its ids are known to be those.
        steps += outside
    entered = surroundings.entered
    if surroundings.clock_offsets is not None:
        # Before it is hidden, since its files in /proc are out of its reach from then on.
        steps.append(SystemCall("unshare(CLONE_NEWTIME)", _UNSHARE, (FLAGS["time"],)))
        steps.append(WriteFile("/proc/self/timens_offsets", surroundings.clock_offsets))
        entered |= {"time"}
    # Hidden whatever the namespaces: a pid namespace that is joined has processes in it already.
    steps.append(HideExecutable())
    if "user" in kinds:
        steps.append(Identity(keep_groups=surroundings.keep_groups))
    steps += (*surroundings.early, *surroundings.root.identified(root, spare))
    if not surroundings.root.is_root:
        steps += settings
    steps += (*parts.tree.unmapped, *parts.tree.identified, *surroundings.root.entering(root))
    steps += (*covers_first, *parts.tree.unmapped_inside, *parts.tree.inside, *covers_last)
    steps += _network_and_names(specification, entered)
    # The terminal's place and missing mount points are made before the root becomes read-only.
    steps += (*surroundings.stdio, *parts.covers)
    steps += _root_attributes(specification)
    steps += process_steps(process, specification, surroundings)
    return Program.compile(
        steps,
        process.args,
        dict(variable.split("=", 1) for variable in process.env),
        clone_flags(
            namespace for namespace in specification.linux.namespaces if namespace.type not in entered
        ),
        path=process.args[0],
    )


def process_steps(
    process: Process, specification: Specification, surroundings: Surroundings
) -> tuple[Step, ...]:
    """From the complete file tree to execve, for the container's first process and for those that join."""
    linux = specification.linux
    personality = linux.personality.domain if linux.personality else None
    rights, last = right_steps(
        process,
        surroundings.policy or linux.seccomp,
        keep_groups=surroundings.keep_groups,
        grantable=surroundings.grantable,
    )
    return (
        # It takes a descriptor, so it comes before the limit on these. Whoever enters a root is at its top.
        *((WorkingDirectory(process.cwd, make=True),) if process.cwd != "/" else ()),
        *((NewSessionKeyring(),) if surroundings.keyring else ()),
        *attribute_steps(process, personality),
        *rights,
        program_step(process),
        *surroundings.waiting,
        *surroundings.last,
        *last,
    )


def _file_tree(specification: Specification, surroundings: Surroundings, *, own_user: bool) -> _Parts:
    parts = _Parts()
    slots = surroundings.slots
    maker = MountMaker(
        surroundings.bundle,
        slots,
        surroundings.map_ids,
        surroundings.group_directories,
        in_root=surroundings.root.is_root,
    )
    for number, mount in enumerate(specification.mounts):
        maker.add(parts.tree, mount, f"mounts[{number}]")
    if surroundings.own_devices:
        add_devices(parts.tree, specification.linux.devices, slots, may_make_nodes=not own_user)
    parts.covers += (Protect(path, MOUNT_ATTR_RDONLY) for path in specification.linux.readonly_paths)
    _add_masks(parts, specification.linux.masked_paths, surroundings)
    return parts


def _add_masks(parts: _Parts, masked: Sequence[str], surroundings: Surroundings) -> None:
    paths = list(masked)
    if surroundings.root.is_root:
        # What the container is born with, before it has mounted anything of its own over it.
        sources = (surroundings.null, surroundings.empty)
        early = [path for path in paths if parts.is_early(path)]
        parts.covers += (MaskFrom(sources[Path(path).is_dir()], path) for path in early)
        paths = [path for path in paths if path not in early]
    if not paths:
        return
    null, empty = surroundings.slots.take(), surroundings.slots.take()
    # From outside, since the container's own may be anything (CVE-2025-31133).
    parts.tree.outside.append(CopyTree(null, surroundings.null))
    # A mount that is made for nothing is taken down in execve, for which the kernel takes 0.1 ms.
    if any(not path.startswith("/proc/") or Path(path).is_dir() for path in paths):
        if surroundings.empty:
            parts.tree.outside += (CopyTree(empty, surroundings.empty), SetAttributes(empty, _SEALED))
        else:
            parts.tree.identified.append(MakeFilesystem(empty, "tmpfs", "mode=555,size=4k", _SEALED))
    parts.covers += (Mask(null, empty, path) for path in paths)


def _made_in_own_proc(settings: Sequence[Step]) -> tuple[Step, ...]:
    """For a child whose /proc shows processes only; what is mounted for them is gone before all else.

    That takes the kernel 0.1 ms, as the removal of any mount does.
    """
    if not settings:
        return ()
    proc = MountFilesystem("proc", "/proc", flags=_SEALED & ~MOUNT_ATTR_RDONLY)
    return (proc, *settings, SystemCall("umount2 of /proc", _UMOUNT2, (b"/proc", MNT_DETACH)))


def _shows_processes_only(specification: Specification) -> bool:
    """Whether its own /proc has no settings."""
    return not any(
        mount.type == "proc" and mount.destination == "/proc" and "subset=pid" not in mount.options
        for mount in specification.mounts
    )


def _sysctls(specification: Specification) -> Iterable[tuple[str, str]]:
    return specification.linux.sysctl.items()


def _network_and_names(specification: Specification, entered: frozenset[str]) -> Iterable[Step]:
    made = {namespace.type for namespace in specification.linux.namespaces if not namespace.path} - entered
    if "network" in made:
        yield LoopbackUp()
    if specification.hostname:
        yield HostName(specification.hostname)
    if specification.domainname:
        text = specification.domainname.encode()
        yield SystemCall(f"setdomainname {specification.domainname}", _SETDOMAINNAME, (text, len(text)))


def _root_attributes(specification: Specification) -> Iterable[Step]:
    root = specification.root
    if root is not None and root.readonly:
        yield SetMountAttributes("/", MOUNT_ATTR_RDONLY)
    propagation = parse_propagation(specification.linux.rootfs_propagation)
    if propagation is not None and propagation.flag != MS_PRIVATE:
        yield SetMountAttributes("/", 0, recursive=propagation.recursive, propagation=propagation.flag)
