"""The description of a machine for libvirt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from pybench.runtime.errors import InputError
from pybench.runtime.vm.domain import Disk, Domain, Interface

MACHINE = Domain(
    name="pybench-test",
    uuid="6f0d2c6e-4a0f-4e0c-9d0f-000000000001",
    memory=256 << 20,
    vcpus=2,
    kernel=Path("/images/vmlinux"),
    initramfs=Path("/images/initramfs.cpio"),
    command_line="console=ttyS0 quiet",
    serials=(Path("/run/console"), Path("/run/marks")),
    acceleration="tcg",
    processor="host",
    machine="q35",
    emulator=Path("/usr/bin/qemu-system-x86_64"),
)
QEMU = {"qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}


def describe(**changes: Any) -> Xml.Element:
    """The parsed description of the machine with some parts changed."""
    return Xml.fromstring(dataclasses.replace(MACHINE, **changes).xml())  # noqa: S314 - our own text


def test_parts_appear_where_libvirt_expects_them() -> None:
    """Kernel, initramfs, command line, memory, processors and emulator are in their elements."""
    domain = describe()
    memory = domain.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == (str(256 << 20), "b")
    assert domain.findtext("vcpu") == "2"
    assert domain.findtext("os/kernel") == "/images/vmlinux"
    assert domain.findtext("os/initrd") == "/images/initramfs.cpio"
    assert domain.findtext("os/cmdline") == "console=ttyS0 quiet"
    assert domain.findtext("devices/emulator") == "/usr/bin/qemu-system-x86_64"


def test_every_end_of_the_guest_ends_the_domain() -> None:
    """Power-off, reset and crash all destroy the domain."""
    domain = describe()
    assert [domain.findtext(event) for event in ("on_poweroff", "on_reboot", "on_crash")] == ["destroy"] * 3


def test_no_device_without_need() -> None:
    """Besides serial lines, the devices are only named to be left out."""
    devices = describe().find("devices")
    assert devices is not None
    others = {
        (device.tag, device.get("model")) for device in devices if device.tag not in {"serial", "emulator"}
    }
    assert others == {("controller", "none"), ("memballoon", "none")}


def test_virtio_port_has_its_name() -> None:
    """The port for commands connects to its socket, under the name by which the guest finds it."""
    channel = describe(port=Path("/run/port"), port_name="pybench.commands").find("devices/channel")
    assert channel is not None
    source, target = channel.find("source"), channel.find("target")
    assert source is not None
    assert target is not None
    assert (source.get("mode"), source.get("path")) == ("connect", "/run/port")
    assert (target.get("type"), target.get("name")) == ("virtio", "pybench.commands")


@pytest.mark.parametrize(("kind", "tap"), [("ethernet", "pyb123456-7"), ("user", "")])
def test_network_card_is_typed(kind: str, tap: str) -> None:
    """A tap is given as it is, for libvirt to leave alone; the user-mode network has none."""
    domain = describe(interface=Interface(kind, "02:70:0a:00:02:0f", tap))  # type: ignore[arg-type]
    interface = domain.find("devices/interface")
    assert interface is not None
    assert interface.get("type") == kind
    assert {part.tag: dict(part.attrib) for part in interface if part.tag != "target"} == {
        "mac": {"address": "02:70:0a:00:02:0f"},
        "model": {"type": "virtio"},
        "rom": {"enabled": "no"},
    }
    target = interface.find("target")
    assert (dict(target.attrib) if target is not None else None) == (
        {"dev": tap, "managed": "no"} if tap else None
    )


def test_serial_lines_connect_in_order() -> None:
    """The first socket is the first serial line, and QEMU is the one that connects."""
    ports = {
        line.find("target").get("port"): (line.find("source").get("path"), line.find("source").get("mode"))  # type: ignore[union-attr]
        for line in describe().iter("serial")
    }
    assert ports == {"0": ("/run/console", "connect"), "1": ("/run/marks", "connect")}


def test_disks_are_read_only_files_in_order() -> None:
    """Each disk is a raw file that the guest cannot write to, by the name that its place gives it."""
    devices = describe(disks=(Disk(Path("/images/a")), Disk(Path("/images/b")))).find("devices")
    assert devices is not None
    found = [
        (
            disk.find("target").get("dev"),  # type: ignore[union-attr]
            disk.find("source").get("file"),  # type: ignore[union-attr]
            disk.find("driver").get("type"),  # type: ignore[union-attr]
            disk.find("readonly") is not None,
        )
        for disk in devices.iter("disk")
    ]
    assert found == [("vda", "/images/a", "raw", True), ("vdb", "/images/b", "raw", True)]
    slots = [address.get("slot") for address in devices.iter("address")]
    assert len(set(slots)) == 2


def test_one_guests_own_disk_is_writable_past_the_hosts_cache() -> None:
    """What it writes is on the host's disk and not in the host's memory."""
    (disk,) = describe(disks=(Disk(Path("/scratch/disk"), writable=True),)).iter("disk")
    assert disk.find("readonly") is None
    assert disk.find("driver").get("cache") == "none"  # type: ignore[union-attr]


def test_too_many_disks_are_refused() -> None:
    """More disks than there are places for is an input error."""
    with pytest.raises(InputError, match="9 disks"):
        describe(disks=(Disk(Path("/images/a")),) * 9)


@pytest.mark.parametrize(
    ("acceleration", "processor", "kind", "mode"),
    [
        ("kvm", "host", "kvm", "host-passthrough"),
        ("kvm", "basic", "kvm", None),
        ("tcg", "host", "qemu", None),
    ],
)
def test_acceleration_decides_type_and_processor(
    acceleration: str, processor: str, kind: str, mode: str | None
) -> None:
    """Only KVM can pass the host's processor on."""
    domain = describe(acceleration=acceleration, processor=processor)
    model = domain.find("cpu")
    assert domain.get("type") == kind
    assert (model.get("mode") if model is not None else None) == mode


