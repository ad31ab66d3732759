"""Networks of containers on the real kernel: who reaches whom, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from network_traffic import (
    AFTER_SILENCE,
    ETHERTYPE_ARP,
    ETHERTYPE_IP,
    ETHERTYPE_IPV6,
    TEST_PORT,
    answers_ping,
    arp_reply,
    connects,
    datagrams,
    frame,
    frames_that_arrive,
    ip_packet,
    ipv6_packet,
    listening,
    neighbour,
    open_socket,
    route_through,
)
from patience import PATIENCE, wait_until
from worker_state import is_anothers

from pybench.runtime.container import system_calls
from pybench.runtime.container.identity import reserve
from pybench.runtime.container.instance import Instance, Readiness, launch
from pybench.runtime.container.network import firewall
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.container.network.links import link_names, route_socket
from pybench.runtime.container.network.namespace import entered, new_namespace
from pybench.runtime.container.network.pool import Lease, NetworkPool
from pybench.runtime.container.network.publish import PublishedPorts
from pybench.runtime.container.sandbox import NAMESPACES, stdio_steps
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import DeathSignal, Identity, NewSession, WaitForMaps
from pybench.runtime.errors import HostError, LeftoverError
from pybench.runtime.journal import Journal, journals, take_abandoned
from pybench.runtime.leftovers import REMOVERS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a bridge")

METADATA = "169.254.169.254"


def host_network() -> dict[str, set[object]]:
    """The links, networks and packet filters of the host that are no other run's."""
    with route_socket() as routes:
        names = {link["index"]: link.get("ifname") for link in routes.get_links()}
        networks = {
            (names.get(message["index"]), message.get("address"), message["prefixlen"])
            for message in routes.get_addr(family=2)
        } | {
            (names.get(message.get("oif")), message.get("dst"), message["dst_len"])
            for message in routes.get_routes(family=2)
        }
    listed = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=True)
    filters = {
        (item["table"]["family"], item["table"]["name"])
        for item in json.loads(listed.stdout)["nftables"]
        if "table" in item
    }
    return {
        "links": {name for name in names.values() if not is_anothers(name)},
        "networks": {each for each in networks if each[0] is None or not is_anothers(each[0])},
        "filters": {each for each in filters if not is_anothers(each[1])},
    }


def own_namespaces() -> int:
    """How many descriptors of networks this process has open."""
    return sum(target.startswith("net:") for target in map(_target, Path("/proc/self/fd").iterdir()))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


@pytest.fixture(autouse=True)
def network_unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the host's network and our namespaces as it found them, itself included."""
    before, namespaces = host_network(), own_namespaces()
    place = Path("/proc/thread-self/ns/net").readlink()
    yield
    assert Path("/proc/thread-self/ns/net").readlink() == place
    assert own_namespaces() == namespaces
    if not hasattr(request.config, "workerinput"):
        assert host_network() == before
        return

    def added() -> dict[str, set[object]]:
        return {kind: new for kind, found in host_network().items() if (new := found - before[kind])}

    # Another process of tests may have yet to clean up after what it has killed.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not added())
    assert added() == {}


@pytest.fixture
def bridge(journal: Journal) -> Iterator[Bridge]:
    """A bridge whose containers are isolated from one another."""
    with Bridge(journal) as opened:
        assert opened.qualifiers == {"net": "bridge"}, "the packet filter is incomplete here"
        yield opened


@pytest.fixture
def pool(bridge: Bridge) -> Iterator[NetworkPool]:
    """Three networks on the bridge."""
    with NetworkPool(bridge, 3) as opened:
        yield opened


