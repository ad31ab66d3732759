"""Sockets inside the namespaces that the network tests make, and what they see."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from ipaddress import IPv4Address, IPv6Address

from pybench.runtime.container.network.links import route_socket
from pybench.runtime.container.network.pool import Lease

SILENCE = 0.4
"""Seconds after which an attempt counts as unanswered; a successful one takes well below a millisecond."""
AFTER_SILENCE = 60.0
"""Seconds for an attempt that must succeed after one that did not: ARP asks again once a second."""
ETHERTYPE_IP = b"\x08\x00"
ETHERTYPE_ARP = b"\x08\x06"
ETHERTYPE_IPV6 = b"\x86\xdd"
TEST_PORT = 7777


def being_in(place: Lease | None) -> AbstractContextManager[None]:
    """Inside a container's network, or on the host."""
    return place.entered() if place else contextlib.nullcontext()


@contextlib.contextmanager
def open_socket(
    place: Lease | None, kind: socket.SocketKind = socket.SOCK_STREAM, family: int = socket.AF_INET
) -> Iterator[socket.socket]:
    """A socket of that network; it stays one of it wherever the thread goes."""
    with being_in(place):
        opened = socket.socket(family, kind)
    with opened:
        opened.settimeout(SILENCE)
        yield opened


@contextlib.contextmanager
def listening(place: Lease | None, address: str = "0.0.0.0", port: int = 0) -> Iterator[int]:  # noqa: S104
    """A TCP listener; the port it got."""
    with open_socket(place) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        yield listener.getsockname()[1]


def connects(
    place: Lease | None, address: IPv4Address | str, port: int, *, patience: float = SILENCE
) -> bool:
    """Whether a connection comes about; false if it is refused, unreachable or unanswered."""
    with open_socket(place) as client:
        client.settimeout(patience)
        try:
            client.connect((str(address), port))
        except OSError:
            return False
        return True


def answers_ping(address: IPv4Address) -> bool:
    """Whether an ICMP echo request of the host's is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as client:
        client.settimeout(AFTER_SILENCE)
        # The checksum of an echo request whose only other non-zero word is 1 (RFC 1071).
        client.sendto(struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0801, 0, 1), (str(address), 0))
        try:
            while True:
                reply, (source, _) = client.recvfrom(128)
                if source == str(address):
                    return reply[20] == 0
        except TimeoutError:
            return False


def datagrams(
    place: Lease | None, sender: Lease | None, address: IPv4Address | str, *, patience: float = SILENCE
) -> set[bytes]:
    """What a UDP socket of `place` gets of two datagrams: one from `sender`, and one from itself.

    It waits for `patience` seconds for what may yet come.
    """
    with open_socket(place, socket.SOCK_DGRAM) as receiver, open_socket(sender, socket.SOCK_DGRAM) as there:
        receiver.bind(("0.0.0.0", 0))  # noqa: S104
        port = receiver.getsockname()[1]
        with contextlib.suppress(OSError):
            there.sendto(b"theirs", (str(address), port))
        with open_socket(place, socket.SOCK_DGRAM) as here:
            here.sendto(b"own", ("127.0.0.1", port))
        receiver.settimeout(patience)
        found: set[bytes] = set()
        with contextlib.suppress(TimeoutError):
            while len(found) < 2:
                found.add(receiver.recv(64))
        return found


def neighbour(place: Lease, address: IPv4Address) -> str | None:
    """The MAC address that ARP has found for an address; None if nobody answered."""
    with place.entered(), route_socket() as routes:
        for message in routes.get_neighbours(family=socket.AF_INET):
            if message.get("dst") == str(address):
                mac: str | None = message.get("lladdr")
                return mac
    return None


def route_through(place: Lease, gateway: IPv4Address) -> None:
    """Give a container the default route that it cannot give itself."""
    with place.entered(), route_socket() as routes:
        routes.route("add", dst="default", gateway=str(gateway))


def frame(source_mac: str, target_mac: str, kind: bytes, payload: bytes) -> bytes:
    """An Ethernet frame."""
    return bytes.fromhex((target_mac + source_mac).replace(":", "")) + kind + payload


def ip_packet(source: IPv4Address, target: IPv4Address, payload: bytes) -> bytes:
    """An IPv4 packet of an experimental protocol (253, RFC 3692), which no socket answers."""
    fields = (0x45, 0, 20 + len(payload), 0, 0, 1, 253)
    header = struct.pack("!BBHHHBBH4s4s", *fields, 0, source.packed, target.packed)
    # One's complement: every carry is added at the other end (RFC 1071).
    checksum = 0xFFFF - ((sum(struct.unpack("!10H", header)) - 1) % 0xFFFF + 1)
    return struct.pack("!BBHHHBBH4s4s", *fields, checksum, source.packed, target.packed) + payload


def ipv6_packet() -> bytes:
    """An IPv6 packet without a payload (next header 59) between two link-local addresses."""
    addresses = (IPv6Address("fe80::1").packed, IPv6Address("fe80::2").packed)
    return struct.pack("!IHBB", 6 << 28, 0, 59, 1) + b"".join(addresses)


def arp_reply(mac: str, address: IPv4Address, target_mac: str, target: IPv4Address) -> bytes:
    """`address` is at `mac`, as ARP says it (RFC 826)."""
    binary = [bytes.fromhex(text.replace(":", "")) for text in (mac, target_mac)]
    start = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return start + binary[0] + address.packed + binary[1] + target.packed


def frames_that_arrive(place: Lease, listener: str, frames: list[bytes]) -> list[bytes]:
    """Send frames from inside and return those that come up on a link of the host's, as the last one does."""
    every_protocol = socket.htons(0x0003)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every_protocol) as watching:
        watching.bind((listener, 0x0003))
        watching.settimeout(AFTER_SILENCE)
        with open_socket(place, socket.SOCK_RAW, socket.AF_PACKET) as sending:
            sending.bind((place.interface, 0))
            for each in frames:
                sending.send(each)
        # The container's kernel may say the same once more, when it is asked for its address.
        found: set[bytes] = set()
        with contextlib.suppress(TimeoutError):
            while True:
                found.add(watching.recv(2048))
                if frames[-1] in found:
                    watching.settimeout(SILENCE)
        return [each for each in frames if each in found]
