"""What every use of the link layer shares: netlink sockets, their errors, per-link settings."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from pybench.runtime.errors import HostError

_HINTS = {
    errno.EPERM: "it takes root (CAP_NET_ADMIN)",
    errno.EOPNOTSUPP: "the kernel lacks it: modprobe bridge veth",
    errno.ENODEV: "it has vanished: something else removes links on this host",
}


@contextmanager
def route_socket() -> Iterator[Any]:
    """A netlink socket (pyroute2's IPRoute) of the network namespace the calling thread is in.

    It stays in that namespace wherever the thread goes; use it from this thread only.
    """
    from pyroute2 import IPRoute  # noqa: PLC0415 - a quarter of a second, and only bridges need it

    with IPRoute() as opened:
        yield opened


@contextmanager
def link_errors(doing: str) -> Iterator[None]:
    """Turn what netlink and the system calls around it raise into a HostError."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as error:
        raise HostError(f"cannot {doing}: {error.args[-1]}", _HINTS.get(error.code, "")) from error
    except OSError as error:
        raise HostError(f"cannot {doing}: {error}", _HINTS.get(error.errno or 0, "")) from error


def link_names(routes: Any) -> tuple[str, ...]:  # noqa: ANN401 - pyroute2 has no types
    """The name of every link in the socket's namespace."""
    return tuple(link.get("ifname") for link in routes.get_links())


def used_networks(routes: Any) -> tuple[IPv4Network, ...]:  # noqa: ANN401
    """Every IPv4 network of an address or a route in any table, but for default routes."""
    # An address with its prefix length, for it may have been added without a route.
    found = {
        IPv4Network((message.get("address"), message["prefixlen"]), strict=False)
        for message in routes.get_addr(family=2)
    }
    for message in routes.get_routes(family=2):
        if message.get("dst") and message["dst_len"]:
            found.add(IPv4Network((message.get("dst"), message["dst_len"]), strict=False))
    return tuple(found)


def write_settings(directory: str, settings: Mapping[str, str]) -> None:
    """Write files below /proc/sys/net, which shows the calling thread's namespace.

    Raises:
        OSError: one could not be written; those of a protocol the kernel lacks are passed over.
    """
    for name, value in settings.items():
        with suppress(FileNotFoundError):
            Path("/proc/sys/net", directory, name).write_text(value, encoding="ascii")
