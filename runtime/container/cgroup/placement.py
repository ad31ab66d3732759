"""Groups where `linux.cgroupsPath` says, as runc's cgroupfs driver and crun's place them.

Version 1: a group of that path in every hierarchy that is mounted, also in those that limit nothing, for
Docker and containerd look for a container's group by the paths in /proc/PID/cgroup. Version 2: one
group, with all controllers enabled in the groups above it.

A group above that had to be made carries a mark, an extended attribute; whoever removes the last group
beneath it, then removes it too. Whoever is killed between making one and marking it, has written down
before that it may be going to make it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pybench.runtime.container.cgroup.base import Group, Limits, processes_beneath, remove_directory
from pybench.runtime.container.cgroup.detect import (
    ESSENTIAL,
    Hierarchy,
    detect,
    mounted_hierarchies,
    own_directories,
)
from pybench.runtime.container.cgroup.devices import PATH as DEVICES
from pybench.runtime.container.cgroup.devices import hold_version1, hold_version2
from pybench.runtime.container.cgroup.readings import read_words
from pybench.runtime.container.cgroup.resources import hold, refuse_unavailable
from pybench.runtime.container.cgroup.settings import Setting, missing, version1_settings, version2_settings
from pybench.runtime.container.cgroup.v1 import Group1, inherit_cpuset
from pybench.runtime.container.cgroup.v2 import Version2, enable_controllers, open_group2
from pybench.runtime.container.specification.resources import DeviceRule
from pybench.runtime.errors import HostError, InputError, PybenchError

PATH: Final = "linux.cgroupsPath"
DEFAULT_PARENT: Final = "pybench-oci"
"""Below the mount of each hierarchy, for a container whose specification says no path."""
_MARK: Final = "user.pybench-oci"
_ATTEMPTS: Final = 20
"""Another container's end may remove a group above between the look at it and its use."""
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a container's group is going to be; nothing has been made yet."""

    by_controller: Mapping[str, Path]
    """Controller → directory; "" alone for version 2."""
    mounts: Mapping[str, Path]
    """Controller → where its hierarchy is mounted, above which nothing is touched."""
    own: Mapping[str, Path]
    """Controller → this process's group."""
    required: bool
    """The path was asked for; otherwise hierarchies that this user may not write are left out."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory that it may consist of, to be journalled before it is made."""
        return tuple(dict.fromkeys(self.by_controller.values()))

    @property
    def missing_above(self) -> tuple[Path, ...]:
        """The groups above that `create` may have to make, to be written down before it does.

        One with our mark is among them: the container that it was made for may be removing it.
        """
        found = (
            above
            for controller, directory in self.by_controller.items()
            for above in _way(self.mounts[controller], directory)[1:-1]
            if not above.exists() or _is_marked(above)
        )
        return tuple(dict.fromkeys(found))

    def create(self, limits: Limits, devices: Sequence[DeviceRule] | None = None) -> Group:
        """Make the group and the missing ones above it, with all of the limits and rules.

        Args:
            limits: as `limits_of` reads them from the specification.
            devices: all rules, in order; None leaves what the group above may use.

        Raises:
            HostError: the group is in use, a limit cannot be held, or the kernel refused; what was made is
                gone again.
            InputError: version 1 cannot say the device rules.
        """
        self.refuse_used()
        made: list[Path] = []
        try:
            if "" in self.by_controller:
                return self._create_version2(limits, devices, made)
            return self._create_version1(limits, devices, made)
        except (OSError, PybenchError) as error:
            for directory in reversed(made):
                # Not what may be beneath it: another container's, if it was made to be above.
                with contextlib.suppress(OSError):
                    directory.rmdir()
            if isinstance(error, PybenchError):
                raise
            raise HostError(f"{PATH}: cannot make {error.filename}: {error.strerror}") from error

    def refuse_used(self) -> None:
        """Check that nobody is there.

        Raises:
            HostError: the group has processes, or is frozen.
        """
        for directory in self.directories:
            _refuse_used(directory)

    def _create_version1(
        self, limits: Limits, devices: Sequence[DeviceRule] | None, made: list[Path]
    ) -> Group:
        by_controller = {
            controller: directory
            for controller, directory in self.by_controller.items()
            if self._make_version1(controller, directory, made)
        }
        if not by_controller:
            raise HostError("control groups cannot be made here: no hierarchy can be written by this user")
        group = Group1(by_controller, {controller: self.own[controller] for controller in by_controller})
        files = _files(group.directories)
        for setting in _held(version1_settings(limits, files), files, self.directories[0]):
            hold(setting, by_controller[setting.controller])
        if devices is not None:
            if "devices" not in by_controller:
                raise HostError(f"{DEVICES}: cannot be held: the hierarchy devices cannot be written here")
            hold_version1(by_controller["devices"], devices)
        return group

    def _make_version1(self, controller: str, directory: Path, made: list[Path]) -> bool:
        """False where this user may not, and need not."""
        try:
            chain = _make(self.mounts[controller], directory, made)
            if controller == "cpuset":
                for parent, child in itertools.pairwise(chain):
                    _fill_cpuset(parent, child)
        except OSError as error:
            if self.required or error.errno not in _FORBIDDEN:
                raise
            return False
        return True

    def _create_version2(
        self, limits: Limits, devices: Sequence[DeviceRule] | None, made: list[Path]
    ) -> Group:
        directory = self.by_controller[""]
        _make(self.mounts[""], directory, made, enable=True)
        kind = (directory / "cgroup.type").read_text(encoding="ascii").strip()
        if kind != "domain":
            raise HostError(
                f"{PATH}: {directory} is {kind}, not a domain, and cannot hold a container's processes",
                "a group above it has processes of its own, or is threaded",
            )
        files = _files((directory,))
        for setting in _held(version2_settings(limits, files), files, directory):
            hold(setting, directory)
        group = open_group2(directory)
        if devices is not None:
            try:
                hold_version2(group.descriptor, devices)
            except PybenchError:
                os.close(group.descriptor)
                raise
        return group


