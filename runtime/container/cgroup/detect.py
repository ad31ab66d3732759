"""Which control groups this process may make, found out by making one."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container.cgroup.base import Controller, Group, Limits
from pybench.runtime.container.cgroup.v1 import CONTROLLERS, Version1
from pybench.runtime.container.cgroup.v2 import Version2
from pybench.runtime.errors import HostError

WANTED = frozenset({"cpu", "memory", "pids"})


@dataclass(frozen=True, slots=True)
class NoGroups:
    """A host, or a user, that cannot make groups: every limit is unavailable."""

    reason: str
    label: str = "none"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Every limit that is asked for."""
        wanted = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
        return tuple(name for name, value in wanted.items() if value is not None)

    def directories(self, name: str) -> tuple[Path, ...]:  # noqa: ARG002 - the interface has it
        """None."""
        return ()

    def create(self, name: str, limits: Limits) -> Group:  # noqa: ARG002
        """Refused.

        Raises:
            HostError: always, with the reason.
        """
        raise HostError(f"control groups cannot be made here: {self.reason}")


def detect() -> Controller:
    """The way to make groups that works for this process here and now."""
    mounts = _mounts()
    own = _own_groups()
    if (version2 := _try_version2(mounts, own)) is not None:
        return version2
    parents = {}
    for controller in CONTROLLERS:
        mount = mounts.get(controller)
        path = own.get(controller)
        if mount and path is not None and _can_make(parent := mount / path.lstrip("/")):
            parents[controller] = parent
    if parents:
        return Version1(parents)
    return NoGroups("no hierarchy can be written" if mounts else "no cgroup filesystem is mounted")


def _mounts() -> dict[str, Path]:
    """Controller → where its v1 hierarchy is mounted; "" → where v2 is."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = Path(before.split(" ")[4])
        if kind == "cgroup2":
            found.setdefault("", point)
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, point)
    return found


def _own_groups() -> dict[str, str]:
    """Controller → this process's group; "" → its v2 group (cgroups(7), /proc/[pid]/cgroup)."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    return own


def _can_make(parent: Path) -> bool:
    trial = parent / f"pybench-trial-{os.getpid()}"
    try:
        trial.mkdir()
    except OSError:
        return False
    with contextlib.suppress(OSError):
        trial.rmdir()
    return True


def _try_version2(mounts: dict[str, Path], own: dict[str, str]) -> Version2 | None:
    """The nearest group upwards whose children have the most of the controllers.

    A group with processes cannot enable controllers for its children (cgroups(7), "no internal
    processes"), except the root; so the harness's own group seldom is the one. Only the own
    group's setting is ever changed: the ancestors are the machine's.
    """
    root = mounts.get("")
    if root is None or "" not in own:
        return None
    group = root / own[""].lstrip("/")
    for controller in _words(group / "cgroup.controllers") & WANTED:
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    best: Version2 | None = None
    for candidate in (group, *group.parents):
        if not candidate.is_relative_to(root):
            break
        enabled = _words(candidate / "cgroup.subtree_control") & WANTED
        if len(enabled) > (len(best.controllers) if best else 0) and _can_make(candidate):
            best = Version2(candidate, frozenset(enabled))
    return best


def _words(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text(encoding="ascii").split())
    except OSError:
        return frozenset()
