"""A bridge of our own, with its subnet, its settings and its packet filter."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import itertools
import os
import random
import string
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from pybench.runtime.container.network import firewall
from pybench.runtime.container.network.addresses import DEFAULT_RANGE, Subnet, choose_subnet, link_address
from pybench.runtime.container.network.firewall import FirewallError, Members
from pybench.runtime.container.network.links import (
    link_errors,
    link_names,
    route_socket,
    used_networks,
    write_settings,
)
from pybench.runtime.errors import LeftoverError
from pybench.runtime.journal import Journal, state_directory

NAME_PREFIX = "pyb"
NAME_PATTERN = rf"{NAME_PREFIX}[0-9a-f]{{6}}[0-9a-z]"
"""Then the maker's pid, in base sixteen, and what tells its bridges apart."""
_letters = itertools.cycle(random.sample(string.digits + string.ascii_lowercase, 36))
REMOVAL_PATIENCE = 30.0
"""Seconds until the kernel must have removed links: it does so behind our back, in batches."""
POLL_INTERVAL = 0.005
"""Seconds between looks at links that are going; never within a measured span."""

IPV4_SETTINGS = {
    "forwarding": "0",  # no way through the host, whatever the host does for others
    "rp_filter": "1",  # a source address of another network is not believed (RFC 3704)
    "arp_ignore": "1",  # the host's other addresses are not told to whoever asks
    "arp_announce": "2",
    "accept_redirects": "0",
    "send_redirects": "0",
    "accept_source_route": "0",
    "route_localnet": "0",
}
"""Of the bridge alone, below /proc/sys/net/ipv4/conf/; they vanish with it."""
NO_IPV6 = {"disable_ipv6": "1"}
"""No link-local address, which would be a way to the host past the rules for IPv4."""


def new_name() -> str:
    """A name that tells who made it; with a port's number it has the 15 characters that a link may have."""
    return f"{NAME_PREFIX}{os.getpid():06x}{next(_letters)}"


class Bridge:
    """A context manager; containers join it through a `NetworkPool`.

    The host reaches every container's TCP ports and gets answers to `ping`. No container reaches
    the host's ports, another network, or (unless `siblings`) another container.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        siblings: bool = False,
        addresses: ipaddress.IPv4Network = DEFAULT_RANGE,
    ) -> None:
        """`addresses` is the range in which a free subnet is looked for."""
        self.name = new_name()
        self.siblings = siblings
        self.index = 0
        self.missing: dict[str, str] = {}
        """The parts of the packet filter that this host cannot have (`inet`, `bridge`), and why."""
        self._journal = journal
        self._range = addresses
        self._members: Members | None = None
        self._resources = contextlib.ExitStack()

    @property
    def members(self) -> Members:
        """Its subnet, and the names of its ports."""
        if self._members is None:
            raise RuntimeError("the bridge is not up; use it as a context manager")
        return self._members

    @property
    def subnet(self) -> Subnet:
        """The addresses on it."""
        return self.members.subnet

    @property
    def qualifiers(self) -> dict[str, str]:
        """What must be said beside every number, degradations included."""
        said = {"net": "bridge"}
        if self.siblings:
            said["siblings"] = "reachable"
        if self.missing:
            said["firewall"] = f"without {', '.join(self.missing)}"
        return said

    def __enter__(self) -> Self:
        """Make it.

        Raises:
            HostError: this user may not, the kernel lacks bridges, or no subnet is free.
        """
        with contextlib.ExitStack() as stack:
            # Closed last, after everything that uses it.
            routes = stack.enter_context(route_socket())
            with _choosing_addresses(), link_errors("look for a free subnet"):
                subnet = choose_subnet(used_networks(routes), self._range)
                self._members = Members(self.name, subnet, self.siblings)
                # The filter first: its rules go by names, so there is no instant without it.
                self._make_firewall(stack)
                self._make_link(stack, routes)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _make_firewall(self, stack: contextlib.ExitStack) -> None:
        number = self._journal.record("nftables", table=self.name)
        stack.callback(self._remove_firewall, number)
        self.missing = firewall.install(self.members)

    def _remove_firewall(self, number: int) -> None:
        try:
            firewall.remove(self.name)
            left = firewall.tables(self.name)
        except FirewallError:
            # A table is made whole or not at all; and a user who may not make one may not list them either.
            if self.missing.keys() < set(firewall.FAMILIES):
                raise
            left = ()
        if left:
            raise LeftoverError(f"the nftables table {self.name} of {', '.join(left)} was not removed")
        self._journal.forget(number)

    def _make_link(self, stack: contextlib.ExitStack, routes: Any) -> None:  # noqa: ANN401
        number = self._journal.record("link", name=self.name)
        stack.callback(self._remove_link, number, routes)
        gateway = self.subnet.gateway
        with link_errors(f"make the bridge {self.name}"):
            routes.link(
                "add",
                ifname=self.name,
                kind="bridge",
                address=link_address(gateway.ip),
                br_stp_state=0,
                br_mcast_snooping=0,
            )
            self.index = routes.link("get", ifname=self.name)[0]["index"]
            write_settings(f"ipv4/conf/{self.name}", IPV4_SETTINGS)
            write_settings(f"ipv6/conf/{self.name}", NO_IPV6)
            routes.addr(
                "add",
                index=self.index,
                address=str(gateway.ip),
                prefixlen=gateway.network.prefixlen,
                broadcast=str(gateway.network.broadcast_address),
            )
            routes.link("set", index=self.index, state="up")

    def _remove_link(self, number: int, routes: Any) -> None:  # noqa: ANN401
        with link_errors(f"remove the bridge {self.name}"):
            survivors = remove_links(routes, self.name)
        if survivors:
            raise LeftoverError(f"links were not removed: {', '.join(survivors)}")
        self._journal.forget(number)


def remove_links(routes: Any, name: str) -> tuple[str, ...]:  # noqa: ANN401
    """Remove a bridge and whatever is still plugged into it; returns what is there after all.

    Raises:
        NetlinkError: a link that is there could not be removed.
    """
    for link in (*ports(routes, name), name):
        _delete_link(routes, link)
    return tuple(link for link in link_names(routes) if link == name or link.startswith(f"{name}-"))


def ports(routes: Any, bridge: str) -> tuple[str, ...]:  # noqa: ANN401
    """The host's ends of the links of the containers on a bridge."""
    return tuple(link for link in link_names(routes) if link.startswith(f"{bridge}-"))


def await_no_ports(routes: Any, bridge: str, patience: float) -> bool:  # noqa: ANN401
    """Wait for the kernel to remove the links of namespaces that nobody holds any more."""
    deadline = time.monotonic() + patience
    while ports(routes, bridge):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def _delete_link(routes: Any, name: str) -> None:  # noqa: ANN401
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        routes.link("del", ifname=name)
    except NetlinkError:
        if name in link_names(routes):
            raise


@contextlib.contextmanager
def _choosing_addresses() -> Iterator[None]:
    """One process at a time chooses a subnet; once its bridge has it, the kernel shows it to the next."""
    directory = os.open(state_directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
