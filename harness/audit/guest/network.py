"""The guest's parts of the probes about the network."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time

from pybench.harness.audit.guest.core import (
    CLONE_NEWNET,
    Facts,
    Given,
    Sightings,
    name_of,
    opens_for_writing,
    part,
    read_or_nothing,
    system_call,
)

PATIENCE = 0.3
"""Seconds for an answer that most probably never comes: a filter has dropped the question."""
LOCAL_PATIENCE = 5.0
"""Seconds for one of this machine's, which refuses at once where nobody listens."""
FRAMES_PATIENCE = 0.5
METADATA = "169.254.169.254"
METADATA_PORT = 80
ETH_P_ALL = 3
SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8913, 0x8914, 1
TABLES = ("tcp", "tcp6", "udp", "udp6")
MOST_PORTS = 1000
SYSCTLS = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/route_localnet")
ENGINES = (
    "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
    "/run/podman/podman.sock", "/run/crio/crio.sock", "/run/libvirt/libvirt-sock",
    "/run/dbus/system_bus_socket", "/run/systemd/private",
)  # fmt: skip


def ask_tcp(address: str, port: int, seen: Sightings) -> str:
    """Connect and read: empty if it answered, else the error."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as asking:
        asking.settimeout(LOCAL_PATIENCE if address.startswith("127.") else PATIENCE)
        try:
            asking.connect((address, port))
            seen.look(asking.recv(256), f"tcp {address}:{port}")
        except OSError as error:
            return name_of(error) if error.errno else "no answer"
    return ""


def ask_udp(address: str, port: int, seen: Sightings) -> str:
    """Send and wait for the answer: empty if there was one, else the error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(LOCAL_PATIENCE if address.startswith("127.") else PATIENCE)
        try:
            asking.connect((address, port))
            asking.send(b"?")
            seen.look(asking.recv(256), f"udp {address}:{port}")
        except OSError as error:
            return name_of(error) if error.errno else "no answer"
    return ""


def ask_unix(name: bytes, seen: Sightings, place: str) -> str:
    """Connect to a UNIX socket and read: empty if the connection was made, else the error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(LOCAL_PATIENCE)
        try:
            asking.connect(name)
        except OSError as error:
            return name_of(error)
        with contextlib.suppress(OSError):
            seen.look(asking.recv(256), place)
    return ""


def gateways() -> list[str]:
    """The addresses of our default routes."""
    found = []
    for line in read_or_nothing("/proc/self/net/route").decode("ascii", "replace").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            found.append(socket.inet_ntoa(struct.pack("=I", int(fields[2], 16))))
    return found


@part("N1")
def ask_the_hosts_loopback(given: Given, seen: Sightings) -> Facts:
    """Connect to what the host has on 127.0.0.1 alone."""
    return {
        "tcp": ask_tcp("127.0.0.1", given["tcp"], seen),
        "udp": ask_udp("127.0.0.1", given["udp"], seen),
    }


@part("N2")
def ask_the_host_through_the_gateway(given: Given, seen: Sightings) -> Facts:
    """Connect to what the host has on all addresses."""
    addresses = [*gateways(), *given["addresses"]]
    faults = []
    for address in addresses[:4]:
        faults.append(f"{address} {ask_tcp(address, given['tcp'], seen) or 'answered'}")
        ask_udp(address, given["udp"], seen)
    return {"faults": faults}


@part("N3")
def bind_a_port_of_the_hosts(given: Given, _seen: Sightings) -> Facts:
    """Bind the port that the host has bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        try:
            own.bind(("0.0.0.0", given["tcp"]))  # noqa: S104 - as the host did
        except OSError as error:
            return {"fault": name_of(error)}
    return {"fault": ""}


@part("N4")
def connect_to_an_abstract_socket(given: Given, seen: Sightings) -> Facts:
    """Connect to a UNIX socket of the host that has no file."""
    return {"fault": ask_unix(b"\0" + given["name"].encode("ascii"), seen, f"@{given['name']}")}


