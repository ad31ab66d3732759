"""Network namespaces made ahead of the timed path, each with its own place on a bridge.

To give one to a container, the spawning thread enters it just before it clones (without
CLONE_NEWNET) and goes back afterwards, which takes microseconds. Everything slow (a namespace, a
pair of links, addresses) was done before by a thread of the pool's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from ipaddress import IPv4Interface
from types import TracebackType
from typing import Any, Self

from pybench.runtime.container.network.addresses import link_address
from pybench.runtime.container.network.bridge import (
    NO_IPV6,
    POLL_INTERVAL,
    REMOVAL_PATIENCE,
    Bridge,
    await_no_ports,
)
from pybench.runtime.container.network.links import link_errors, route_socket, write_settings
from pybench.runtime.container.network.namespace import entered, new_namespace
from pybench.runtime.errors import HostError, LeftoverError

INTERFACE = "eth0"

IPV4_SETTINGS = {
    # The namespace's owner is the initial user namespace, in which no container has CAP_NET_BIND_SERVICE.
    "ip_unprivileged_port_start": "0",
    # Echo requests without raw sockets, for every group (icmp(7)).
    "ping_group_range": "0 2147483647",
}

ABANDONED_SETTINGS = {"tcp_orphan_retries": "1"}
"""A killed process's connections outlive it, and keep the namespace, until their last segments are
acknowledged or given up: by default after a minute and more if the other side is gone too (tcp(7))."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """One container's network: used once, then given back."""

    slot: int
    namespace: int
    """A descriptor; it stays the pool's."""
    address: IPv4Interface
    mac: str
    interface: str
    """Its name inside."""
    port: str
    """The name of its other end, on the host."""
    ready_ahead: bool
    """It was ready when it was asked for; else making it was waited for."""

    def entered(self) -> AbstractContextManager[None]:
        """Let the calling thread be in it, so that what it clones is in it."""
        return entered(self.namespace)