def placement_of(cgroups_path: str, identifier: str) -> Placement:
    """Where the group of a container is.

    Args:
        cgroups_path: `linux.cgroupsPath`. Absolute, it is below the mount of each hierarchy. Relative, it is
            below this process's own group, in version 2 beside it, as a group with processes can give its
            children no controllers. Empty, it is `/pybench-oci/IDENTIFIER`.
        identifier: the container's.

    Raises:
        InputError: the path is none for a group of its own.
        HostError: no hierarchy is mounted.
    """
    inner = _checked(cgroups_path) if cgroups_path else PurePosixPath("/", DEFAULT_PARENT, identifier)
    hierarchies = mounted_hierarchies()
    own = own_directories(hierarchies)
    version2 = "" in own and bool(read_words(hierarchies[""].mount / "cgroup.controllers") & ESSENTIAL)
    controllers = [""] if version2 else [controller for controller in own if controller]
    if not controllers:
        raise HostError("control groups cannot be made here: no cgroup filesystem is mounted")
    if version2 and not (cgroups_path or os.access(hierarchies[""].mount, os.W_OK)):
        return _delegated(hierarchies, identifier)
    mounts = {controller: hierarchies[controller].mount for controller in controllers}
    return Placement(
        {
            controller: _base(mounts[controller], own[controller], inner, version2)
            for controller in controllers
        },
        mounts,
        {controller: own[controller] for controller in controllers},
        required=bool(cgroups_path),
    )


def remove_placed(directories: Iterable[Path], unmarked: Iterable[Path] = ()) -> None:
    """Remove a container's empty group, and the groups above it that were made for one of ours.

    Needs nothing but the directories, of which some may have vanished. Idempotent. A `Group` of this
    process is to be removed by its own `remove` before.

    Args:
        directories: of the container's group.
        unmarked: what `missing_above` said before an interrupted `create`, which may have made these and
            not marked them.

    Raises:
        LeftoverError: something is still inside.
    """
    for parent in unmarked:
        # Whatever holds it up now is another container's, whose end will look for the mark.
        if parent.exists():
            _mark(parent)
    for directory in directories:
        remove_directory(directory)
        for parent in directory.parents:
            try:
                os.getxattr(parent, _MARK)
                parent.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                # Not ours (ENODATA), or with other groups beneath it (EBUSY).
                break