def test_a_network_has_its_own_interface_and_address(bridge: Bridge, pool: NetworkPool) -> None:
    """Inside there are `lo` and `eth0`, both up, with the leased addresses, one route and no IPv6 but ::1."""
    lease = pool.lease()
    assert lease.ready_ahead
    with lease.entered(), route_socket() as routes:
        links = {link.get("ifname"): link for link in routes.get_links()}
        assert set(links) == {"lo", "eth0"}
        assert all(link["flags"] & 1 for link in links.values())
        assert links["eth0"].get("address") == lease.mac
        addresses = {message.get("address") for message in routes.get_addr()}
        assert addresses == {"127.0.0.1", "::1", str(lease.address.ip)}
        gateways = [message.get("gateway") for message in routes.get_routes(family=socket.AF_INET)]
        assert set(gateways) == {None}
    assert lease.address in bridge.subnet.network
    with route_socket() as routes:
        index = routes.link("get", ifname=bridge.name)[0]["index"]
        assert not list(routes.get_addr(family=socket.AF_INET6, index=index))


def test_the_host_reaches_a_container(pool: NetworkPool) -> None:
    """The host's TCP connections and echo requests are answered from inside."""
    lease = pool.lease()
    with listening(lease, port=80):
        assert connects(None, lease.address.ip, 80, patience=AFTER_SILENCE)
    assert not connects(None, lease.address.ip, 80)
    assert answers_ping(lease.address.ip)


def test_data_passes_both_ways(pool: NetworkPool) -> None:
    """A connection made by the host carries data in and out, closing included."""
    lease = pool.lease()
    with open_socket(lease) as server:
        server.settimeout(AFTER_SILENCE)
        server.bind((str(lease.address.ip), 80))
        server.listen()
        with socket.create_connection((str(lease.address.ip), 80), timeout=AFTER_SILENCE) as client:
            there, _ = server.accept()
            with there:
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                assert there.makefile("rb").read() == b"question"
                there.sendall(b"answer" * 10_000)
            assert client.makefile("rb").read() == b"answer" * 10_000


def test_a_container_does_not_reach_the_hosts_ports(bridge: Bridge, pool: NetworkPool) -> None:
    """Neither by TCP nor by UDP, on no address of the host's; without the filter it would (the control)."""
    lease, gateway = pool.lease(), bridge.subnet.gateway.ip
    with listening(None) as port, listening(None, str(gateway)) as own_port:
        assert connects(None, gateway, port, patience=AFTER_SILENCE)
        assert not connects(lease, gateway, port)
        assert not connects(lease, gateway, own_port)
        assert datagrams(None, lease, gateway) == {b"own"}
        assert firewall.remove(bridge.name)
        assert connects(lease, gateway, port, patience=AFTER_SILENCE)
        assert connects(lease, gateway, own_port, patience=AFTER_SILENCE)
        assert datagrams(None, lease, gateway, patience=AFTER_SILENCE) == {b"theirs", b"own"}


def test_a_route_does_not_help_a_container(bridge: Bridge, pool: NetworkPool) -> None:
    """Even with a default route the metadata address and the host's others do not answer."""
    lease = pool.lease()
    with route_socket() as routes:
        # It goes with the bridge.
        routes.addr("add", index=bridge.index, address=METADATA, prefixlen=32)
    with listening(None, METADATA) as port:
        assert connects(None, METADATA, port, patience=AFTER_SILENCE)
        with open_socket(lease) as client, pytest.raises(OSError, match="unreachable"):
            client.connect((METADATA, port))
        route_through(lease, bridge.subnet.gateway.ip)
        assert not connects(lease, METADATA, port)
        firewall.remove(bridge.name)
        assert connects(lease, METADATA, port, patience=AFTER_SILENCE)


def test_nothing_is_forwarded(journal: Journal, bridge: Bridge, pool: NetworkPool) -> None:
    """From one bridge to another there is no way, by two independent means; without both there is one."""
    with Bridge(journal) as other, NetworkPool(other, 1) as others:
        assert not other.subnet.network.overlaps(bridge.subnet.network)
        near, far = pool.lease(), others.lease()
        route_through(near, bridge.subnet.gateway.ip)
        route_through(far, other.subnet.gateway.ip)
        switches = [Path(f"/proc/sys/net/ipv4/conf/{each.name}/forwarding") for each in (bridge, other)]
        assert [switch.read_text() for switch in switches] == ["0\n", "0\n"]
        with listening(far, port=80):
            for switch in switches:
                switch.write_text("1")
            assert not connects(near, far.address.ip, 80)
            for each in (bridge, other):
                firewall.remove(each.name)
            assert connects(near, far.address.ip, 80, patience=AFTER_SILENCE)
            for switch in switches:
                switch.write_text("0")
            assert not connects(near, far.address.ip, 80)


