"""Which addresses a bridge and the containers on it have."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from pybench.runtime.errors import HostError

DEFAULT_RANGE = ipaddress.IPv4Network("10.213.0.0/16")
"""Private (RFC 1918), and far from what Docker, libvirt, LXD and Kubernetes take unasked."""
PREFIX_LENGTH = 22
"""1022 addresses; the kernel allows a bridge 1023 ports (BR_MAX_PORTS)."""
FIRST_SLOT = 2
"""The network's address is number 0, the bridge's own is number 1."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """The addresses of one bridge; a slot is a container's place on it and the number of its address."""

    network: ipaddress.IPv4Network

    @property
    def gateway(self) -> ipaddress.IPv4Interface:
        """The bridge's own address."""
        return self.interface(1)

    @property
    def slots(self) -> range:
        """The numbers of all containers' addresses."""
        return range(FIRST_SLOT, self.network.num_addresses - 1)

    def interface(self, number: int) -> ipaddress.IPv4Interface:
        """An address with the subnet's prefix length."""
        return ipaddress.IPv4Interface((self.network[number], self.network.prefixlen))


def link_address(address: ipaddress.IPv4Address) -> str:
    """The MAC address that belongs to an IP address: locally administered (IEEE 802-2014, 8.4), unicast."""
    return "02:70:" + address.packed.hex(":")


def choose_subnet(
    taken: Iterable[ipaddress.IPv4Network], among: ipaddress.IPv4Network = DEFAULT_RANGE
) -> Subnet:
    """The first subnet that overlaps nothing the host has an address in or a route to.

    Raises:
        HostError: none is free.
    """
    used = tuple(taken)
    for network in among.subnets(new_prefix=max(PREFIX_LENGTH, among.prefixlen)):
        if not any(network.overlaps(other) for other in used):
            return Subnet(network)
    raise HostError(
        f"no subnet of {among} is free for a bridge",
        "end other pybench processes, or run `pybench clean`; `ip route` shows who uses the range",
    )
