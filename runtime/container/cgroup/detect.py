"""Which control groups this process may make, found out by making one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pybench.runtime.container.cgroup import delegation
from pybench.runtime.container.cgroup.base import Controller, Group, Limits
from pybench.runtime.container.cgroup.readings import read_words
from pybench.runtime.container.cgroup.settings import missing, version2_settings
from pybench.runtime.container.cgroup.v1 import CONTROLLERS, Group1, Version1
from pybench.runtime.container.cgroup.v2 import CONTROLLERS as VERSION2_CONTROLLERS
from pybench.runtime.container.cgroup.v2 import Version2, enable_controllers, open_group2
from pybench.runtime.errors import HostError

ESSENTIAL = frozenset({"cpu", "memory", "pids"})
"""Version 2 is only of use if it has at least one of these."""


@dataclass(frozen=True, slots=True)
class NoGroups:
    """A host, or a user, that cannot make groups: every limit is unavailable."""

    reason: str
    label: str = "none"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Every limit that is asked for."""
        return missing(version2_settings(limits, frozenset()), frozenset())

    def directories(self, name: str, limits: Limits | None = None) -> tuple[Path, ...]:  # noqa: ARG002
        """None."""
        return ()

    def create(self, name: str, limits: Limits) -> Group:  # noqa: ARG002
        """Refused.

        Raises:
            HostError: always, with the reason.
        """
        raise HostError(f"control groups cannot be made here: {self.reason}")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where one hierarchy is mounted, and which of its groups is seen there as the uppermost."""

    mount: Path
    root: PurePosixPath

    def directory(self, group: str) -> Path | None:
        """The directory of a group as /proc/self/cgroup names it; None if it is not below the mount."""
        try:
            return self.mount / PurePosixPath(group).relative_to(self.root)
        except ValueError:
            return None


def detect() -> Controller:
    """The way to make groups that works for this process here and now.

    Where version 2 is not delegated to this user but systemd is there, this process moves into a
    scope of its own.
    """
    hierarchies = mounted_hierarchies()
    if not hierarchies:
        return NoGroups("no cgroup filesystem is mounted")
    if (version2 := _try_version2(hierarchies)) is not None:
        return version2
    if (version1 := _try_version1(hierarchies)) is not None:
        return version1
    if "" not in hierarchies:
        return NoGroups("no hierarchy can be written by this user")
    try:
        return _in_scope(hierarchies)
    except HostError as error:
        return NoGroups(f"no hierarchy can be written by this user, and {error}")


def open_group(directories: Iterable[Path]) -> Group:
    """A group that another process made, from its `directories`.

    Raises:
        HostError: it is gone, or not one.
    """
    paths = tuple(directories)
    hierarchies = mounted_hierarchies()
    if "" in hierarchies and all(path.is_relative_to(hierarchies[""].mount) for path in paths):
        try:
            (path,) = paths
            return open_group2(path)
        except (OSError, ValueError) as error:
            raise HostError(f"cannot open the control group of {paths}: {error}") from error
    own = own_directories(hierarchies)
    found = {
        name: path
        # Also the hierarchies in which nothing of ours is limited, if the group is in them.
        for name in dict.fromkeys((*CONTROLLERS, *own))
        if name in own
        for path in paths
        if path.is_relative_to(hierarchies[name].mount) and path.is_dir()
    }
    if not set(paths) <= set(found.values()):
        raise HostError(f"the control group {', '.join(map(str, paths)) or '(none)'} is not there any more")
    return Group1(found, {name: own[name] for name in found})


def mounted_hierarchies() -> dict[str, Hierarchy]:
    """Controller → its v1 hierarchy; "" → version 2's (proc_pid_mountinfo(5))."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split(" ")[3:5]
        hierarchy = Hierarchy(Path(point), PurePosixPath(root))
        if kind == "cgroup2":
            found.setdefault("", hierarchy)
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, hierarchy)
    return found


def own_directories(hierarchies: dict[str, Hierarchy]) -> dict[str, Path]:
    """Controller → this process's group; "" → its v2 group (cgroups(7), /proc/[pid]/cgroup)."""
    own: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            hierarchy = hierarchies.get(controller)
            if hierarchy is not None and (directory := hierarchy.directory(path)) is not None:
                own[controller] = directory
    return own


def _try_to_make(parent: Path) -> frozenset[str] | None:
    """The names of a new group's files; None if none can be made."""
    trial = parent / f"pybench-trial-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        trial.mkdir()
    except OSError:
        return None
    try:
        return frozenset(os.listdir(trial))  # noqa: PTH208 - names are wanted, not paths
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()


def _try_version1(hierarchies: dict[str, Hierarchy]) -> Version1 | None:
    own = own_directories(hierarchies)
    parents: dict[str, Path] = {}
    files: frozenset[str] = frozenset()
    for controller in CONTROLLERS:
        parent = own.get(controller)
        if parent is not None and (names := _try_to_make(parent)) is not None:
            parents[controller] = parent
            files |= names
    return Version1(parents, files) if parents else None


def _try_version2(hierarchies: dict[str, Hierarchy]) -> Version2 | None:
    """The nearest group upwards whose children have the most of the controllers.

    A group with processes cannot enable controllers for its children (cgroups(7), "no internal
    processes"), except the root; so the harness's own group seldom is the one. Only the own
    group's setting is ever changed: the ancestors are the machine's.
    """
    group = own_directories(hierarchies).get("")
    if group is None or not read_words(group / "cgroup.controllers") & ESSENTIAL:
        return None
    enable_controllers(group)
    best: Version2 | None = None
    for candidate in (group, *group.parents):
        if not candidate.is_relative_to(hierarchies[""].mount):
            break
        enabled = read_words(candidate / "cgroup.subtree_control") & VERSION2_CONTROLLERS
        if _rank(enabled) > _rank(best.controllers if best else frozenset()) and enabled & ESSENTIAL:
            files = _try_to_make(candidate)
            if files is not None:
                best = Version2(candidate, enabled, files)
    return best


def _rank(controllers: frozenset[str]) -> tuple[int, int]:
    return len(controllers & ESSENTIAL), len(controllers)


def _in_scope(hierarchies: dict[str, Hierarchy]) -> Version2:
    """Within a new scope of systemd's.

    Raises:
        HostError: there is none to be had; says why.
    """
    delegation.enter_scope()
    scope = own_directories(hierarchies).get("")
    if scope is None:
        raise HostError("the scope that systemd made is not below the mount of cgroup2")
    delegation.settle(scope)
    version2 = _try_version2(hierarchies)
    if version2 is None:
        raise HostError(f"systemd delegates no controller to {scope}")
    return version2