def _checked(cgroups_path: str) -> PurePosixPath:
    if cgroups_path.count(":") == 2 and not cgroups_path.startswith("/"):  # noqa: PLR2004 - slice:prefix:name
        raise InputError(
            f"{PATH}: {cgroups_path!r} is a unit of systemd's, and units are not made here",
            "let the caller use the cgroupfs driver: dockerd --exec-opt native.cgroupdriver=cgroupfs, or "
            "podman --cgroup-manager=cgroupfs",
        )
    path = PurePosixPath(cgroups_path)
    if not path.name or ".." in path.parts:
        raise InputError(f"{PATH}: {cgroups_path!r} is not the path of a group of the container's own")
    return path


def _base(mount: Path, own: Path, inner: PurePosixPath, version2: bool) -> Path:
    if inner.is_absolute():
        return mount / inner.relative_to("/")
    return (own.parent if version2 and own != mount else own) / inner


def _delegated(hierarchies: Mapping[str, Hierarchy], identifier: str) -> Placement:
    """For an ordinary user: in the group that is delegated to it."""
    controller = detect()
    if not isinstance(controller, Version2):
        raise HostError("control groups cannot be made here: none is delegated to this user")
    own = own_directories(mounted_hierarchies())
    directory = controller.parent / f"{DEFAULT_PARENT}-{identifier}"
    return Placement({"": directory}, {"": hierarchies[""].mount}, {"": own[""]}, required=False)


def _refuse_used(directory: Path) -> None:
    if inside := processes_beneath(directory):
        raise HostError(
            f"{PATH}: the control group {directory} is in use by the processes "
            f"{', '.join(map(str, inside[:8]))}{', …' if len(inside) > 8 else ''}",  # noqa: PLR2004
            "give the container a path of its own",
        )
    for file, running in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with contextlib.suppress(OSError):
            if (directory / file).read_text(encoding="ascii").strip() != running:
                raise HostError(f"{PATH}: the control group {directory} is frozen", "thaw or remove it first")


def _make(mount: Path, directory: Path, made: list[Path], *, enable: bool = False) -> list[Path]:
    """Make what is missing below the mount; returns the way from the mount to the directory."""
    chain = _way(mount, directory)
    for _ in range(_ATTEMPTS):
        try:
            for group in chain[1:]:
                if enable:
                    enable_controllers(group.parent)
                _make_one(group, made, marked=group != directory)
        except FileNotFoundError:
            continue
        return chain
    raise HostError(f"{PATH}: the groups above {directory} are removed as fast as they are made")


def _way(mount: Path, directory: Path) -> list[Path]:
    """From the mount to the directory, both included."""
    steps = directory.relative_to(mount).parts
    return [mount.joinpath(*steps[:length]) for length in range(len(steps) + 1)]


def _make_one(group: Path, made: list[Path], *, marked: bool) -> None:
    try:
        group.mkdir()
    except FileExistsError:
        return
    made.append(group)
    if marked:
        _mark(group)


def _mark(group: Path) -> None:
    # A kernel before 5.7 has no such attributes; then the group stays, as with other runtimes.
    with contextlib.suppress(OSError):
        os.setxattr(group, _MARK, b"1")


def _is_marked(group: Path) -> bool:
    """False also where there is none, or it is no group of control groups' own file system."""
    try:
        return bool(os.getxattr(group, _MARK))
    except OSError:
        return False


def _fill_cpuset(parent: Path, directory: Path) -> None:
    """Nothing can enter a new group, for it has no CPUs and nodes (cpuset(7)); others are left alone."""
    if not (directory / "cpuset.cpus").read_text(encoding="ascii").strip():
        inherit_cpuset(parent, directory)


def _files(directories: Iterable[Path]) -> frozenset[str]:
    return frozenset(name for directory in directories for name in os.listdir(directory))  # noqa: PTH208


def _held(settings: tuple[Setting, ...], files: frozenset[str], directory: Path) -> tuple[Setting, ...]:
    """All settings, none of which may lack its file."""
    refuse_unavailable(missing(settings, files), directory)
    return tuple(setting for setting in settings if setting.file in files)
