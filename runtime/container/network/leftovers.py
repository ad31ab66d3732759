"""Removing the bridge and the packet filter of a harness that was killed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pybench.runtime.container.network import firewall
from pybench.runtime.container.network.bridge import NAME_PATTERN, remove_links
from pybench.runtime.container.network.links import link_errors, link_names, route_socket
from pybench.runtime.errors import LeftoverError

_OUR_NAME = re.compile(NAME_PATTERN)


def _our_name(name: str) -> str:
    if not _OUR_NAME.fullmatch(name):
        raise LeftoverError(f"the journal names {name!r}, which is no name that pybench gives")
    return name


def remove_link(details: Mapping[str, str | int]) -> str:
    """Remove a journalled bridge and what is still plugged into it.

    Raises:
        LeftoverError: something is still there.
        HostError: this user may not.
    """
    name = _our_name(str(details["name"]))
    with link_errors(f"remove the bridge {name}"), route_socket() as routes:
        found = name in link_names(routes)
        if survivors := remove_links(routes, name):
            raise LeftoverError(f"links were not removed: {', '.join(survivors)}")
    return f"removed bridge {name}" if found else ""


def remove_table(details: Mapping[str, str | int]) -> str:
    """Remove a bridge's journalled nftables tables.

    Raises:
        HostError: they could not be removed.
    """
    name = _our_name(str(details["table"]))
    return f"removed nftables table {name}" if firewall.remove(name) else ""
