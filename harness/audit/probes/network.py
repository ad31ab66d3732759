"""Probes about the network: which sockets, interfaces and frames of others are within reach."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from pybench.harness.audit.canaries.network import AbstractSocketCanary, FramesCanary, ListenersCanary
from pybench.harness.audit.model import (
    Expected,
    Parameters,
    Probe,
    Verdict,
    error,
    isolated,
    leak,
    not_applicable,
    shared,
)
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_NO_ADDRESS: Final = "00:00:00:00:00:00"
_MISSING_FAMILY: Final = frozenset({"EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"})
"""The kernel has no such sockets, for anybody."""


def _loopback_ports(ground: Ground) -> Parameters:
    canary = ground.canary(ListenersCanary)
    return {"tcp": canary.loopback_tcp, "udp": canary.loopback_udp}


def _loopback(observation: Observation) -> Verdict:
    token = observation.canary(ListenersCanary).loopback_token
    if places := observation.places(token):
        return leak("it reaches what the host offers on its loopback alone", *evidence(places))
    faults = f"tcp {observation.text('tcp')}, udp {observation.text('udp')}"
    return isolated(f"nothing of the host answers on its loopback ({faults})")


def _open_ports(ground: Ground) -> Parameters:
    canary = ground.canary(ListenersCanary)
    subject = ground.subject
    addresses = ["127.0.0.1"] if subject.shared else _neighbours(subject.address) if subject.address else []
    return {"tcp": canary.open_tcp, "udp": canary.open_udp, "addresses": addresses}


def _neighbours(address: str) -> list[str]:
    """The host's own addresses in the network of an address."""
    found = []
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and each.netmask:
                own = ipaddress.ip_interface(f"{each.address}/{each.netmask}")
                if ipaddress.ip_address(address) in own.network:
                    found.append(str(own.ip))
    return found


def _through_the_gateway(observation: Observation) -> Verdict:
    if places := observation.places(observation.canary(ListenersCanary).open_token):
        return leak("it reaches the host's own ports", *evidence(places))
    faults = observation.texts("faults")
    return isolated("the host's ports do not answer", *evidence(faults)) if faults else isolated(
        "it has no gateway, and so no way to the host's ports"
    )  # fmt: skip


def _bind_port(ground: Ground) -> Parameters:
    return {"tcp": ground.canary(ListenersCanary).open_tcp}