@pytest.mark.parametrize(("savable", "migratable"), [(True, "on"), (False, "off")])
def test_savable_machine_has_a_processor_that_can_be_restored(savable: bool, migratable: str) -> None:
    """Only a machine that is never saved gets all of the host's processor."""
    model = describe(acceleration="kvm", savable=savable).find("cpu")
    assert model is not None
    assert model.get("migratable") == migratable


def test_hostile_text_stays_text() -> None:
    """Markup in a command line arrives as characters, not as elements."""
    text = "</cmdline><x y='&'>"
    domain = describe(command_line=text)
    assert domain.findtext("os/cmdline") == text
    assert domain.find("os/x") is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"memory": 0}, "0 bytes"),
        ({"memory": (1 << 20) + 1}, "1048577"),
        ({"vcpus": 0}, "0 virtual processors"),
        ({"machine": "q35,accel=kvm"}, "q35,accel=kvm"),
        ({"serials": (Path("/" + "x" * 107),)}, "longer than 107"),
    ],
)
def test_impossible_machine_is_refused(changes: dict[str, object], named: str) -> None:
    """A size, count, name or path that cannot work is named before libvirt is asked."""
    with pytest.raises(InputError, match=named):
        describe(**changes)


@pytest.mark.parametrize(("processors", "cpuset"), [((), None), ((1,), "1"), ((0, 2, 3), "0,2,3")])
def test_machine_is_held_to_processors(processors: tuple[int, ...], cpuset: str | None) -> None:
    """Which processors of the host it may use stands with their number; without any it may use all."""
    element = describe(processors=processors).find("vcpu")
    assert element is not None
    assert element.get("cpuset") == cpuset


@pytest.mark.parametrize(
    ("machine", "arguments"),
    [
        ("q35", ["-machine", "sata=off,smbus=off"]),
        ("pc-q35-7.2", ["-machine", "sata=off,smbus=off"]),
        ("pc-i440fx-7.2", []),
    ],
)
def test_devices_of_the_chipset_are_left_out_where_it_has_them(machine: str, arguments: list[str]) -> None:
    """Only q35 is told to have neither SATA nor SMBus: another machine would refuse that."""
    line = describe(machine=machine).find("qemu:commandline", QEMU)
    assert line is not None
    assert [argument.get("value") for argument in line.findall("qemu:arg", QEMU)] == arguments


def test_a_machine_without_pci_reaches_its_devices_through_memory() -> None:
    """Disk, network and port of `microvm`; ACPI and VMware's port are not even mentioned."""
    domain = describe(
        machine="microvm",
        disks=(Disk(Path("/images/root.erofs")),),
        interface=Interface("user", "52:54:00:00:00:01"),
        port=Path("/run/port"),
        port_name="commands",
    )
    devices = ("disk", "interface", "controller[@type='virtio-serial']")
    found = [domain.find(f"devices/{device}/address") for device in devices]
    assert [None if each is None else each.attrib for each in found] == [{"type": "virtio-mmio"}] * 3
    assert [feature.tag for feature in domain.findall("features/*")] == ["apic"]


def test_emulator_allocates_by_malloc() -> None:
    """QEMU's library is told not to use the allocator of its own that old versions have."""
    (variable,) = describe().findall("qemu:commandline/qemu:env", QEMU)
    assert (variable.get("name"), variable.get("value")) == ("G_SLICE", "always-malloc")


def test_processor_is_read_without_a_question_per_property() -> None:
    """The capability that makes libvirt ask QEMU hundreds of questions before each start is left out."""
    left_out = describe().findall("qemu:capabilities/qemu:del", QEMU)
    assert [element.get("capability") for element in left_out] == ["cpu-unavailable-features"]
