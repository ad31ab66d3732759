"""A guest's machine as typed parts, and libvirt's XML for it (https://libvirt.org/formatdomain.html).

Only what a guest needs to boot: processors, memory, kernel, initramfs, disks and serial lines. What
libvirt (USB, balloon) or QEMU (SATA, SMBus, VMware's port) would add is named only to be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree as Xml

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Acceleration = Literal["kvm", "tcg"]
Processor = Literal["host", "basic"]
"""The host's own model, or the least one that QEMU offers: some hosts cannot pass all of theirs on."""

MEBIBYTE: Final = 1 << 20
_SOCKET_PATH_MAXIMUM: Final = 107  # unix(7): sun_path holds 108 bytes, the last one zero
_QEMU_NAMESPACE: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_Q35: Final = ("q35", "pc-q35-")
"""How the names of QEMU's machine q35 and of its versions begin."""
MICROVM: Final = "microvm"
"""QEMU's machine without PCI: its virtio devices are reached through memory (virtio-mmio).

Here without ACPI as well, with which its kernel gives serial lines no interrupts.
"""
_MMIO: Final = "virtio-mmio"
_FIRST_DISK_SLOT: Final = 0x10
_MOST_DISKS: Final = 8
_DOMAIN_TYPES: Final[dict[Acceleration, str]] = {"kvm": "kvm", "tcg": "qemu"}


@dataclass(frozen=True, slots=True)
class Disk:
    """A file as a disk: read-only, so that any number of guests can share it, or writable for one guest."""

    path: Path
    writable: bool = False

    def add_to(self, devices: Xml.Element, number: int, *, pci: bool = True) -> None:
        """Describe it among the machine's devices, as the one of that number from 0."""
        disk = Xml.SubElement(devices, "disk", type="file", device="disk")
        if pci:
            disk.set("model", "virtio-non-transitional")
        # A shared image's pages are in the host's cache once, however many guests there are. What one guest
        # writes goes to the host's disk itself, or the guest's disk would be the host's memory.
        cache = "none" if self.writable else "writeback"
        Xml.SubElement(disk, "driver", name="qemu", type="raw", cache=cache)
        Xml.SubElement(disk, "source", file=str(self.path))
        Xml.SubElement(disk, "target", dev=f"vd{chr(ord('a') + number)}", bus="virtio")
        if not self.writable:
            Xml.SubElement(disk, "readonly")
        if not pci:
            Xml.SubElement(disk, "address", type=_MMIO)
            return
        # On the root bus: a port of its own for it is one more bridge that the guest's kernel has to probe.
        slot = f"0x{_FIRST_DISK_SLOT + number:02x}"
        Xml.SubElement(disk, "address", type="pci", domain="0x0000", bus="0x00", slot=slot, function="0x0")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network card: a tap that somebody else has made and set up, or QEMU's user-mode network."""

    kind: Literal["ethernet", "user"]
    hardware_address: str
    tap: str = ""

    def add_to(self, devices: Xml.Element, *, pci: bool = True) -> None:
        """Describe it among the machine's devices."""
        interface = Xml.SubElement(devices, "interface", type=self.kind)
        Xml.SubElement(interface, "mac", address=self.hardware_address)
        if self.tap:
            Xml.SubElement(interface, "target", dev=self.tap, managed="no")
        Xml.SubElement(interface, "model", type="virtio")
        if not pci:
            Xml.SubElement(interface, "address", type=_MMIO)
            return
        # Nobody boots from it: without its ROM the firmware has nothing to look into.
        Xml.SubElement(interface, "rom", enabled="no")


