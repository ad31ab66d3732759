"""Target `vm`: the workload in a guest of its own, started through libvirt."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.nano import nano_image
from pybench.harness.targets.answer import ASKED_LEVELS, await_answer
from pybench.harness.targets.base import COMMAND_ENVIRONMENT, DISK_PLACE, OUTPUT_LIMIT, Completed
from pybench.harness.targets.commands import check_command
from pybench.harness.targets.contents import find_places, find_user
from pybench.harness.targets.vm_disk import add_disk, check_disk, mount_disk
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.processor_time import read_processor_time
from pybench.runtime.scratch import make_disk, scratch_directory
from pybench.runtime.vm.acceleration import decide
from pybench.runtime.vm.command_line import command_line
from pybench.runtime.vm.connection import Connection, open_connection
from pybench.runtime.vm.domain import MEBIBYTE, Disk
from pybench.runtime.vm.drivers import has_driver, has_init
from pybench.runtime.vm.forwarding import LOOPBACK
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.memory import MEMINFO_MAXIMUM, merging_state, parse_guest_memory, read_host_memory
from pybench.runtime.vm.network import TapNetwork, user_network
from pybench.runtime.vm.progress import MachineSpec
from pybench.runtime.vm.workload import GuestWorkload, write_initramfs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pybench.harness.model import Mark, Readiness, Resources, Workload
    from pybench.harness.targets import TargetContext, VmSettings
    from pybench.harness.targets.base import ImageFiles
    from pybench.runtime.vm.memory import GuestMemory, HostMemory
    from pybench.runtime.vm.network import GuestNetwork
    from pybench.runtime.workload_files import WorkloadFile

_KERNEL_ROOM: Final = 32 * MEBIBYTE
"""What a stock kernel takes beside its own image before the first process runs: page structures, slabs."""
_CPU_PERIOD: Final = 100_000
"""Microseconds; the kernel's default of cpu.max (cgroup-v2.rst)."""