def _bound(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    if fault == "EADDRINUSE":
        return leak("a port that the host uses cannot be used inside", "bind: EADDRINUSE")
    if fault:
        return error(f"the port could not be bound for another reason: {fault}")
    return isolated("the same port can be bound inside and on the host")


def _abstract_name(ground: Ground) -> Parameters:
    return {"name": ground.canary(AbstractSocketCanary).abstract_name}


def _abstract(observation: Observation) -> Verdict:
    canary = observation.canary(AbstractSocketCanary)
    if places := observation.places(canary.abstract_token):
        return leak("it reaches an abstract UNIX socket of the host", *evidence(places))
    fault = observation.text("fault")
    if not fault:
        return leak("an abstract UNIX socket of the host accepted it", f"@{canary.abstract_name}")
    return isolated(f"an abstract UNIX socket of the host answers {fault}")


def _socket_tables(observation: Observation) -> Verdict:
    listeners, sockets = observation.canary(ListenersCanary), observation.canary(AbstractSocketCanary)
    found = observation.places(sockets.name_token)
    ports = set(observation.texts("ports"))
    wanted = (
        *(f"tcp {port}" for port in (listeners.loopback_tcp, listeners.open_tcp)),
        *(f"udp {port}" for port in (listeners.loopback_udp, listeners.open_udp)),
    )
    listed = [port for port in wanted if port in ports]
    # One port may be in use inside by chance; all four cannot.
    if len(listed) == len(wanted):
        found += [f"/proc/net: {port}" for port in listed]
    if found:
        return leak("it sees which sockets the host has", *evidence(found))
    return isolated(f"its tables list {count(len(ports), 'port')}, the host's canaries not among them")


def _hardware_addresses() -> dict[str, str]:
    found = {}
    for _, name in socket.if_nameindex():
        try:
            address = Path(f"/sys/class/net/{name}/address").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if address not in {"", _NO_ADDRESS}:
            found[address] = name
    return found


def _interfaces(observation: Observation) -> Verdict:
    ours = _hardware_addresses()
    if not ours:
        return not_applicable("the host has no interface but its loopback")
    theirs = observation.texts("interfaces")
    found = [line for line in theirs if line.rpartition(" ")[2] in ours]
    if found:
        return leak("it sees the host's interfaces", *evidence(found + observation.texts("routes")))
    return isolated(f"its interfaces are its own: {', '.join(line.partition(' ')[0] for line in theirs)}")


def _sibling_address(ground: Ground) -> Parameters:
    sibling = ground.sibling
    if sibling is None or sibling.address is None or sibling.ports is None:
        return {"address": "", "tcp": 0, "udp": 0}
    return {"address": sibling.address, "tcp": sibling.ports.tcp, "udp": sibling.ports.udp}


def _sibling(observation: Observation) -> Verdict:
    assert observation.sibling is not None, "the session checks it"  # noqa: S101
    address = observation.text("address")
    if not address:
        return isolated("neither has an interface but its loopback; `--network bridge` gives them one")
    found = observation.places(observation.sibling.token)
    if neighbour := observation.text("neighbour"):
        found.append(f"{address} is at {neighbour}")
    if found:
        return leak("it reaches its sibling over the network", *evidence(found))
    return isolated(f"{address} answers neither TCP ({observation.text('tcp')}) nor UDP nor ARP")


def _frames(observation: Observation) -> Verdict:
    if places := observation.places(*observation.canary(FramesCanary).tokens):
        return leak("it captures the host's frames", *evidence(places))
    fault = observation.text("fault")
    return isolated(
        f"a socket for frames is refused with {fault}"
        if fault
        else "it captures frames, but none of the host's"
    )


def _metadata(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    if fault:
        return isolated(f"169.254.169.254 is out of reach: {fault}")
    if observation.flag("own"):
        return leak("nothing keeps it from the address", "a service of the test's own answered there")
    return leak("the address of the cloud's metadata accepts connections", "169.254.169.254:80")


def _families(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    opened = [name for name, fault in faults.items() if not fault]
    if not opened and observation.subject.shared and set(faults.values()) <= _MISSING_FAMILY:
        return not_applicable("this kernel has none of these families")
    told = ", ".join(f"{name} {fault}" for name, fault in faults.items())
    return observation.reached(opened, "it opens sockets that lead into rarely tested code", told)


def _settings(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    opened = [path for path, fault in faults.items() if not fault]
    is_the_hosts = observation.text("namespace") == str(Path("/proc/self/ns/net").readlink())
    if opened and not is_the_hosts and not observation.subject.own_kernel:
        own = "the settings of its own network namespace can be changed, not the host's"
        return shared(own, *evidence(opened))
    refused = f"they are refused with {', '.join(sorted(set(faults.values())))}"
    return observation.reached(opened, "it may switch forwarding on", refused)


def _engine_path(ground: Ground) -> Parameters:
    return {"path": str(ground.canary(AbstractSocketCanary).path)}


def _engines(observation: Observation) -> Verdict:
    reached = observation.texts("reached")
    if observation.subject.own_kernel and not observation.places(
        observation.canary(AbstractSocketCanary).path_token
    ):
        return isolated("no socket of the host's is inside")
    if reached:
        return leak("it reaches a socket that rules the host", *evidence(reached))
    return isolated("no socket of an engine, hypervisor or bus of the host's is inside")


NETWORK_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/network_namespaces.7.html"
_OWN_NETWORK: Final = "Give it a network namespace of its own."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="N1",
        title="The host's loopback can be reached",
        category="network",
        severity="high",
        rationale=(
            "Services on 127.0.0.1 trust whoever reaches them: databases, debuggers, agents of the cloud."
        ),
        handling=(
            "A network namespace has a loopback of its own. `--network=host` gives that up, and "
            "so do user-mode networks whose gateway is the host's loopback (slirp, QEMU's "
            "`user`)."
        ),
        remediation=_OWN_NETWORK,
        references=(NETWORK_NAMESPACES,),
        expected=Expected.of("LIII"),
        canaries=("listeners",),
        parameters=_loopback_ports,
        judge=_loopback,
    ),
    Probe(
        id="N2",
        title="The host's open ports can be reached through the gateway",
        category="network",
        severity="medium",
        rationale="What the host offers to its own network is then offered to every tenant on it.",
        handling=(
            "Engines with a bridge make the host the gateway, and leave its ports open to "
            "containers. Our bridge's packet filter drops what is addressed to the host; without "
            "a network there is no way at all."
        ),
        remediation="Drop packets from the bridge that are addressed to the host itself.",
        references=("https://docs.docker.com/engine/network/packet-filtering-firewalls/",),
        expected=Expected.of("LIII"),
        canaries=("listeners",),
        parameters=_open_ports,
        judge=_through_the_gateway,
    ),
    Probe(
        id="N3",
        title="Ports conflict with the host's",
        category="network",
        severity="medium",
        rationale=(
            "Two that share a port space can take each other's ports, or serve in the other's "
            "stead while it restarts."
        ),
        handling="Each network namespace, and each guest's kernel, has all ports to itself.",
        remediation=_OWN_NETWORK,
        references=(NETWORK_NAMESPACES,),
        expected=Expected.of("LIII"),
        canaries=("listeners",),
        parameters=_bind_port,
        judge=_bound,
    ),
    Probe(
        id="N4",
        title="Abstract UNIX sockets of the host can be reached",
        category="network",
        severity="critical",
        rationale=(
            "They have no file, and so no permissions: containerd's shim listened on one, and a "
            "container in the host's network namespace could start processes through it "
            "(CVE-2020-15257)."
        ),
        handling=(
            "They belong to the network namespace. Landlock's scope holds them back where that is shared."
        ),
        remediation=_OWN_NETWORK,
        references=(
            "https://nvd.nist.gov/vuln/detail/CVE-2020-15257",
            "https://man7.org/linux/man-pages/man7/unix.7.html",
        ),
        expected=Expected.of("LIII"),
        canaries=("unix-sockets",),
        parameters=_abstract_name,
        judge=_abstract,
    ),
    Probe(
        id="N5",
        title="The host's sockets are listed",
        category="network",
        severity="medium",
        rationale="/proc/net names every service, its peers and its UNIX sockets.",
        handling="/proc/net shows the network namespace of whoever reads it.",
        remediation=_OWN_NETWORK,
        references=(NETWORK_NAMESPACES,),
        expected=Expected.of("LIII"),
        canaries=("listeners", "unix-sockets"),
        judge=_socket_tables,
    ),
    Probe(
        id="N6",
        title="The host's interfaces, addresses and routes are visible",
        category="network",
        severity="medium",
        rationale=(
            "Hardware addresses identify a machine for ever, and routes are a map of what is beside it."
        ),
        handling="Interfaces belong to a network namespace; a virtual machine has emulated ones.",
        remediation=_OWN_NETWORK,
        references=(NETWORK_NAMESPACES,),
        expected=Expected.of("LIII"),
        judge=_interfaces,
    ),
    Probe(
        id="N7",
        title="A sibling can be reached over the network",
        category="network",
        severity="medium",
        rationale=(
            "Tenants that can talk to each other can attack each other, and intercept each other's traffic."
        ),
        handling=(
            "On Docker's default bridge all containers reach one another. Our bridge isolates its"
            " ports, for containers and machines alike; without a network there is nothing to "
            "reach."
        ),
        remediation="Isolate the ports of the bridge, or filter between them.",
        references=("https://man7.org/linux/man-pages/man8/bridge.8.html",),
        expected=Expected.of(
            "LIII",
            note="our bridge keeps siblings apart whatever they are, privileged containers and guests too",
        ),
        sibling=True,
        parameters=_sibling_address,
        judge=_sibling,
    ),
    Probe(
        id="N8",
        title="The host's traffic can be captured",
        category="network",
        severity="high",
        rationale="Whoever sees frames reads what is not encrypted, and learns who talks to whom.",
        handling=(
            "Packet sockets need CAP_NET_RAW, and see the interfaces of their own network "
            "namespace. Docker grants the capability by default; ours has none, and refuses the "
            "family by seccomp."
        ),
        remediation=f"{_OWN_NETWORK} Drop CAP_NET_RAW.",
        references=("https://man7.org/linux/man-pages/man7/packet.7.html",),
        expected=Expected.of("LIII"),
        canaries=("frames",),
        watches=True,
        judge=_frames,
    ),
    Probe(
        id="N9",
        title="The cloud's metadata service can be reached",
        category="network",
        severity="medium",
        rationale="At 169.254.169.254 clouds hand the host's credentials to whoever asks.",
        handling=(
            "Containers on a bridge reach it through the host unless a filter drops it, as ours "
            "does. A guest of somebody else's cloud is meant to have its own."
        ),
        remediation="Drop packets to 169.254.0.0/16 on the bridge; demand IMDSv2 with a hop limit of 1.",
        references=(
            "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html",
        ),
        expected=Expected.of(
            "LIII",
            note=(
                "on targets in the host's network a service of the test's own is asked, in a "
                "namespace of its own"
            ),
        ),
        judge=_metadata,
        mutates=True,
    ),
    Probe(
        id="N10",
        title="Unusual socket families can be opened",
        category="network",
        severity="high",
        rationale=(
            "AF_ALG, AF_VSOCK and AF_PACKET have had holes that gave root, and hardly any service"
            " needs them; AF_VSOCK also leads past every network namespace to the hypervisor."
        ),
        handling="Only a seccomp filter on socket(2) keeps them out; Docker's refuses AF_VSOCK alone.",
        remediation="Refuse all families but UNIX, INET, INET6 and the routing NETLINK by seccomp.",
        references=("https://man7.org/linux/man-pages/man2/address_families.7.html",),
        expected=Expected.of("LILS"),
        judge=_families,
    ),
    Probe(
        id="N11",
        title="Forwarding can be switched on",
        category="network",
        severity="medium",
        rationale=(
            "With ip_forward or route_localnet a tenant becomes a router, or reaches the host's loopback."
        ),
        handling="/proc/sys/net belongs to the network namespace; engines mount it read-only besides.",
        remediation="Mount /proc/sys read-only.",
        references=("https://docs.kernel.org/networking/ip-sysctl.html",),
        expected=Expected.of(
            "LISS",
            note=(
                "in a network namespace of its own, even a privileged container changes only its own settings"
            ),
        ),
        judge=_settings,
    ),
    Probe(
        id="N12",
        title="Sockets of engines, hypervisors and buses can be reached",
        category="network",
        severity="critical",
        rationale="Whoever reaches Docker's, containerd's or libvirt's socket is root on the host.",
        handling=(
            "They are files: inside only if they are mounted there, which monitoring agents often ask for."
        ),
        remediation="Do not mount them; give such agents an interface of their own.",
        references=("https://docs.docker.com/engine/security/protect-access/",),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("unix-sockets",),
        parameters=_engine_path,
        judge=_engines,
    ),
)
