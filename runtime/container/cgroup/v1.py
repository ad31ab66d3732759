"""Version 1: one hierarchy per controller.

Joining a group by cgroup.procs waits for an RCU grace period after a quiet moment (10-19 ms).
So nobody joins: the spawning *thread* is moved through `tasks` before the clock starts, and a
child inherits the group of the thread that cloned it. The first move pays for the grace period;
each further hierarchy costs some 0.04 ms in and 0.03 ms out, so the ones that every container
has a use for are always joined and only the others wait to be asked for.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pybench.runtime.container.cgroup.base import (
    FREEZE_PATIENCE,
    Group,
    if_vanished,
    kill_and_wait,
    processes_beneath,
    remove_directory,
)
from pybench.runtime.container.cgroup.limits import Limits
from pybench.runtime.container.cgroup.readings import (
    NANOSECOND,
    KernelMemory,
    Pressure,
    Usage,
    read_blkio,
    read_number,
    scaled,
)
from pybench.runtime.container.cgroup.settings import Setting, missing, version1_settings
from pybench.runtime.errors import HostError, LeftoverError, PybenchError

ALWAYS_JOINED = ("cpu", "memory", "pids", "cpuacct", "freezer")
"""Limits that nearly every container has, its usage, and the means to pause and to kill it."""
JOINED_ON_DEMAND = ("cpuset", "blkio", "hugetlb")
CONTROLLERS = ALWAYS_JOINED + JOINED_ON_DEMAND

_KILL_FREEZE_PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Version1:
    """Makes groups below the harness's own in every hierarchy that can be written."""

    parents: Mapping[str, Path] = field(default_factory=dict)
    """Controller → the harness's own group in its hierarchy; the same for those mounted together."""
    files: frozenset[str] = frozenset()
    """Names of the files that a group below them has."""
    label: str = "v1"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Names of the limits asked for whose controller, or whose file, is not there."""
        return missing(version1_settings(limits, self.files), self.files)

    def directories(self, name: str, limits: Limits | None = None) -> tuple[Path, ...]:
        """One directory per hierarchy."""
        joined = self.parents if limits is None else self._joined(self._settings(limits))
        return tuple(dict.fromkeys(self.parents[controller] / name for controller in joined))

    def create(self, name: str, limits: Limits) -> Group:
        """Make the directories and write the limits; nothing is left if one is refused."""
        settings = self._settings(limits)
        parents = {controller: self.parents[controller] for controller in self._joined(settings)}
        group = Group1({controller: parent / name for controller, parent in parents.items()}, parents)
        made: list[Path] = []
        try:
            for directory in group.directories:
                directory.mkdir()
                made.append(directory)
            if "cpuset" in parents:
                inherit_cpuset(parents["cpuset"], group.by_controller["cpuset"])
            for setting in settings:
                setting.write(group.by_controller[setting.controller])
        except (OSError, PybenchError) as error:
            for directory in made:
                remove_directory(directory)
            raise HostError(f"cannot make the control group {name}: {error}") from error
        return group

    def _settings(self, limits: Limits) -> tuple[Setting, ...]:
        """Those that can be held here."""
        wanted = version1_settings(limits, self.files)
        return tuple(setting for setting in wanted if setting.file in self.files)

    def _joined(self, settings: tuple[Setting, ...]) -> tuple[str, ...]:
        asked = {setting.controller for setting in settings}
        return tuple(name for name in self.parents if name in ALWAYS_JOINED or name in asked)


def inherit_cpuset(parent: Path, directory: Path) -> None:
    """A new group has no CPU and no node, and nothing can enter it until it has (cpuset(7))."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        (directory / name).write_text((parent / name).read_text(encoding="ascii"), encoding="ascii")


