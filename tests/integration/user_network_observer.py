"""Run as a program by test_user_network: gives up root, and says what a user's network looks like.

Arguments: the program's name, its path, and `device` if users may open /dev/net/tun. Prints JSON.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pybench.runtime.container import system_calls
from pybench.runtime.container.network.links import route_socket
from pybench.runtime.container.network.user_network import UserNetwork, detect_user_network
from pybench.runtime.errors import PybenchError
from pybench.runtime.journal import open_journal

NOBODY = 65534
CONNECT = r"""perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr => shift, PeerPort => shift,
    Timeout => 2) ? "yes\n" : "no\n"' {address} {port}
"""
SERVE = r"""perl -MIO::Socket::INET -e '$| = 1; alarm 120;
    $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
    print "listening\n"; $c = $s->accept; print $c "hello\n"; close $c'
"""
ROUTES = "wc -l < /proc/net/route\n"
GATEWAY = r"""perl -ane 'print join(".", reverse map hex, $F[2] =~ /../g), "\n" if $F[1] eq "0" x 8' \
    /proc/net/route
"""


def have_a_host_of_our_own() -> None:
    """Move into a network namespace that looks like a host's, with an uplink that leads nowhere."""
    system_calls.unshare(system_calls.CLONE_NEWNET)
    with route_socket() as routes:
        routes.link("add", ifname="uplink", kind="veth", peer={"ifname": "nowhere"})
        for name in ("lo", "uplink", "nowhere"):
            routes.link("set", index=socket.if_nametoindex(name), state="up")
        index = socket.if_nametoindex("uplink")
        routes.addr("add", index=index, address="198.51.100.2", prefixlen=24)
        routes.route("add", dst="default", gateway="198.51.100.1")


def become_nobody(with_device: bool) -> None:
    """Leave root behind, in a mount namespace whose device for taps is as on a usual host, or unusable."""
    system_calls.unshare(system_calls.CLONE_FS | system_calls.CLONE_NEWNS)
    system_calls.mount_setattr(
        system_calls.AT_FDCWD, "/", propagation=system_calls.MS_PRIVATE, recursive=True
    )
    context = system_calls.fsopen("tmpfs")
    system_calls.fsconfig(context, "mode", "755")
    system_calls.fsconfig(context)
    mount = system_calls.fsmount(context, 0)
    system_calls.move_mount(mount, "/dev/net")
    os.close(context)
    os.close(mount)
    device = Path("/dev/net/tun")
    os.mknod(device, stat.S_IFCHR, os.makedev(10, 200))
    device.chmod(0o666 if with_device else 0o600)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def ask(shell: subprocess.Popen[str], command: str) -> str:
    """The line that a command prints inside."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(command)
    shell.stdin.flush()
    return shell.stdout.readline().strip()


def free_port() -> int:
    """A port of the loopback address that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def observe(network: UserNetwork, directory: Path) -> dict[str, Any]:
    """What a shell in namespaces of its own sees, and what is journalled."""
    seen: dict[str, Any] = {}
    command = ["unshare", "--user", "--map-root-user", "--net", "sh"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell,
        socket.create_server(("127.0.0.1", 0)) as host,
        open_journal(directory) as journal,
    ):
        # Its answer tells as well that the namespaces are there.
        seen["routes before"] = int(ask(shell, ROUTES))
        port = free_port()
        ports = {port: 80} if network.name == "pasta" else {}
        with network.attached(journal, shell.pid, ports):
            seen["journalled"] = sorted(entry.kind for entry in journal.entries)
            seen["routes"] = int(ask(shell, ROUTES))
            host_port = host.getsockname()[1]
            seen["host"] = [
                ask(shell, CONNECT.format(address=address, port=host_port))
                for address in ("127.0.0.1", ask(shell, GATEWAY))
            ]
            if ports:
                seen["server"] = ask(shell, SERVE)
                with socket.socket() as client:
                    client.settimeout(120)
                    client.connect(("127.0.0.1", port))
                    seen["published"] = client.makefile().read()
        seen["left"] = len(journal.entries)
        try:
            with network.attached(journal, os.getpid(), {port: 80}):
                seen["refused"] = "nothing"
        except PybenchError as error:
            seen["refused"] = f"{type(error).__name__}: {error.message}"
    return seen


def main() -> None:
    """Observe and print."""
    name, program, device = sys.argv[1:]
    have_a_host_of_our_own()
    become_nobody(device == "device")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        found = detect_user_network()
        answer: dict[str, Any] = {"found": found.name if found else None}
        if found:
            network = UserNetwork(name, program)
            answer.update(observe(network, Path(directory)), qualifiers=network.qualifiers)
        answer["files"] = [str(path) for path in Path(directory).rglob("*") if not path.is_dir()]
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
