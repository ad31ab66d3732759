"""Version 2: one hierarchy; children are cloned straight into their group (CLONE_INTO_CGROUP)."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container.cgroup.base import (
    FREEZE_PATIENCE,
    KILL_PATIENCE,
    REMOVAL_PATIENCE,
    Group,
    if_vanished,
    kill_and_wait,
    processes_beneath,
    remove_directory,
)
from pybench.runtime.container.cgroup.limits import Limits
from pybench.runtime.container.cgroup.readings import (
    MICROSECOND,
    KernelMemory,
    Pressure,
    Usage,
    read_io_stat,
    read_kernel_memory,
    read_number,
    read_pids,
    read_stall,
    read_words,
    scaled,
)
from pybench.runtime.container.cgroup.settings import Setting, missing, version2_settings
from pybench.runtime.errors import HostError, LeftoverError, PybenchError

CONTROLLERS = frozenset({"cpu", "memory", "pids", "cpuset", "io", "hugetlb"})


@dataclass(frozen=True, slots=True)
class Version2:
    """Makes groups below a parent whose controllers are delegated to its children."""

    parent: Path
    controllers: frozenset[str]
    """Enabled for the parent's children."""
    files: frozenset[str] = frozenset()
    """Names of the files that a group below the parent has."""
    label: str = "v2"

    def unavailable(self, limits: Limits) -> tuple[str, ...]:
        """Names of the limits asked for whose controller is not delegated, or whose file is not there."""
        return missing(version2_settings(limits, self.files), self.files)

    def directories(self, name: str, limits: Limits | None = None) -> tuple[Path, ...]:  # noqa: ARG002
        """The one directory."""
        return (self.parent / name,)

    def create(self, name: str, limits: Limits) -> Group:
        """Make the directory and write the limits; nothing is left if one is refused."""
        directory = self.parent / name
        try:
            directory.mkdir()
            try:
                for setting in self._settings(limits):
                    setting.write(directory)
                return open_group2(directory)
            except (OSError, PybenchError):
                remove_directory(directory)
                raise
        except (OSError, PybenchError) as error:
            raise HostError(f"cannot make the control group {directory}: {error}") from error

    def _settings(self, limits: Limits) -> tuple[Setting, ...]:
        """Those that can be held here."""
        wanted = version2_settings(limits, self.files)
        return tuple(setting for setting in wanted if setting.file in self.files)


def enable_controllers(group: Path) -> None:
    """Give a group's children every controller that it has itself, as far as the kernel allows.

    Not below a group with processes, the root excepted, which alone has no type: there some controllers
    can be enabled, but no process can then enter a child (cgroup-v2.rst, "Threads").
    """
    if (group / "cgroup.type").exists() and read_pids(group / "cgroup.procs"):
        return
    for controller in read_words(group / "cgroup.controllers") & CONTROLLERS:
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")


def open_group2(directory: Path) -> Group2:
    """A group that exists.

    Raises:
        OSError: it does not.
    """
    return Group2(directory, os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


@dataclass(slots=True)
class Group2:
    """One container's directory."""

    directory: Path
    descriptor: int

    @property
    def directories(self) -> tuple[Path, ...]:
        """The one directory."""
        return (self.directory,)

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Nothing to do: clone3 puts the child inside through the descriptor."""
        frozen = read_number(self.directory / "cgroup.freeze")
        if frozen:
            raise HostError(f"the control group {self.directory.name} is frozen", "thaw it first")
        if frozen is None and (hint := if_vanished(self.directory)):
            raise HostError(f"cannot join the control group {self.directory}: it is not there", hint)
        yield

    def memory_charged(self) -> int | None:
        """Bytes charged now, kernel memory included."""
        return read_number(self.directory / "memory.current")

    def kernel_memory(self) -> KernelMemory | None:
        """From memory.stat."""
        return read_kernel_memory(self.directory / "memory.stat")

    def out_of_memory_kills(self) -> int:
        """From memory.events."""
        return read_number(self.directory / "memory.events", "oom_kill") or 0

    def usage(self) -> Usage:
        """From one file per figure; figures of controllers that are not delegated are None."""
        read, written = read_io_stat(self.directory / "io.stat")
        cpu = self.directory / "cpu.stat"
        return Usage(
            memory=self.memory_charged(),
            memory_peak=read_number(self.directory / "memory.peak"),
            cpu_seconds=scaled(read_number(cpu, "usage_usec"), MICROSECOND),
            throttled_seconds=scaled(read_number(cpu, "throttled_usec"), MICROSECOND),
            pids=read_number(self.directory / "pids.current"),
            io_bytes_read=read,
            io_bytes_written=written,
            oom_kills=read_number(self.directory / "memory.events", "oom_kill"),
        )

    def pressure(self) -> Pressure | None:
        """None where the kernel was built or booted without it."""
        cpu, memory, io = (
            read_stall(self.directory / f"{resource}.pressure") for resource in ("cpu", "memory", "io")
        )
        if cpu is None and memory is None and io is None:
            return None
        return Pressure(cpu, memory, io)

    def processes(self) -> tuple[int, ...]:
        """Pids inside."""
        return processes_beneath(self.directory)

    def freeze(self) -> None:
        """Through cgroup.freeze; cgroup.events announces that all have stopped."""
        self._freeze(FREEZE_PATIENCE)

    def _freeze(self, patience: float) -> None:
        try:
            self._write("cgroup.freeze", "1")
            if self._await_event("frozen", 1, patience):
                return
            self._write("cgroup.freeze", "0")
        except OSError as error:
            raise HostError(
                f"cannot freeze the control group {self.directory}: {error.strerror}",
                if_vanished(self.directory),
            ) from error
        raise HostError(f"the control group {self.directory} did not freeze in {patience:g} s")

    def thaw(self) -> None:
        """Takes effect at once."""
        with contextlib.suppress(FileNotFoundError):
            self._write("cgroup.freeze", "0")

    def kill(self) -> None:
        """Through cgroup.kill, which no fork outruns and which the frozen obey; a sweep before Linux 5.14."""
        try:
            self._write("cgroup.kill", "1")
        except FileNotFoundError:
            if self.directory.is_dir():
                self._sweep()
            return
        if not self._await_event("populated", 0, KILL_PATIENCE):
            raise LeftoverError(f"control group {self.directory}: processes {self.processes()} do not end")

    def _sweep(self) -> None:
        try:
            kill_and_wait(self.processes, self._still)
        except LeftoverError as error:
            raise LeftoverError(f"control group {self.directory}: {error.message}", error.hint) from error

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        """Nothing inside can fork: it is frozen; unless it cannot be, and then the sweep is repeated."""
        with contextlib.suppress(HostError):
            self._freeze(REMOVAL_PATIENCE / 4)
        try:
            yield
        finally:
            self.thaw()

    def _write(self, name: str, value: str) -> None:
        descriptor = os.open(self.directory / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode("ascii"))
        finally:
            os.close(descriptor)

    def _await_event(self, key: str, value: int, patience: float) -> bool:
        """Wait until cgroup.events says so; a group that vanished has no event to wait for.

        The file is to be polled for POLLPRI, and each change is signalled once after a read (cgroup-v2.rst).
        """
        deadline = time.monotonic() + patience
        try:
            descriptor = os.open(self.directory / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLPRI)
            wanted = f"{key} {value}".encode("ascii")
            while wanted not in os.pread(descriptor, 4096, 0).splitlines():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                poller.poll(remaining * 1000)
        finally:
            os.close(descriptor)
        return True

    def remove(self) -> None:
        """Close the descriptor and remove the directory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        remove_directory(self.directory)
