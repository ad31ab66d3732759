"""What the live description of a virtual machine says of its isolation."""

from __future__ import annotations

import pytest

from pybench.harness.audit.model import Outcome
from pybench.harness.audit.probes.machine import shared_with_neighbours


def described(devices: str) -> str:
    """A domain with these devices beside a serial line."""
    return f"<domain type='kvm'><devices><serial type='unix'/>{devices}</devices></domain>"


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ("<vsock model='virtio'><cid auto='no' address='3'/></vsock>", "vsock"),
        ("<filesystem type='mount'><driver type='virtiofs'/></filesystem>", "filesystem"),
        ("<filesystem type='mount' accessmode='squash'/>", "filesystem"),
        ("<hostdev mode='subsystem' type='pci'/>", "hostdev"),
        ("<shmem name='both'/>", "shmem"),
        ("<disk type='file'><target dev='vdb'/><shareable/></disk>", "vdb"),
        ("<interface type='bridge'><source bridge='br0'/><driver name='vhost'/></interface>", "br0"),
    ],
)
def test_what_leads_out_of_a_machine_is_a_leak(devices: str, told: str) -> None:
    """Each is named in the evidence."""
    verdict = shared_with_neighbours(described(devices))
    assert verdict.is_leak
    assert any(told in line for line in verdict.evidence)


def test_a_network_is_shared_by_design() -> None:
    """The bridge is named."""
    verdict = shared_with_neighbours(described("<interface type='bridge'><source bridge='br0'/></interface>"))
    assert verdict.outcome is Outcome.SHARED
    assert "br0" in verdict.evidence[0]


def test_own_devices_are_none() -> None:
    """Serial lines, and a disk that nobody can write to, though it may be shared."""
    disk = "<disk type='file'><target dev='vda'/><shareable/><readonly/></disk>"
    assert shared_with_neighbours(described(disk)).outcome is Outcome.ISOLATED
    assert shared_with_neighbours("<domain/>").outcome is Outcome.ISOLATED
