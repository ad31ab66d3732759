"""The packet filter around one bridge, as tables of its own in nftables.

Who gets through is decided without connection tracking: a rule that asks for a connection's state
makes the kernel track every packet of the host, loopback included (nf_conntrack), and so would slow
down the very targets that a container is compared with.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pybench.runtime.container.network.addresses import Subnet, link_address
from pybench.runtime.errors import HostError

Json: TypeAlias = str | int | Sequence["Json"] | Mapping[str, "Json"] | None
"""What libnftables-json(5) speaks."""

FAMILIES = ("inet", "bridge")
"""`inet`: what the bridge hands to the host; `bridge`: what passes between its ports."""
NFT_TIMEOUT = 30.0
PRIORITY_RAW = -300
"""Before everything else that may be installed (netfilter's NF_IP_PRI_RAW, NF_BR_PRI_NAT_DST_BRIDGED)."""
PORTS_SET = "ports"

_ACCEPT: dict[str, Json] = {"accept": None}
_DROP: dict[str, Json] = {"drop": None}


@dataclass(frozen=True, slots=True)
class Members:
    """Who is on the bridge: what the filter has to know."""

    bridge: str
    subnet: Subnet
    siblings: bool
    """Containers may reach one another."""

    def port(self, slot: int) -> str:
        """The host's end of the link of the container in a slot."""
        # All of one length: a saved machine's description can name another one in its place.
        return f"{self.bridge}-{slot:04}"


class FirewallError(HostError):
    """The packet filter could not be installed, removed or read."""


def _field(protocol: str, name: str) -> Json:
    return {"payload": {"protocol": protocol, "field": name}}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _match(left: Json, right: Json, operator: str = "==") -> dict[str, Json]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _chain(family: str, table: str, hook: str, rules: Iterable[Sequence[Json]]) -> list[Json]:
    base: dict[str, Json] = {"family": family, "table": table}
    return [
        {
            "add": {
                "chain": {
                    **base,
                    "name": hook,
                    "type": "filter",
                    "hook": hook,
                    "prio": PRIORITY_RAW,
                    "policy": "accept",
                }
            }
        },
        *({"add": {"rule": {**base, "chain": hook, "expr": rule}}} for rule in rules),
    ]


def _fresh_table(family: str, name: str) -> list[Json]:
    return [{"add": {"table": {"family": family, "name": name}}}]


def host_rules(members: Members) -> list[Json]:
    """Table `inet`: nothing from a container reaches the host but answers, and nothing is forwarded.

    An answer is a TCP segment with ACK or RST: one that opens no connection, and to which a
    listening and a closed port reply alike (RFC 9293, 3.10.7.1 and 3.10.7.2); or an ICMP echo reply.
    """
    bridge = members.bridge
    answers = [
        _match(_meta("iifname"), bridge),
        _match(_field("ip", "saddr"), _network(members.subnet)),
        _match(_field("ip", "daddr"), str(members.subnet.gateway.ip)),
    ]
    opens_nothing = _match({"&": [_field("tcp", "flags"), {"|": ["ack", "rst"]}]}, 0, "!=")
    inward = _chain(
        "inet",
        bridge,
        "input",
        [
            [*answers, opens_nothing, _ACCEPT],
            [*answers, _match(_field("icmp", "type"), "echo-reply"), _ACCEPT],
            [_match(_meta("iifname"), bridge), _DROP],
        ],
    )
    # With br_netfilter, frames between two ports pass here as well, with the bridge on both sides.
    through = _chain(
        "inet",
        bridge,
        "forward",
        [
            [_match(_meta("iifname"), bridge), _match(_meta("oifname"), bridge, "!="), _DROP],
            [_match(_meta("oifname"), bridge), _match(_meta("iifname"), bridge, "!="), _DROP],
        ],
    )
    return [*_fresh_table("inet", bridge), *inward, *through]


def port_rules(members: Members) -> list[Json]:
    """Table `bridge`: every port sends with its own MAC and IP address only, and to no other port."""
    bridge = members.bridge
    base: dict[str, Json] = {"family": "bridge", "table": bridge}
    every_port = f"{bridge}-*"
    elements: list[Json] = [
        {"concat": [members.port(slot), link_address(address), str(address)]}
        for slot, address in ((slot, members.subnet.interface(slot).ip) for slot in members.subnet.slots)
    ]
    owners: Json = {
        "add": {
            "set": {
                **base,
                "name": PORTS_SET,
                "type": ["ifname", "ether_addr", "ipv4_addr"],
                "elem": elements,
            }
        }
    }

    def owned(link_field: Json, address_field: Json) -> dict[str, Json]:
        return _match({"concat": [_meta("iifname"), link_field, address_field]}, f"@{PORTS_SET}")

    frame = _field("ether", "saddr")
    spoken_for = _field("arp", "saddr ip")
    inward = _chain(
        "bridge",
        bridge,
        "prerouting",
        [
            [owned(frame, _field("ip", "saddr")), _ACCEPT],
            [owned(frame, spoken_for), owned(_field("arp", "saddr ether"), spoken_for), _ACCEPT],
            [_match(_meta("iifname"), every_port), _DROP],
        ],
    )
    between: list[Json] = []
    if not members.siblings:
        between = _chain(
            "bridge",
            bridge,
            "forward",
            [[_match(_meta(key), every_port), _DROP] for key in ("iifname", "oifname")],
        )
    return [*_fresh_table("bridge", bridge), owners, *inward, *between]


def _network(subnet: Subnet) -> Json:
    return {"prefix": {"addr": str(subnet.network.network_address), "len": subnet.network.prefixlen}}


def install(members: Members) -> dict[str, str]:
    """Install both tables, each on its own.

    Returns:
        The families that this host cannot have, with the reason; empty if the filter is complete.
    """
    missing: dict[str, str] = {}
    for family, rules in zip(FAMILIES, (host_rules, port_rules), strict=True):
        try:
            _apply(rules(members))
        except FirewallError as error:
            missing[family] = error.message
    return missing


def remove(table: str) -> bool:
    """Remove a bridge's tables; false if there were none.

    Raises:
        FirewallError: they could not be removed.
    """
    present = tables(table)
    if present:
        _apply([{"delete": {"table": {"family": family, "name": table}}} for family in present])
    return bool(present)


def tables(name: str) -> tuple[str, ...]:
    """The families that have a table of this name; none where nftables is not installed.

    Raises:
        FirewallError: nftables is there but does not answer.
    """
    program = _program()
    if program is None:
        return ()
    listed = json.loads(_run([program, "-j", "list", "tables"], None))
    found = [item["table"] for item in listed["nftables"] if "table" in item]
    return tuple(table["family"] for table in found if table["name"] == name)


def _program() -> str | None:
    # An ordinary path may lack the system's own programs.
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")


def _apply(commands: Sequence[Json]) -> None:
    """Carry out commands in one transaction: all or none."""
    program = _program()
    if program is None:
        raise FirewallError("nft is not installed", "apt-get install nftables")
    _run([program, "-j", "-f", "-"], json.dumps({"nftables": commands}))


def _run(command: list[str], text: str | None) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=NFT_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        # nft repeats its whole input below the reason.
        reason = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise FirewallError(f"nftables refuses: {reason[:200]}", "the kernel may lack nf_tables")
    return done.stdout