def test_siblings_do_not_reach_one_another(bridge: Bridge, pool: NetworkPool) -> None:
    """Not by TCP, UDP or ARP; and the ports stay isolated where the packet filter is missing."""
    one, other = pool.lease(), pool.lease()
    with listening(other, port=80):
        assert not connects(one, other.address.ip, 80)
        assert datagrams(other, one, other.address.ip) == {b"own"}
        assert neighbour(one, other.address.ip) is None
        firewall.remove(bridge.name)
        assert not connects(one, other.address.ip, 80)


def test_the_filter_alone_isolates_siblings(bridge: Bridge, pool: NetworkPool) -> None:
    """Where a port is not isolated, the packet filter still keeps containers apart; without it they meet."""
    one, other = pool.lease(), pool.lease()
    with route_socket() as routes:
        for lease in (one, other):
            routes.brport("set", index=socket.if_nametoindex(lease.port), isolated=0)
    with listening(other, port=80):
        assert not connects(one, other.address.ip, 80)
        firewall.remove(bridge.name)
        assert connects(one, other.address.ip, 80, patience=AFTER_SILENCE)


def test_siblings_meet_where_that_is_asked_for(journal: Journal) -> None:
    """With `siblings` containers reach one another by TCP and UDP, the host's ports still not."""
    with Bridge(journal, siblings=True) as bridge, NetworkPool(bridge, 2) as pool:
        assert bridge.qualifiers == {"net": "bridge", "siblings": "reachable"}
        one, other = pool.lease(), pool.lease()
        with listening(other, port=80), listening(None) as port:
            assert connects(one, other.address.ip, 80, patience=AFTER_SILENCE)
            assert neighbour(one, other.address.ip) == other.mac
            arrived = datagrams(other, one, other.address.ip, patience=AFTER_SILENCE)
            assert arrived == {b"theirs", b"own"}
            assert not connects(one, bridge.subnet.gateway.ip, port)


def test_a_port_speaks_for_itself_only(bridge: Bridge, pool: NetworkPool) -> None:
    """Frames with another's MAC address, IP address or ARP claim are dropped; its own come through."""
    lease, victim = pool.lease(), pool.lease()
    gateway = bridge.subnet.gateway.ip
    with route_socket() as routes:
        gateway_mac = routes.link("get", ifname=bridge.name)[0].get("address")
    own = [
        frame(lease.mac, gateway_mac, ETHERTYPE_IP, ip_packet(lease.address.ip, gateway, b"own")),
        frame(
            lease.mac,
            gateway_mac,
            ETHERTYPE_ARP,
            arp_reply(lease.mac, lease.address.ip, gateway_mac, gateway),
        ),
    ]
    forged = [
        frame(lease.mac, gateway_mac, ETHERTYPE_IP, ip_packet(victim.address.ip, gateway, b"ip")),
        frame(victim.mac, gateway_mac, ETHERTYPE_IP, ip_packet(lease.address.ip, gateway, b"mac")),
        frame(victim.mac, gateway_mac, ETHERTYPE_IP, ip_packet(victim.address.ip, gateway, b"both")),
        frame(
            lease.mac,
            gateway_mac,
            ETHERTYPE_ARP,
            arp_reply(lease.mac, victim.address.ip, gateway_mac, gateway),
        ),
        frame(
            lease.mac,
            gateway_mac,
            ETHERTYPE_ARP,
            arp_reply(victim.mac, lease.address.ip, gateway_mac, gateway),
        ),
        frame(lease.mac, gateway_mac, ETHERTYPE_IPV6, ipv6_packet()),
    ]
    assert frames_that_arrive(lease, bridge.name, [*forged, *own]) == own
    firewall.remove(bridge.name)
    assert frames_that_arrive(lease, bridge.name, [*forged, *own]) == [*forged, *own]