class VmInstance:
    """A running guest, in the words of the target protocol."""

    def __init__(
        self,
        machine: VirtualMachine,
        qualifiers: Mapping[str, str],
        resources: contextlib.ExitStack,
        address: str = "",
        disk: str = "",
    ) -> None:
        self.machine = machine
        self._resources = resources
        """What is released when the guest is gone."""
        self.qualifiers = qualifiers
        self.address = address
        self.disk = disk
        """On the bridge; empty where the host cannot reach it."""
        self.cgroup_memory: int | None = None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """`request`, `vmm`, `kernel`, `sandbox`, `exec`, `ready`, and `stopped` once it is."""
        return tuple(self.machine.marks)

    @property
    def processes(self) -> tuple[int, ...]:
        """QEMU."""
        return self.machine.processes

    @property
    def processor_time(self) -> float:
        """Seconds that QEMU has had of the host's processors, its own work for the guest included."""
        return sum(map(read_processor_time, self.processes))

    @property
    def memory_kills(self) -> int:
        """None: its own kernel ends what goes beyond its limits, and the host's knows nothing of it."""
        return 0

    @property
    def output(self) -> str:
        """The last of what the workload printed, escaped."""
        return self.machine.output

    @property
    def ended(self) -> str:
        """Why the guest is gone, or nothing while its QEMU runs."""
        return (self.machine.fault or "its guest has ended") if self.machine.has_ended else ""

    def execute(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = COMMAND_ENVIRONMENT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command in the guest, without capabilities and within the workload's limits.

        Raises:
            InstanceError: it could not be started, did not end in time, printed too much, or the guest died.
        """
        done = self.machine.execute(
            command, stdin=stdin, environment=environment, timeout=timeout, maximum=output_limit
        )
        return Completed(done.status, done.output, done.errors, done.channel, done.printing)

    def copy_in(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Make a file in the guest.

        Raises:
            InstanceError: the guest could not write it.
        """
        self.machine.copy_in(content, path, mode=mode)

    def await_answer(self, readiness: Readiness, timeout: float) -> None:
        """Ask it at its address until it answers; the answer becomes its mark `ready`.

        On QEMU's own network it has no address for the host, and QEMU passes the question on.

        Raises:
            InstanceError: it did not answer in time, and nothing is left of it.
        """
        machine, address = self.machine, self.address
        try:
            if not address:
                address, readiness = (
                    LOOPBACK,
                    dataclasses.replace(readiness, port=machine.forward(readiness.port)),
                )
            await_answer(readiness, address, machine.marks, timeout, lambda: bool(machine.last_words))
        except InstanceError as error:
            ended = machine.last_words
            with contextlib.suppress(InstanceError):
                self.stop(0)
            message = f"{error.message} ({ended})" if ended else error.message
            raise InstanceError(message, error.hint, log=self.output) from error

    def read_host_memory(self) -> HostMemory:
        """What QEMU takes of the host, the guest's memory apart.

        Raises:
            InstanceError: it has ended, or its memory cannot be told apart.
        """
        for pid in self.processes:
            return read_host_memory(pid, self.machine.spec.memory)
        raise InstanceError(self.machine.fault or "the machine is not running")

    def read_guest_memory(self) -> GuestMemory | None:
        """What the guest says of its memory, through its channel for commands; None from bare metal.

        Raises:
            InstanceError: it does not answer, or with what cannot be.
        """
        if self.machine.spec.bare_metal:
            return None
        content = self.machine.read_file("/proc/meminfo", MEMINFO_MAXIMUM)
        return parse_guest_memory(content, self.machine.spec.memory)

    def stop(self, timeout: float) -> None:
        """End the workload, then the guest, and verify that QEMU is gone.

        Raises:
            InstanceError: the guest had died or hung since it was ready; nothing is left of it.
            LeftoverError: QEMU survived.
        """
        with self._resources:
            self.machine.stop(timeout)


class VmTarget:
    """Guests of one workload, each booted afresh from the same kernel and initramfs."""

    start = "boot"
    """How a guest gets to its workload, as its samples say."""

    def __init__(self, settings: VmSettings, context: TargetContext) -> None:
        self._settings = settings
        self._journal = context.journal
        self._resources = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._initramfs: Path | None = None
        self._taps: TapNetwork | None = None
        self._spec: MachineSpec | None = None
        self._directory = context.directory
        self._disk_size: int | None = None
        self._asked: Readiness | None = None
        self.qualifiers: Mapping[str, str] = {}

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Connect to libvirt, settle the acceleration, put the workload into the initramfs.

        Raises:
            InputError: the command or the user is not in the image, a file has no place there, or the limits
                do not suit a machine.
            HostError: libvirt or QEMU is missing, or KVM is demanded and does not boot the image.
        """
        check_command(image.rootfs, workload.command)
        self._check_machine(workload, image)
        self._check_network(image)
        check_disk(workload, image)
        self._disk_size = workload.disk
        self._asked = workload.readiness if workload.readiness.level in ASKED_LEVELS else None
        guest = _guest_workload(workload, image)
        if self._connection is None:
            uri = self._settings.libvirt_uri
            self._connection = self._resources.enter_context(open_connection(self._journal, uri))
        connection = self._connection
        accel = self._settings.accel
        verdict = decide(accel, image, connection, None if accel == "tcg" else nano_image())
        self._discard_initramfs()
        self._initramfs = connection.directory / f"{os.urandom(5).hex()}.cpio"
        write_initramfs(image.initramfs, guest, self._initramfs)
        self._spec = MachineSpec(
            kernel=image.kernel,
            initramfs=self._initramfs,
            command_line=command_line(verdict.acceleration, self._settings.machine),
            memory=self._memory(workload, image),
            vcpus=max(1, math.ceil(workload.resources.cpus or 1)),
            acceleration=verdict.acceleration,
            processor=verdict.processor,
            machine=self._settings.machine,
            virtio_port=self._reaches(image) and has_driver("virtio_console", image.kernel, image.initramfs),
            bare_metal=not has_init(image.initramfs),
            marking=guest.marking,
            line=workload.readiness.text if workload.readiness.level == "line" else None,
            disks=(Disk(image.disk),) if image.disk is not None else (),
            processors=_own_processors(),
        )
        self.qualifiers = {
            "accel": verdict.acceleration,
            "start": self.start,
            "machine": self._settings.machine,
            "net": self._settings.network,
            "ksm": merging_state(),
            "balloon": "none",
            "vmm": f"qemu {connection.emulator_version}",
            **({"siblings": "reachable"} if self._settings.siblings else {}),
        }

    def launch(self, timeout: float) -> VmInstance:
        """Boot one guest.

        Raises:
            InstanceError: it failed or was not ready in time; nothing is left of it.
        """
        connection = self._connected()
        with contextlib.ExitStack() as resources:
            network = self._network(resources)
            spec = self._specify(network)
            disk = self._make_disk(resources)
            machine = VirtualMachine(connection, spec if disk is None else add_disk(spec, disk))
            machine.start(timeout)
            address = network.host_view if network else ""
            place = DISK_PLACE if disk is not None else ""
            instance = VmInstance(machine, self.qualifiers, resources.pop_all(), address, place)
        if disk is not None:
            mount_disk(instance, len(spec.disks))
        if self._asked is not None:
            instance.await_answer(self._asked, timeout)
        return instance

    def cleanup(self) -> None:
        """Remove the initramfs and leave the connection; idempotent.

        Raises:
            LeftoverError: libvirt still knows a domain.
        """
        self._spec = self._connection = self._taps = None
        self._discard_initramfs()
        self._resources.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("launch before prepare")
        return self._connection

    def _specify(self, network: GuestNetwork | None) -> MachineSpec:
        """The machine of one launch."""
        if self._spec is None:
            raise RuntimeError("launch before prepare")
        if network is None:
            return self._spec
        command_line = self._spec.command_line + network.arguments
        return dataclasses.replace(self._spec, interface=network.interface, command_line=command_line)

    def _network(self, resources: contextlib.ExitStack) -> GuestNetwork | None:
        """What one guest gets, until `resources` are closed."""
        if self._settings.network == "none":
            return None
        if self._settings.network == "user":
            return user_network()
        if self._taps is None:
            bridge = self._resources.enter_context(Bridge(self._journal, siblings=self._settings.siblings))
            self._taps = self._resources.enter_context(TapNetwork(bridge))
        network = self._taps.lease()
        resources.callback(self._taps.release, network)
        return network

    def _make_disk(self, resources: contextlib.ExitStack) -> Path | None:
        """A new disk for one guest, until `resources` are closed."""
        if self._disk_size is None:
            return None
        return make_disk(
            resources.enter_context(scratch_directory(self._journal, self._directory)), self._disk_size
        )

    def _reaches(self, image: ImageFiles) -> bool:
        """Whether the guest has the driver for the machine's bus of devices; PCI is in every kernel."""
        machine = self._settings.machine
        return machine != "microvm" or has_driver("virtio_mmio", image.kernel, image.initramfs)

    def _check_machine(self, workload: Workload, image: ImageFiles) -> None:
        """Refuse of `microvm` what its guests do not find, without ACPI to tell them and without PCI."""
        if self._settings.machine == "q35":
            return
        if not has_init(image.initramfs):
            raise InputError(
                f"the bare-metal guest of image {image.name} knows no such machine", "machine: q35"
            )
        if (workload.resources.cpus or 1) > 1:
            raise InputError("a guest finds one processor alone on the machine microvm", "machine: q35")
        wanted = {
            "its disk": image.disk is not None,
            "the workload's disk": workload.disk is not None,
            "a network": self._settings.network != "none",
        }
        devices = [name for name, needed in wanted.items() if needed]
        if devices and not self._reaches(image):
            raise InputError(
                f"the guest of image {image.name} does not reach {devices[0]} on the machine microvm",
                "machine: q35, or an image whose kernel has virtio_mmio, such as minimal-tiny",
            )

    def _check_network(self, image: ImageFiles) -> None:
        if self._settings.network != "none" and not has_driver("virtio_net", image.kernel, image.initramfs):
            raise InputError(
                f"the guest of image {image.name} has no driver for a network card",
                "network: none, or add virtio_pci and virtio_net to kernel.modules of its recipe",
            )

    def _discard_initramfs(self) -> None:
        if self._initramfs is not None:
            self._initramfs.unlink(missing_ok=True)
            self._initramfs = None

    def _memory(self, workload: Workload, image: ImageFiles) -> int:
        """Bytes of the machine: the setting or the workload's larger limit, in whole MiB.

        The initramfs counts twice: the archive is in memory until all of it is unpacked.
        """
        asked = max(self._settings.memory, workload.resources.memory or 0)
        memory = math.ceil(asked / MEBIBYTE) * MEBIBYTE
        needed = image.kernel.stat().st_size + 2 * image.initramfs.stat().st_size + _KERNEL_ROOM
        if memory < needed:
            raise InputError(
                f"{memory // MEBIBYTE} MiB are too little for a guest of image {image.name}",
                f"memory: {math.ceil(needed / MEBIBYTE)}MiB",
            )
        return memory


def _own_processors() -> tuple[int, ...]:
    """Those to which this process is held; none if it may run on all.

    QEMU is told: libvirt would otherwise let it run on every processor, whatever its caller is held to.
    """
    own = os.sched_getaffinity(0)
    return tuple(sorted(own)) if len(own) < (os.cpu_count() or 0) else ()


def _guest_workload(workload: Workload, image: ImageFiles) -> GuestWorkload:
    user, files = find_user(workload, image), find_places(workload, image)
    _check_contents(workload, image, files)
    return GuestWorkload(
        command=workload.command,
        environment=workload.environment,
        host_name=workload.name,
        marking=workload.command[0] in image.marking,
        limits=_limits(workload.resources),
        identity=(user.uid, user.gid, *user.groups) if user else (),
        files=files,
    )


def _check_contents(workload: Workload, image: ImageFiles, files: tuple[WorkloadFile, ...]) -> None:
    if (files or workload.user) and not has_init(image.initramfs):
        raise InputError(
            f"the guest of image {image.name} has no init to put files or change the user",
            "leave out files and user",
        )
    if files and image.disk is not None and not has_driver("overlay", image.kernel, image.initramfs):
        raise InputError(
            f"the guest of image {image.name} cannot put files on its disk: its kernel has no overlay",
            "pybench images build --rebuild, or a kernel with CONFIG_OVERLAY_FS",
        )


def _limits(resources: Resources) -> dict[str, str]:
    """Limits below those of the machine, for the workload's control group in the guest."""
    limits: dict[str, str] = {}
    if resources.memory is not None:
        limits["memory.max"] = str(resources.memory)
    if resources.cpus is not None and resources.cpus != int(resources.cpus):
        limits["cpu.max"] = f"{round(resources.cpus * _CPU_PERIOD)} {_CPU_PERIOD}"
    if resources.pids is not None:
        limits["pids.max"] = str(resources.pids)
    return limits
