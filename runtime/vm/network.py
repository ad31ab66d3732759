"""A guest's network: a place on a bridge that containers may share, or QEMU's own user-mode network.

A tap is made, set up and plugged into the bridge ahead of the clock, and given to libvirt as it is: so
nothing about it is timed, nothing of libvirt's is left behind, and the bridge's packet filter holds the
guest to its address from the first packet on.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING, Any, Final, Self

from pybench.runtime.container.network.addresses import link_address
from pybench.runtime.container.network.bridge import NO_IPV6, Bridge
from pybench.runtime.container.network.links import link_errors, link_names, route_socket, write_settings
from pybench.runtime.errors import HostError, LeftoverError
from pybench.runtime.vm.domain import Interface

if TYPE_CHECKING:
    from types import TracebackType

# What QEMU's user-mode network gives its one guest (https://www.qemu.org/docs/master/system/devices/net.html).
USER_ADDRESS: Final = IPv4Interface("10.0.2.15/24")
USER_GATEWAY: Final = IPv4Address("10.0.2.2")


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """What one guest gets: its device, and the address that init gives it."""

    interface: Interface
    address: IPv4Interface
    gateway: IPv4Address | None = None

    @property
    def reachable(self) -> bool:
        """Whether the host reaches the guest's ports; QEMU's own network leads outwards only."""
        return bool(self.interface.tap)

    @property
    def host_view(self) -> str:
        """The address at which the host reaches the guest; empty where it does not."""
        return str(self.address.ip) if self.reachable else ""

    @property
    def arguments(self) -> str:
        """For the kernel's command line: variables of init's environment, which no workload sees."""
        gateway = f" PYBENCH_GATEWAY={self.gateway}" if self.gateway else ""
        return f" PYBENCH_ADDRESS={self.address}{gateway}"


def random_link_address() -> str:
    """A MAC address of nobody else's: locally administered (IEEE 802-2014, 8.4), unicast."""
    return link_address(IPv4Address(os.urandom(4)))


def user_network() -> GuestNetwork:
    """QEMU's own network: outwards only, by QEMU's system calls; the host's loopback is the gateway."""
    interface = Interface("user", link_address(USER_ADDRESS.ip))
    return GuestNetwork(interface, USER_ADDRESS, USER_GATEWAY)


@dataclass(slots=True)
class TapNetwork:
    """Places for guests on a bridge; a context manager, to be left before the bridge is."""

    bridge: Bridge
    _resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taken: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove every tap that was not given back.

        Raises:
            LeftoverError: one is still there.
        """
        for name in tuple(self._taken):
            self._remove(name)

    def lease(self) -> GuestNetwork:
        """A tap in a free place of the bridge; the journal's entry for the bridge covers it.

        Raises:
            HostError: this user or this kernel cannot, or every place is taken.
        """
        slots = self.bridge.subnet.slots
        with self._lock, link_errors("make a tap"), route_socket() as routes:
            present = set(link_names(routes))
            # From the other end than the containers' pool, which looks for its places at the same time.
            for slot in reversed(slots):
                name = self.bridge.members.port(slot)
                if name not in present:
                    self._taken.add(name)
                    self._make(routes, name)
                    address = self.bridge.subnet.interface(slot)
                    return GuestNetwork(Interface("ethernet", link_address(address.ip), name), address)
        raise HostError(f"all {len(slots)} places on the bridge {self.bridge.name} are taken")

    def release(self, network: GuestNetwork) -> None:
        """Remove a tap after its guest has ended. Idempotent.

        Raises:
            LeftoverError: it is still there.
        """
        if network.interface.tap in self._taken:
            self._remove(network.interface.tap)

    def _make(self, routes: Any, name: str) -> None:  # noqa: ANN401 - pyroute2 has no types
        routes.link("add", ifname=name, kind="tuntap", mode="tap")
        index = routes.link("get", ifname=name)[0]["index"]
        write_settings(f"ipv6/conf/{name}", NO_IPV6)
        routes.link("set", index=index, master=self.bridge.index)
        if not self.bridge.siblings:
            routes.brport("set", index=index, isolated=1)
        routes.link("set", index=index, state="up")

    def _remove(self, name: str) -> None:
        with self._lock, link_errors(f"remove the tap {name}"), route_socket() as routes:
            if name in link_names(routes):
                routes.link("del", ifname=name)
            if name in link_names(routes):
                raise LeftoverError(f"the tap {name} was not removed", "pybench clean")
            self._taken.discard(name)