@contextlib.contextmanager
def container(spawner: Spawner, lease: Lease, script: str, line: str) -> Iterator[Instance]:
    """A program with a user namespace of its own, all capabilities in it, and a leased network."""
    with reserve() as identity:
        program = Program.compile(
            (
                WaitForMaps(),
                Identity(keep_groups=identity.deny_setgroups),
                DeathSignal(signal.SIGKILL),
                NewSession(),
                *stdio_steps(marking=False),
            ),
            ("/usr/bin/perl", "-MSocket", "-e", f"$| = 1; {script}"),
            {"PATH": os.environ["PATH"]},
            NAMESPACES & ~system_calls.CLONE_NEWNET,
        )

        def start() -> Instance:
            with lease.entered():
                ready = Readiness(marking=False, line=line)
                return launch(spawner, program, ready, PATIENCE, identity=identity)

        instance = spawner.call(start)
        try:
            yield instance
        finally:
            instance.kill()
            instance.release()


SERVER = """
socket(S, PF_INET, SOCK_STREAM, 0) or die;
bind(S, sockaddr_in(80, INADDR_ANY)) or die "bind: $!";
listen(S, 5); print "bound\\n"; sleep 60;
"""


def test_three_containers_have_the_same_port(journal: Journal, pool: NetworkPool) -> None:
    """Port 80 is each container's own, and its root may bind it; the host reaches all three at once."""
    with contextlib.ExitStack() as stack:
        spawner = stack.enter_context(Spawner(journal))
        leases = [pool.lease() for _ in range(3)]
        for lease in leases:
            stack.enter_context(container(spawner, lease, SERVER, "bound"))
        assert all(connects(None, lease.address.ip, 80, patience=AFTER_SILENCE) for lease in leases)
        place = spawner.call(lambda: Path("/proc/thread-self/ns/net").readlink())
        assert place == Path("/proc/self/ns/net").readlink()


def test_a_containers_root_has_no_power_over_its_network(journal: Journal, pool: NetworkPool) -> None:
    """With every capability in its own user namespace it cannot change links, routes, filters or settings."""
    script = r"""
        sub attempt { my $said = `{ @_; } 2>&1`; print $? ? "refused: @_\n" : "done: @_\n" }
        attempt("ip link show eth0");
        attempt("ip link set eth0 down");
        attempt("ip addr add 10.1.2.3/24 dev eth0");
        attempt("ip route add default dev eth0");
        attempt("nft add table inet own");
        attempt("echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start");
        print socket(S, PF_INET, SOCK_RAW, 1) ? "done" : "refused", ": raw socket\n";
        print "end\n"; sleep 60;
    """
    with Spawner(journal) as spawner, container(spawner, pool.lease(), script, "end") as instance:
        lines = instance.tail.text.splitlines()
    assert lines[0] == "done: ip link show eth0"
    assert [line.partition(":")[0] for line in lines[1:]] == ["refused"] * 6 + ["end"], lines


def test_a_network_is_never_used_twice(pool: NetworkPool) -> None:
    """What is given back is closed; the next lease is another namespace, and the pool is full again."""
    first = pool.lease()
    place = os.fstat(first.namespace).st_ino
    pool.release(first)
    pool.release(first)
    pool.settle()
    leases = [pool.lease() for _ in range(3)]
    assert all(lease.ready_ahead for lease in leases)
    assert first.address not in {lease.address for lease in leases}
    assert place not in {os.fstat(lease.namespace).st_ino for lease in leases} - {place}
    late = pool.lease()
    assert not late.ready_ahead
    assert late.address not in {lease.address for lease in leases}


