"""The protocol every target speaks: prepare, launch, stop, clean up.

A target is prepared for one workload before any clock starts. `launch` starts the clock,
returns when the workload is ready, and hands over an instance that is measured, then stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from pybench.harness.model import Mark, Workload
from pybench.runtime.vm.memory import GuestMemory, HostMemory


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
        """Commands that push a byte to file descriptor $PYBENCH_MARK_FD as their first instruction."""
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

    def stop(self, timeout: float) -> None:
        """Ask politely, wait `timeout` seconds, then kill; verify that nothing is left.

        Adds the marks `stopping` (the request to stop) and `stopped`. Idempotent.

        Raises:
            InstanceError: it had died or hung since it was ready; nothing is left of it.
            LeftoverError: something survived.
        """
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