class NetworkPool:
    """Keeps `size` networks ready; a context manager, to be left before its bridge is."""

    def __init__(self, bridge: Bridge, size: int, *, patience: float = REMOVAL_PATIENCE) -> None:
        """`patience` is how many seconds the kernel gets for removing everything at the end."""
        self.bridge = bridge
        self.size = size
        self._patience = patience
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pybench-network")
        self._socket = contextlib.ExitStack()
        self._routes: Any = None
        self._lock = threading.Lock()
        self._ready: deque[Future[Lease]] = deque()
        self._namespaces: dict[int, int] = {}
        """Slot → descriptor, of everything that was made and not given back."""
        self._last_slot = bridge.subnet.slots[-1]

    def __enter__(self) -> Self:
        """Make the first `size` networks and wait for them.

        Raises:
            HostError: this user or this kernel cannot.
        """
        try:
            # The thread starts here, in the namespace of whoever makes the pool, and stays there.
            self._thread.submit(self._open).result()
            self.settle()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every namespace and wait until the kernel has removed them.

        Raises:
            LeftoverError: something still lives in one of them.
        """
        self._close()

    def lease(self) -> Lease:
        """Take a network; none that another container has had.

        If none is ready, one is made, which takes milliseconds and shows in `ready_ahead`.

        Raises:
            HostError: it could not be made.
        """
        with self._lock:
            future = self._ready.popleft() if self._ready else self._thread.submit(self._make)
            ahead = future.done()
        return dataclasses.replace(future.result(), ready_ahead=ahead)

    def release(self, lease: Lease) -> None:
        """Give a network back after its container has ended; another is made in the background.

        Idempotent. `settle` waits for the background work, ahead of the next timed start.
        """
        with self._lock:
            descriptor = self._namespaces.get(lease.slot)
            if descriptor is None or descriptor != lease.namespace:
                return
            del self._namespaces[lease.slot]
            self._thread.submit(_abandon, descriptor)
            self._refill()

    def settle(self) -> None:
        """Wait until the pool is full and its thread is idle.

        Raises:
            HostError: a network could not be made.
        """
        with self._lock:
            self._refill()
            pending = tuple(self._ready)
        for future in pending:
            future.result()

    def _refill(self) -> None:
        # One that failed is asked for once more, so that a passing want of something does not last.
        self._ready = deque(each for each in self._ready if not (each.done() and each.exception()))
        while len(self._ready) < self.size:
            self._ready.append(self._thread.submit(self._make))

    def _open(self) -> None:
        with link_errors("open a netlink socket"):
            self._routes = self._socket.enter_context(route_socket())

    def _close(self) -> None:
        try:
            self._thread.submit(self._close_all).result()
        finally:
            self._thread.shutdown()

    def _close_all(self) -> None:
        """In the pool's thread, after whatever it was still asked to make."""
        with self._lock:
            descriptors = tuple(self._namespaces.values())
            self._namespaces.clear()
            self._ready.clear()
        with self._socket:
            with contextlib.ExitStack() as every:
                for descriptor in descriptors:
                    every.callback(_abandon, descriptor)
            if self._routes is not None and not await_no_ports(
                self._routes, self.bridge.name, self._patience
            ):
                raise LeftoverError(
                    f"network namespaces on {self.bridge.name} are still in use",
                    "a container survived; `pybench clean` removes it",
                )

    def _make(self) -> Lease:
        try:
            namespace = new_namespace()
        except OSError as error:
            hint = "raise /proc/sys/user/max_net_namespaces" if error.errno == errno.ENOSPC else ""
            raise HostError(f"cannot make a network namespace: {error}", hint) from error
        try:
            slot = self._plug_in(namespace)
            lease = self._set_up(namespace, slot)
        except BaseException:
            # The links go with the namespace.
            os.close(namespace)
            raise
        with self._lock:
            self._namespaces[slot] = namespace
        return lease

    def _plug_in(self, namespace: int) -> int:
        """Make the pair of links; returns the slot that was free."""
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        slots = self.bridge.subnet.slots
        for _ in self._attempts(len(slots)):
            # Round and round, so that an address comes back as late as possible.
            self._last_slot = slots[(self._last_slot - slots.start + 1) % len(slots)]
            try:
                with link_errors("make a pair of links"):
                    self._make_links(namespace, self._last_slot)
            except HostError as error:
                # The last namespace in this slot is not gone yet.
                if not (isinstance(error.__cause__, NetlinkError) and error.__cause__.code == errno.EEXIST):
                    raise
            else:
                return self._last_slot
        raise HostError(f"all {len(slots)} places on the bridge {self.bridge.name} are taken")

    def _attempts(self, places: int) -> Iterator[None]:
        """One for each place, and again as long as networks that were given back are being removed."""
        deadline = time.monotonic() + self._patience
        yield from [None] * places
        while len(self._namespaces) < places and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            yield from [None] * places

    def _make_links(self, namespace: int, slot: int) -> None:
        address = self.bridge.subnet.interface(slot).ip
        self._routes.link(
            "add",
            ifname=self.bridge.members.port(slot),
            kind="veth",
            peer={"ifname": INTERFACE, "net_ns_fd": namespace, "address": link_address(address)},
        )

    def _set_up(self, namespace: int, slot: int) -> Lease:
        port = self.bridge.members.port(slot)
        address = self.bridge.subnet.interface(slot)
        with link_errors(f"set up the port {port}"):
            index = self._routes.link("get", ifname=port)[0]["index"]
            write_settings(f"ipv6/conf/{port}", NO_IPV6)
            self._routes.link("set", index=index, master=self.bridge.index)
            if not self.bridge.siblings:
                self._routes.brport("set", index=index, isolated=1)
            self._routes.link("set", index=index, state="up")
        with link_errors(f"set up {INTERFACE} behind {port}"), entered(namespace), route_socket() as inside:
            write_settings("ipv4", IPV4_SETTINGS)
            write_settings(f"ipv6/conf/{INTERFACE}", NO_IPV6)
            inner = inside.link("get", ifname=INTERFACE)[0]["index"]
            inside.addr("add", index=inner, address=str(address.ip), prefixlen=address.network.prefixlen)
            inside.link("set", index=inner, state="up")
            inside.link("set", index=inside.link("get", ifname="lo")[0]["index"], state="up")
        return Lease(slot, namespace, address, link_address(address.ip), INTERFACE, port, ready_ahead=True)


def _abandon(namespace: int) -> None:
    """Leave a namespace to the kernel, which removes it as soon as nothing lives in it."""
    try:
        with entered(namespace):
            write_settings("ipv4", ABANDONED_SETTINGS)
    finally:
        os.close(namespace)