def test_places_are_used_again_when_all_were(journal: Journal) -> None:
    """A bridge with few addresses serves any number of containers one after the other, but few at once."""
    with (
        Bridge(journal, addresses=IPv4Network("10.213.255.240/29")) as bridge,
        NetworkPool(bridge, 1) as pool,
    ):
        seen = set()
        for _ in range(8):
            lease = pool.lease()
            seen.add(lease.address)
            pool.release(lease)
            pool.settle()
        assert len(seen) == 5
        leases = [pool.lease() for _ in range(5)]
        with pytest.raises(HostError, match="all 5 places"):
            pool.lease()
        assert len({lease.address for lease in leases}) == 5


def test_a_survivor_is_reported(journal: Journal, bridge: Bridge) -> None:
    """A process that still lives in a network when the pool is closed is an error, not a leftover unseen."""
    with contextlib.ExitStack() as survivors:
        pool = NetworkPool(bridge, 1, patience=0.2).__enter__()
        with pool.lease().entered():
            sleeper = survivors.enter_context(subprocess.Popen(["/bin/sleep", "60"]))
        survivors.callback(sleeper.kill)
        with pytest.raises(LeftoverError, match="still in use"):
            pool.__exit__(None, None, None)
        assert [entry.kind for entry in journal.entries] == ["nftables", "link"]


def test_connections_that_were_cut_do_not_keep_a_network(journal: Journal) -> None:
    """What a dead process had still to send holds its network for seconds, not for the kernel's minutes."""
    with Bridge(journal, siblings=True) as bridge, NetworkPool(bridge, 2, patience=PATIENCE) as pool:
        one, other = pool.lease(), pool.lease()
        with listening(other, port=80), open_socket(one) as client:
            client.settimeout(AFTER_SILENCE)
            client.connect((str(other.address.ip), 80))
            with route_socket() as routes:
                routes.link("set", index=socket.if_nametoindex(other.port), state="down")
            client.send(b"never acknowledged")


def test_entering_a_namespace_ends_with_the_block() -> None:
    """The thread is back where it was, also after an error, and the namespace was another."""
    host = Path("/proc/thread-self/ns/net").readlink()
    namespace = new_namespace()
    try:
        assert Path("/proc/thread-self/ns/net").readlink() == host
        with contextlib.suppress(ZeroDivisionError), entered(namespace):
            assert Path("/proc/thread-self/ns/net").readlink() != host
            _ = 1 // 0
        assert Path("/proc/thread-self/ns/net").readlink() == host
    finally:
        os.close(namespace)