@dataclass(frozen=True, slots=True)
class Group1:
    """One container's directories."""

    by_controller: Mapping[str, Path]
    parents: Mapping[str, Path]
    """Controller → where the spawning thread goes back to."""
    descriptor: int = -1

    @property
    def directories(self) -> tuple[Path, ...]:
        """One per hierarchy."""
        return tuple(dict.fromkeys(self.by_controller.values()))

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Move the calling thread in, and back out afterwards."""
        if self._state() not in {"THAWED", ""}:
            raise HostError(f"the control group {self.directories[0].name} is frozen", "thaw it first")
        thread = str(threading.get_native_id())
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._room_for_spawner())
            for parent in dict.fromkeys(self.parents.values()):
                # Opened ahead: inside, the kernel may have no memory left for that.
                way_out = os.open(parent / "tasks", os.O_WRONLY | os.O_CLOEXEC)
                stack.callback(os.close, way_out)
                stack.callback(os.write, way_out, thread.encode())
            for directory in self.directories:
                try:
                    (directory / "tasks").write_text(thread, encoding="ascii")
                except OSError as error:
                    raise HostError(
                        f"cannot join the control group {directory}: {error.strerror}", if_vanished(directory)
                    ) from error
            yield

    @contextlib.contextmanager
    def _room_for_spawner(self) -> Iterator[None]:
        """The spawning thread counts as one of the group's while it is inside."""
        pids = self.by_controller.get("pids")
        limit = read_number(pids / "pids.max") if pids else None
        if pids is None or limit is None:
            yield
            return
        file = pids / "pids.max"
        try:
            file.write_text(str(limit + 1), encoding="ascii")
        except OSError as error:
            raise HostError(
                f"cannot join the control group {pids}: {error.strerror}", if_vanished(pids)
            ) from error
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                file.write_text(str(limit), encoding="ascii")

    def memory_charged(self) -> int | None:
        """Bytes charged now, kernel memory included."""
        return self._number("memory", "memory.usage_in_bytes")

    def kernel_memory(self) -> KernelMemory | None:
        """Their sum alone; this version does not divide it."""
        total = self._number("memory", "memory.kmem.usage_in_bytes")
        return None if total is None else KernelMemory(total, None, None, None)

    def out_of_memory_kills(self) -> int:
        """From memory.oom_control."""
        return self._number("memory", "memory.oom_control", "oom_kill") or 0

    def usage(self) -> Usage:
        """From one file per figure; figures of hierarchies that were not joined are None."""
        read = written = None
        if blkio := self.by_controller.get("blkio"):
            read, written = read_blkio(blkio / "blkio.throttle.io_service_bytes_recursive")
        return Usage(
            memory=self.memory_charged(),
            memory_peak=self._number("memory", "memory.max_usage_in_bytes"),
            cpu_seconds=scaled(self._number("cpuacct", "cpuacct.usage"), NANOSECOND),
            throttled_seconds=scaled(self._number("cpu", "cpu.stat", "throttled_time"), NANOSECOND),
            pids=self._number("pids", "pids.current"),
            io_bytes_read=read,
            io_bytes_written=written,
            oom_kills=self._number("memory", "memory.oom_control", "oom_kill"),
        )

    def _number(self, controller: str, file: str, key: str | None = None) -> int | None:
        directory = self.by_controller.get(controller)
        return read_number(directory / file, key) if directory else None

    def pressure(self) -> Pressure | None:
        """None: version 1 keeps it for the whole host only."""
        return None

    def processes(self) -> tuple[int, ...]:
        """Pids in any of the directories, without this process, of which only a thread may be inside."""
        inside = {pid for directory in self.directories for pid in processes_beneath(directory)}
        return tuple(sorted(inside - {os.getpid()}))

    def freeze(self) -> None:
        """Through the freezer's state; nothing announces its changes, so it is read until it has changed."""
        self._freeze(FREEZE_PATIENCE)

    def _freeze(self, patience: float) -> None:
        freezer = self.by_controller.get("freezer")
        if freezer is None:
            raise HostError("processes cannot be frozen here: the freezer hierarchy cannot be written")
        deadline = time.monotonic() + patience
        file = freezer / "freezer.state"
        try:
            while True:
                # Written again each time: a thread that was woken meanwhile is asked once more.
                file.write_text("FROZEN", encoding="ascii")
                if self._state() == "FROZEN":
                    return
                if time.monotonic() > deadline:
                    file.write_text("THAWED", encoding="ascii")
                    raise HostError(f"the control group {freezer} did not freeze in {patience:g} s")
                time.sleep(0.0005)
        except OSError as error:
            raise HostError(
                f"cannot freeze the control group {freezer}: {error.strerror}", if_vanished(freezer)
            ) from error

    def thaw(self) -> None:
        """Takes effect at once."""
        if freezer := self.by_controller.get("freezer"):
            with contextlib.suppress(FileNotFoundError):
                (freezer / "freezer.state").write_text("THAWED", encoding="ascii")

    def _state(self) -> str:
        """THAWED, FREEZING or FROZEN; empty where there is no freezer."""
        freezer = self.by_controller.get("freezer")
        try:
            return (freezer / "freezer.state").read_text(encoding="ascii").strip() if freezer else ""
        except FileNotFoundError:
            return ""

    def kill(self) -> None:
        """Signal while frozen, then thaw: a frozen process of version 1 cannot die."""
        try:
            kill_and_wait(self.processes, self._still)
        except LeftoverError as error:
            raise LeftoverError(
                f"control group {self.directories[0].name}: {error.message}", error.hint
            ) from error

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        """Nothing inside can fork: it is frozen, or else may have no further process."""
        try:
            self._freeze(_KILL_FREEZE_PATIENCE)
        except HostError:
            if pids := self.by_controller.get("pids"):
                with contextlib.suppress(OSError):
                    (pids / "pids.max").write_text("0", encoding="ascii")
        try:
            yield
        finally:
            self.thaw()

    def remove(self) -> None:
        """Remove every directory."""
        for directory in self.directories:
            remove_directory(directory)
