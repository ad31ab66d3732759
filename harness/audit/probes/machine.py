"""The probe about virtual machines: what of a machine leads to the host or to its neighbours."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.model import Expected, Probe, Verdict, isolated, leak, not_applicable, shared
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Observation

_PASSED_THROUGH: Final = {
    "filesystem": "a directory of the host's",
    "hostdev": "a device of the host's",
    "shmem": "shared memory",
    "vsock": "a socket to the host",
    "redirdev": "a redirected device",
}
"""Devices of a domain that lead out of it, and what they are (libvirt's domain format)."""


def _shared(observation: Observation) -> Verdict:
    subject = observation.subject
    if subject.kind != "vm":
        return not_applicable("it is no virtual machine")
    from pybench.harness.audit.subjects.machine import MachineSubject  # noqa: PLC0415 - libvirt is slow to import

    if not isinstance(subject, MachineSubject):
        return not_applicable("its monitor is not ours, so that its devices are not known")
    return shared_with_neighbours(subject.instance.machine.live_description())


def shared_with_neighbours(description: str) -> Verdict:
    """What follows from a domain's live description, which libvirt wrote."""
    devices = Xml.fromstring(description).find("devices")  # noqa: S314 - libvirt's own, not the guest's
    if devices is None:
        return isolated("the machine has no devices")
    found = [
        f"{tag}: {what} ({device.get('type') or device.get('mode') or device.get('model') or 'default'})"
        for tag, what in _PASSED_THROUGH.items()
        for device in devices.findall(tag)
    ]
    found += [_of_disk(disk) for disk in devices.findall("disk") if _is_shared(disk)]
    networks = [_of_interface(interface) for interface in devices.findall("interface")]
    found += [f"{each}, handled by the host's kernel" for each, vhost in networks if vhost]
    if found:
        return leak("the machine has devices that lead to the host or to neighbours", *evidence(found))
    if networks:
        return shared(
            "it shares a network with its neighbours, and nothing else",
            *evidence([each for each, _ in networks]),
        )
    return isolated(f"none of its {count(len(devices), 'device')} is shared with a neighbour")


def _is_shared(disk: Xml.Element) -> bool:
    return disk.find("shareable") is not None and disk.find("readonly") is None


def _of_disk(disk: Xml.Element) -> str:
    target = disk.find("target")
    return f"disk {target.get('dev') if target is not None else '?'}: others may write to it as well"


def _of_interface(interface: Xml.Element) -> tuple[str, bool]:
    source, driver = interface.find("source"), interface.find("driver")
    where = (
        (source.get("bridge") or source.get("network") or source.get("dev")) if source is not None else None
    )
    return f"interface on {where or interface.get('type')}", driver is not None and driver.get(
        "name"
    ) == "vhost"


PROBES: tuple[Probe, ...] = (
    Probe(
        id="V1",
        title="A machine has devices that lead to the host or to its neighbours",
        category="machine",
        severity="medium",
        rationale=(
            "A machine is as isolated as its devices: directories and sockets that are passed through, and "
            "what the host's kernel does for it, are ways around its own kernel."
        ),
        handling=(
            "The live description tells. Ours have serial lines, a virtio port, read-only disks and, where "
            "asked for, an interface on a bridge; no vsock, no virtio-fs or 9p, no vhost."
        ),
        remediation="Take away what the workload does not need; filter between the ports of a bridge.",
        references=("https://libvirt.org/formatdomain.html",),
        expected=Expected.of("NNNI", note="with `--network bridge` the network is shared by design"),
        guest=False,
        judge=_shared,
    ),
)