def test_without_nftables_it_says_so(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose nft refuses gets a bridge that is marked as open, with the reason."""
    refusing = tmp_path / "nft"
    refusing.write_text(
        '#!/bin/sh\ncase "$*" in *list*) echo \'{"nftables": []}\' ;; *) echo no >&2; exit 1; esac\n'
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Bridge(journal) as bridge:
        assert bridge.qualifiers == {"net": "bridge", "firewall": "without inet, bridge"}
        assert bridge.missing["inet"] == "nftables refuses: no"


def test_a_killed_harness_leaves_nothing_after_cleaning(tmp_path: Path) -> None:
    """After SIGKILL the removers take away bridge and filter, even while a process lives on in a network."""
    script = textwrap.dedent(
        """
        import subprocess, sys, time
        from pathlib import Path
        from pybench.runtime.container.network.bridge import Bridge
        from pybench.runtime.container.network.pool import NetworkPool
        from pybench.runtime.journal import open_journal

        with open_journal(Path(sys.argv[1])) as journal, Bridge(journal) as bridge:
            with NetworkPool(bridge, 2) as pool:
                with pool.lease().entered():
                    survivor = subprocess.Popen(["/bin/sleep", "60"])
                print(bridge.name, survivor.pid, flush=True)
                time.sleep(60)
        """
    )
    harness = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert harness.stdout is not None
    with harness.stdout:
        assert select.select([harness.stdout], [], [], PATIENCE)[0]
        name, pid = harness.stdout.readline().split()
    survivor = os.pidfd_open(int(pid))
    try:
        harness.kill()
        harness.wait()
        (path,) = journals(tmp_path)
        assert name in _bridges()
        assert firewall.tables(name) == ("inet", "bridge")
        with take_abandoned(path) as entries:
            assert entries is not None
            done = [REMOVERS[entry.kind](entry.details) for entry in entries]
            again = [REMOVERS[entry.kind](entry.details) for entry in entries]
    finally:
        signal.pidfd_send_signal(survivor, signal.SIGKILL)
        os.close(survivor)
    assert done == [f"removed bridge {name}", f"removed nftables table {name}"]
    assert again == ["", ""]
    assert not _bridges(name)
    assert firewall.tables(name) == ()


def _bridges(prefix: str = "pyb") -> list[str]:
    with route_socket() as routes:
        return [link for link in link_names(routes) if link.startswith(prefix)]


@pytest.mark.parametrize("name", ["eth0", "pyb", "pyb123456a-2", "pyb12345ga", "docker0"])
def test_the_removers_touch_nothing_of_others(name: str) -> None:
    """A journal entry with a name that pybench does not give is refused."""
    with pytest.raises(LeftoverError, match="no name that pybench gives"):
        REMOVERS["link"]({"name": name})
    with pytest.raises(LeftoverError, match="no name that pybench gives"):
        REMOVERS["nftables"]({"table": name})


def test_a_published_port_leads_inside(pool: NetworkPool) -> None:
    """A port of 127.0.0.1 carries data to the container and back, until it is withdrawn."""
    lease = pool.lease()
    with open_socket(lease) as server, PublishedPorts() as published:
        server.settimeout(AFTER_SILENCE)
        server.bind(("0.0.0.0", 80))  # noqa: S104
        server.listen()
        port = published.publish(lease.address.ip, 80)
        with socket.create_connection(("127.0.0.1", port), timeout=AFTER_SILENCE) as client:
            there, _ = server.accept()
            with there:
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                assert there.makefile("rb").read() == b"question"
                there.sendall(b"answer" * 100_000)
            assert client.makefile("rb").read() == b"answer" * 100_000
        with pytest.raises(HostError, match="cannot publish port 80"):
            published.publish(lease.address.ip, 80, host_port=port)
        published.withdraw(port)
        assert not connects(None, "127.0.0.1", port)


def test_a_published_port_nobody_serves_hangs_up(pool: NetworkPool) -> None:
    """A client is told by the end of its connection; so is one that is open when publishing ends."""
    lease = pool.lease()
    with open_socket(lease) as server:
        with PublishedPorts() as published:
            port = published.publish(lease.address.ip, TEST_PORT)
            with socket.create_connection(("127.0.0.1", port), timeout=AFTER_SILENCE) as client:
                assert client.recv(1) == b""
            server.settimeout(AFTER_SILENCE)
            server.bind(("0.0.0.0", TEST_PORT))  # noqa: S104
            server.listen()
            idle = socket.create_connection(("127.0.0.1", port), timeout=AFTER_SILENCE)
            there, _ = server.accept()
        with idle, there:
            assert idle.recv(1) == b""
            assert there.recv(1) == b""


def test_what_a_lease_costs(bridge: Bridge, capsys: pytest.CaptureFixture[str]) -> None:
    """Taking and entering a ready network is far below what making one takes."""
    with NetworkPool(bridge, 20) as pool:
        taken, made = [], []
        for _ in range(20):
            began = time.perf_counter()
            with pool.lease().entered():
                pass
            taken.append(time.perf_counter() - began)
        for _ in range(10):
            began = time.perf_counter()
            assert not pool.lease().ready_ahead
            made.append(time.perf_counter() - began)
    with capsys.disabled():
        print(f"\nlease and enter {min(taken) * 1e6:.0f} µs, making one {min(made) * 1e3:.1f} ms")  # noqa: T201
    # The quickest of each: a busy host delays any.
    assert min(taken) < min(made) / 5