@dataclass(frozen=True, slots=True)
class Domain:
    """One machine to be.

    `memory` is in bytes, a multiple of one MiB. `serials` are the sockets QEMU connects its
    first, second, … serial line to; someone must listen there before the domain is created. `disks`
    are the guest's /dev/vda, /dev/vdb, …. `port` is the socket of a virtio port by the name of
    `port_name`, or None for no such device. A `savable` machine leaves out what of the host's processor
    cannot be restored. QEMU and the virtual processors run on these `processors` of the host; on all, if
    none are named.
    """

    name: str
    uuid: str
    memory: int
    vcpus: int
    kernel: Path
    initramfs: Path
    command_line: str
    serials: tuple[Path, ...]
    acceleration: Acceleration
    processor: Processor
    machine: str
    emulator: Path
    disks: tuple[Disk, ...] = ()
    port: Path | None = None
    port_name: str = ""
    interface: Interface | None = None
    savable: bool = False
    processors: tuple[int, ...] = ()

    @property
    def _has_pci(self) -> bool:
        return self.machine != MICROVM

    def xml(self) -> str:
        """Describe the machine to libvirt.

        Raises:
            InputError: a size, count, machine name or path is impossible.
        """
        self._check()
        domain = Xml.Element("domain", type=_DOMAIN_TYPES[self.acceleration])
        _text(domain, "name", self.name)
        _text(domain, "uuid", self.uuid)
        _text(domain, "memory", str(self.memory), unit="b")
        held = {"cpuset": ",".join(map(str, self.processors))} if self.processors else {}
        _text(domain, "vcpu", str(self.vcpus), **held)
        self._boot(domain)
        self._processor(domain)
        for event in ("on_poweroff", "on_reboot", "on_crash"):
            _text(domain, event, "destroy")
        self._devices(domain)
        self._command_line(domain)
        self._omit_capabilities(domain)
        return Xml.tostring(domain, encoding="unicode")

    def _check(self) -> None:
        if self.memory < MEBIBYTE or self.memory % MEBIBYTE:
            raise InputError(f"a guest cannot have {self.memory} bytes of memory", "give a multiple of 1 MiB")
        if self.vcpus < 1:
            raise InputError(f"a guest cannot have {self.vcpus} virtual processors")
        if not self.machine.replace("-", "").replace(".", "").isalnum():
            raise InputError(f"{self.machine!r} is no name of a QEMU machine", "qemu-system-x86_64 -M help")
        if len(self.disks) > _MOST_DISKS:
            raise InputError(f"a guest cannot have {len(self.disks)} disks, only {_MOST_DISKS}")
        for path in (*self.serials, *((self.port,) if self.port else ())):
            if len(bytes(path)) > _SOCKET_PATH_MAXIMUM:
                raise InputError(f"the socket path {path} is longer than {_SOCKET_PATH_MAXIMUM} bytes")

    def _boot(self, domain: Xml.Element) -> None:
        system = Xml.SubElement(domain, "os")
        _text(system, "type", "hvm", arch="x86_64", machine=self.machine)
        _text(system, "kernel", str(self.kernel))
        _text(system, "initrd", str(self.initramfs))
        _text(system, "cmdline", self.command_line)

    def _processor(self, domain: Xml.Element) -> None:
        features = Xml.SubElement(domain, "features")
        if self._has_pci:
            Xml.SubElement(features, "acpi")  # how the guest switches itself off
        Xml.SubElement(features, "apic")
        if self._has_pci:
            Xml.SubElement(features, "vmport", state="off")  # VMware's, and a mouse that comes with it
        # Emulated, the least model is also the fastest: QEMU translates what the guest's kernel uses.
        if self.acceleration == "kvm" and self.processor == "host":
            # QEMU refuses to save a processor whose counter it cannot carry over (invtsc).
            migratable = "on" if self.savable else "off"
            Xml.SubElement(domain, "cpu", mode="host-passthrough", migratable=migratable)
        # The HPET stays: where the host does not vouch for the processor's counter, an emulated guest's
        # kernel without it soon distrusts that counter and reads a port of the power management for the time.
        Xml.SubElement(domain, "clock", offset="utc")

    def _devices(self, domain: Xml.Element) -> None:
        devices = Xml.SubElement(domain, "devices")
        _text(devices, "emulator", str(self.emulator))
        Xml.SubElement(devices, "controller", type="usb", model="none")
        Xml.SubElement(devices, "memballoon", model="none")
        for number, disk in enumerate(self.disks):
            disk.add_to(devices, number, pci=self._has_pci)
        for port, path in enumerate(self.serials):
            serial = Xml.SubElement(devices, "serial", type="unix")
            Xml.SubElement(serial, "source", mode="connect", path=str(path))
            Xml.SubElement(serial, "target", type="isa-serial", port=str(port))
        if self.interface is not None:
            self.interface.add_to(devices, pci=self._has_pci)
        if self.port is not None:
            if not self._has_pci:
                controller = Xml.SubElement(devices, "controller", type="virtio-serial", index="0")
                Xml.SubElement(controller, "address", type=_MMIO)
            channel = Xml.SubElement(devices, "channel", type="unix")
            Xml.SubElement(channel, "source", mode="connect", path=str(self.port))
            Xml.SubElement(channel, "target", type="virtio", name=self.port_name)

    def _command_line(self, domain: Xml.Element) -> None:
        """What libvirt has no element for: devices to leave out, and how QEMU's library allocates.

        A SATA controller and an SMBus with eight memories are part of q35. The guest has no use for them,
        yet its kernel probes them, and the buffers of the former are 2 MiB of QEMU's memory. What several
        `-machine` say QEMU adds up.

        GLib before 2.76 has an allocator of its own, of power-of-two pages that it never gives back; what TCG
        notes of each piece of translated code lies in it. Later ones always use malloc, as this has it do.
        """
        line = Xml.SubElement(domain, f"{{{_QEMU_NAMESPACE}}}commandline")
        if self.machine.startswith(_Q35):
            for argument in ("-machine", "sata=off,smbus=off"):
                Xml.SubElement(line, f"{{{_QEMU_NAMESPACE}}}arg", value=argument)
        Xml.SubElement(line, f"{{{_QEMU_NAMESPACE}}}env", name="G_SLICE", value="always-malloc")

    def _omit_capabilities(self, domain: Xml.Element) -> None:
        """Have libvirt read the guest's processor as two lists instead of property by property.

        With this capability libvirt 9 asks QEMU for each of some 400 properties in turn before it lets
        the guest start, and QEMU reads the questions byte by byte: more than half of the time of
        createXML. What it falls back to, `feature-words`, tells the same.
        """
        capabilities = Xml.SubElement(domain, f"{{{_QEMU_NAMESPACE}}}capabilities")
        Xml.SubElement(capabilities, f"{{{_QEMU_NAMESPACE}}}del", capability="cpu-unavailable-features")


def _text(parent: Xml.Element, tag: str, text: str, **attributes: str) -> None:
    element = Xml.SubElement(parent, tag, attributes)
    element.text = text
