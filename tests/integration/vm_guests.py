"""Guests for the tests of the VM runtime: an open connection, and machines made with few words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.runtime.vm.connection import Connection
from pybench.runtime.vm.domain import Acceleration, Disk
from pybench.runtime.vm.drivers import has_driver, has_init
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.network import GuestNetwork
from pybench.runtime.vm.progress import MachineSpec
from pybench.runtime.vm.workload import GuestWorkload, write_initramfs
from pybench.vm_images import Image

WORKLOAD = "/bin/workload"
BOOT_TIMEOUT = 180.0
STOP_TIMEOUT = 120.0
"""Seconds for what heeds the request to end: a guest that does not answer in time is reported as hung."""


@dataclass(slots=True)
class Guests:
    """Makes machines of one image on one connection."""

    connection: Connection
    image: Image
    made: list[VirtualMachine] = field(default_factory=list)
    base: Path | None = None
    """Another initramfs than the image's."""

    def make(
        self,
        *command: str,
        line: str | None = None,
        limits: dict[str, str] | None = None,
        command_line: str = COMMAND_LINE,
        machine: str = "q35",
        acceleration: Acceleration = "tcg",
        network: GuestNetwork | None = None,
    ) -> VirtualMachine:
        """A machine that was not started yet."""
        initramfs = self.connection.directory / f"{os.urandom(4).hex()}.cpio"
        marking = command[0] in self.image.marking
        workload = GuestWorkload(command, host_name="guest", marking=marking, limits=limits or {})
        base = self.base or self.image.initramfs
        write_initramfs(base, workload, initramfs)
        spec = MachineSpec(
            kernel=self.image.kernel,
            initramfs=initramfs,
            command_line=command_line + (network.arguments if network else ""),
            interface=network.interface if network else None,
            memory=256 << 20,
            machine=machine,
            marking=marking,
            line=line,
            acceleration=acceleration,
            processor="basic",
            disks=(Disk(self.image.disk),) if self.image.disk else (),
            virtio_port=has_driver("virtio_console", self.image.kernel, base),
            bare_metal=not has_init(base),
        )
        self.made.append(VirtualMachine(self.connection, spec))
        return self.made[-1]

    @contextmanager
    def running(
        self, *command: str, line: str | None = None, limits: dict[str, str] | None = None
    ) -> Iterator[VirtualMachine]:
        """A machine that is ready; stopped on leaving."""
        machine = self.make(*command, line=line, limits=limits)
        machine.start(BOOT_TIMEOUT)
        try:
            yield machine
        finally:
            machine.stop(STOP_TIMEOUT)

    def traces(self) -> list[str]:
        """What is left of the machines made: QEMU processes, sockets and directories."""
        names = [machine.name for machine in self.made]
        left = [str(path) for name in names for path in self.connection.directory.glob(f"{name}*")]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            left += [f"{process.name} {name}" for name in names if name.encode() in line]
        return left