@part("N5")
def read_the_tables_of_sockets(_given: Given, seen: Sightings) -> Facts:
    """All local ports, and the names of UNIX sockets."""
    ports = set()
    for table in TABLES:
        for line in read_or_nothing(f"/proc/self/net/{table}").decode("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 1:
                ports.add(f"{table[:3]} {int(fields[1].rpartition(':')[2], 16)}")
    seen.look(read_or_nothing("/proc/self/net/unix", 1 << 22), "/proc/self/net/unix")
    return {"ports": sorted(ports)[:MOST_PORTS]}


def interface_names() -> list[str]:
    """Of our network namespace; from its table of counters, which needs no socket of a refused family."""
    lines = read_or_nothing("/proc/self/net/dev").decode("ascii", "replace").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


@part("N6")
def list_interfaces(_given: Given, _seen: Sightings) -> Facts:
    """Names and hardware addresses, and the routes."""
    interfaces = []
    for name in interface_names():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            packed = struct.pack("256s", name.encode()[:15])
            try:
                address = fcntl.ioctl(any_socket, 0x8927, packed)[18:24].hex(":")
            except OSError:
                address = ""
        interfaces.append(f"{name} {address}")
    routes = read_or_nothing("/proc/self/net/route").decode("ascii", "replace").splitlines()[1:]
    return {"interfaces": interfaces, "routes": ["/".join(line.split()[:3]) for line in routes[:64]]}


@part("N7")
def ask_the_sibling(given: Given, seen: Sightings) -> Facts:
    """TCP and UDP to the sibling's address, and its hardware address in our table of neighbours."""
    address = given["address"]
    if not address:
        return {"address": "", "tcp": "", "udp": "", "neighbour": ""}
    tcp, udp = ask_tcp(address, given["tcp"], seen), ask_udp(address, given["udp"], seen)
    neighbours = read_or_nothing("/proc/self/net/arp").decode("ascii", "replace").splitlines()[1:]
    lines = [line.split() for line in neighbours]
    known = [fields[3] for fields in lines if fields[0] == address and fields[3] != "00:00:00:00:00:00"]
    return {"address": address, "tcp": tcp, "udp": udp, "neighbour": known[0] if known else ""}


@part("N8")
def capture_frames(_given: Given, seen: Sightings) -> Facts:
    """Listen to everything on every interface."""
    try:
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    except OSError as error:
        return {"fault": name_of(error)}
    deadline = time.monotonic() + FRAMES_PATIENCE
    with capture:
        while (left := deadline - time.monotonic()) > 0:
            capture.settimeout(left)
            try:
                data, sender = capture.recvfrom(65536)
            except OSError:
                break
            if seen.look(data, f"a frame on {sender[0]}"):
                break
    return {"fault": ""}


def _metadata_of_our_own() -> str:
    """In a network namespace of our own, give the loopback the address: empty, or why that failed."""
    _, fault = system_call("unshare", CLONE_NEWNET)
    if fault:
        return fault
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            for name, address in ((b"lo", "127.0.0.1"), (b"lo:1", METADATA)):
                packed = struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address))
                fcntl.ioctl(any_socket, SIOCSIFADDR, packed)
            flags = struct.unpack(
                "16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0))
            )
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags[1] | IFF_UP))
        except OSError as error:
            return name_of(error)
    return ""


@part("N9")
def ask_for_metadata(given: Given, _seen: Sightings) -> Facts:
    """Connect to the address under which clouds tell instances their credentials.

    Nothing is asked. On a target that shares the host's network, a service of our own is asked in a
    namespace of our own: that shows that the probe works.
    """
    if not given["shared"]:
        return {"fault": ask_tcp_only(METADATA, METADATA_PORT), "own": False}
    if fault := _metadata_of_our_own():
        return {"fault": fault, "own": True}
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as service:
        service.bind((METADATA, METADATA_PORT))
        service.listen(1)
        return {"fault": ask_tcp_only(METADATA, METADATA_PORT), "own": True}


def ask_tcp_only(address: str, port: int) -> str:
    """Connect, and say nothing: empty if the connection was made, else the error."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as asking:
        asking.settimeout(LOCAL_PATIENCE if address.startswith("127.") else PATIENCE)
        try:
            asking.connect((address, port))
        except OSError as error:
            return name_of(error) if error.errno else "no answer"
    return ""


@part("N10")
def open_unusual_sockets(_given: Given, _seen: Sightings) -> Facts:
    """Families that lead to the kernel's cryptography, to the hypervisor, and to the wire."""
    faults = {}
    for name, family, kind, protocol in (
        ("AF_ALG", 38, socket.SOCK_SEQPACKET, 0),
        ("AF_VSOCK", 40, socket.SOCK_STREAM, 0),
        ("AF_PACKET", 17, socket.SOCK_RAW, 0),
        ("AF_NETLINK audit", 16, socket.SOCK_RAW, 9),
    ):
        try:
            socket.socket(family, kind, protocol).close()
            faults[name] = ""
        except OSError as error:
            faults[name] = errno.errorcode.get(error.errno or 0, "?")
    return {"faults": faults}


@part("N11")
def open_network_settings(_given: Given, _seen: Sightings) -> Facts:
    """Open settings of forwarding for writing, and write nothing."""
    try:
        namespace = os.readlink("/proc/self/ns/net")
    except OSError:
        namespace = ""
    return {"faults": {path: opens_for_writing(path) for path in SYSCTLS}, "namespace": namespace}


@part("N12")
def connect_to_engines(given: Given, seen: Sightings) -> Facts:
    """Connect to the sockets of container engines, hypervisors and buses, and say nothing."""
    reached = [
        path
        for path in (*ENGINES, given["path"])
        if os.path.exists(path) and not ask_unix(os.fsencode(path), seen, path)
    ]
    return {"reached": reached}
