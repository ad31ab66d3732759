"""The protocol every target speaks: prepare, launch, stop, clean up.

A target is prepared for one workload before any clock starts. `launch` starts the clock,
returns when the workload is ready, and hands over an instance that is measured, then stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from pybench.harness.model import Mark, Workload
from pybench.runtime.container.cgroup.readings import KernelMemory
from pybench.runtime.vm.commands import ENVIRONMENT
from pybench.runtime.vm.memory import GuestMemory, HostMemory

COMMAND_ENVIRONMENT: Final = ENVIRONMENT
"""What a command in an instance has where nothing else is asked for: PATH and HOME."""
PIPE: Final = "pipe"
OUTPUT_LIMIT: Final = 1 << 20
"""Bytes of each stream that a command may print."""


class ImageFiles(Protocol):
    """What a target needs of a built image."""

    @property
    def name(self) -> str:
        """The recipe's name."""
        ...

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything in it; the same hash means the same bits on every target."""
        ...

    @property
    def rootfs(self) -> Path:
        """The root filesystem as a directory."""
        ...

    @property
    def initramfs(self) -> Path:
        """The same root filesystem as an archive that a kernel unpacks, with the guest's init."""
        ...

    @property
    def disk(self) -> Path | None:
        """The same root filesystem as a disk, where it is too large for the initramfs."""
        ...

    @property
    def kernel(self) -> Path:
        """The guest's kernel, an ELF file with a PVH entry."""
        ...

    @property
    def marking(self) -> frozenset[str]:
        """Commands that push a mark to file descriptor $PYBENCH_MARK_FD as their first instruction."""
        ...


class Instance(Protocol):
    """One running copy of a workload."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """In time order: `preparing` where there is work ahead of the clock, then `request` to `ready`.

        After `stop` also `stopping` and `stopped`. A phase is the span between two neighbours and is
        named after the mark that ends it.
        """
        ...

    @property
    def processes(self) -> tuple[int, ...]:
        """Host pids whose memory this instance costs, helpers included."""
        ...

    @property
    def cgroup_memory(self) -> int | None:
        """Bytes charged to the instance's own cgroup, or None where it has none."""
        ...

    @property
    def qualifiers(self) -> Mapping[str, str]:
        """What must be said beside every number of this instance, e.g. `accel=tcg`."""
        ...

    @property
    def output(self) -> str:
        """The last lines it printed, bounded, with control characters escaped."""
        ...

    @property
    def ended(self) -> str:
        """Why it is not running any more, as far as can be told at once; empty while it runs."""
        ...

    def stop(self, timeout: float) -> None:
        """Ask politely, wait `timeout` seconds, then kill; verify that nothing is left.

        Adds the marks `stopping` (the request to stop) and `stopped`. Idempotent.

        Raises:
            InstanceError: it had died or hung since it was ready; nothing is left of it.
            LeftoverError: something survived.
        """
        ...


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended by itself."""

    status: int
    """Exit code, or minus the signal."""
    stdout: bytes
    """Bounded; hostile."""
    stderr: bytes
    channel: str = PIPE
    """By which it came: `pipe` from whatever runs on the host's kernel, `virtio-serial` or `isa-serial`."""
    printing: tuple[int, int] | None = None
    """When the first and the last of `stdout` arrived, in nanoseconds of the host's CLOCK_MONOTONIC."""


@runtime_checkable
class HasCommands(Protocol):
    """An instance in which further commands can be run, with the rights and limits of its workload."""

    def execute(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = COMMAND_ENVIRONMENT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command to its end.

        It is found as the workload's own is: by an absolute path inside the image. What it leaves in the
        background ends with the instance at the latest. A virtual machine runs one command at a time.

        Args:
            command: program and arguments.
            timeout: seconds; then it is killed with everything that it has started.
            stdin: its standard input.
            environment: all of it.
            output_limit: bytes it may print on either stream.

        Raises:
            InstanceError: it could not be started, did not end in time, or printed too much.
        """
        ...

    def copy_in(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Make a new file that the instance's commands find at an absolute path, in a directory that exists.

        On a target without a file tree of its own that is a file of the host; it ends with the instance.

        Raises:
            InstanceError: it cannot be written there.
        """
        ...


@runtime_checkable
class HasAddress(Protocol):
    """An instance whose ports the host may reach."""

    @property
    def address(self) -> str:
        """The IPv4 address at which it listens; empty where the host reaches none."""
        ...


@runtime_checkable
class HasGroup(Protocol):
    """What an instance with a control group of its own can tell beside the rest."""

    @property
    def kernel_memory(self) -> KernelMemory | None:
        """What the kernel keeps for it; a part of `cgroup_memory`. None where that is not counted."""
        ...


DISK_PLACE: Final = "/mnt"
"""Where instances with a file tree of their own find their room on the host's disk."""


@runtime_checkable
class HasDisk(Protocol):
    """An instance that may have room on the host's disk."""

    @property
    def disk(self) -> str:
        """The directory, as commands in it find it; empty where the workload asked for none."""
        ...


@runtime_checkable
class HasAccount(Protocol):
    """An instance whose use of the host is counted by the host."""

    @property
    def processor_time(self) -> float | None:
        """Seconds of processors that it has had, its monitor included; None where the host does not count."""
        ...

    @property
    def memory_kills(self) -> int:
        """How many of its processes the host has killed because of its memory limit."""
        ...


@runtime_checkable
class HasGuest(Protocol):
    """What an instance with a kernel of its own can tell beside the rest."""

    def read_host_memory(self) -> HostMemory:
        """What its monitor takes of the host, the guest's memory apart.

        Raises:
            InstanceError: it has ended, or its memory cannot be told apart.
        """
        ...

    def read_guest_memory(self) -> GuestMemory | None:
        """What the guest says, or None if it has nobody to ask.

        Asking costs it a little memory, so it comes after everything else.

        Raises:
            InstanceError: the guest does not answer, or with what cannot be.
        """
        ...


class Target(Protocol):
    """Where a workload runs."""

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Do everything that can be done before a clock starts; may be called once per workload.

        Raises:
            HostError: this host cannot run the target.
            InputError: the workload cannot run on it (e.g. its command is not in the image).
        """
        ...

    def launch(self, timeout: float) -> Instance:
        """Start the clock, start one instance, return when it is ready.

        Raises:
            InstanceError: it failed, or was not ready after `timeout` seconds; nothing is left running.
        """
        ...

    def cleanup(self) -> None:
        """Release what `prepare` made and verify it. Idempotent."""
        ...
