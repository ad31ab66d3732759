"""Networks of guests: a place on the bridge of the containers, QEMU's own, or none."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_modules import write_with_modules
from patience import PATIENCE
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT, WORKLOAD, Guests

from pybench.harness.errors import InputError
from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.answer import RefusedError, ask
from pybench.harness.targets.vm import VmInstance
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.errors import InstanceError
from pybench.runtime.journal import Journal, open_journal
from pybench.runtime.vm.connection import open_connection
from pybench.runtime.vm.identity import Identity
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.network import TapNetwork, random_link_address, user_network
from pybench.runtime.workload_files import WorkloadFile
from pybench.vm_images import Image

PORT = 8080
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make taps and bridges")


@pytest.fixture(scope="module")
def guests(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """Machines of an image whose kernel has a driver for network cards."""
    folder = tmp_path_factory.mktemp("network")
    write_with_modules(image, folder / "virtio.cpio", ("virtio_pci", "virtio_net"))
    with open_journal() as journal, open_connection(journal) as connection:
        made = Guests(connection, image, base=folder / "virtio.cpio")
        yield made
        assert made.traces() == []


def with_initramfs(image: Image, guests: Guests, folder: Path) -> Image:
    """The image with the initramfs of these guests, whose kernel has its drivers."""
    assert guests.base is not None
    folder.mkdir()
    for path in image.folder.iterdir():
        (folder / path.name).symlink_to(guests.base if path.name == image.FILES["initramfs"] else path)
    return dataclasses.replace(image, folder=folder)


def serve(machine: VirtualMachine) -> threading.Thread:
    """Have the guest answer one connection on PORT."""
    command = ["sh", "-c", f"echo listening; echo from $(hostname) | nc -l -p {PORT}"]
    thread = threading.Thread(target=machine.execute, args=(command,), kwargs={"timeout": 5 * PATIENCE})
    thread.start()
    return thread


def read_from(address: str) -> str:
    """What a guest says on PORT, once it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection((address, PORT), timeout=PATIENCE) as connection:
                return connection.makefile().read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_guests_on_the_bridge_reach_the_host_only_when_asked(guests: Guests, journal: Journal) -> None:
    """The host reaches a guest at its address; a sibling does not, and neither does the guest the host."""
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(Bridge(journal))
        taps = stack.enter_context(TapNetwork(bridge))
        networks = [taps.lease(), taps.lease()]
        assert len({network.interface.tap for network in networks}) == 2
        machines = []
        for network in networks:
            machine = guests.make(WORKLOAD, "ready", line="ready", network=network)
            machine.start(BOOT_TIMEOUT)
            stack.callback(machine.stop, STOP_TIMEOUT)
            machines.append(machine)
        address = str(networks[0].address.ip)
        shown = machines[0].execute(["ip", "address", "show", "eth0"]).output.decode()
        assert str(networks[0].address) in shown
        assert networks[0].interface.hardware_address in shown
        server = serve(machines[0])
        sibling = machines[1].execute(["nc", "-w", "1", address, str(PORT)], timeout=PATIENCE)
        assert sibling.status != 0
        assert sibling.output == b""
        host = machines[1].execute(["nc", "-w", "1", str(bridge.subnet.gateway.ip), "22"], timeout=PATIENCE)
        assert host.status != 0
        assert read_from(address) == "from guest\n"
        server.join()
        for machine, network in zip(machines, networks, strict=True):
            machine.stop(STOP_TIMEOUT)
            taps.release(network)
            taps.release(network)
    assert not any(Path("/sys/class/net", network.interface.tap).exists() for network in networks)


def serve_pages(machine: VirtualMachine) -> None:
    """Answer requests in the guest until it ends."""
    with contextlib.suppress(InstanceError):
        machine.execute(["/bin/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/"], timeout=600)


def await_forwarded_answer(machine: VirtualMachine) -> threading.Thread:
    """What QEMU accepts for a guest that does not listen is no answer; what the guest says is one."""
    readiness = Readiness("http", port=PORT, path="/none", status=404)
    forwarded = machine.forward(PORT)
    with pytest.raises(RefusedError):
        ask(dataclasses.replace(readiness, port=forwarded), "127.0.0.1")
    server = threading.Thread(target=serve_pages, args=(machine,))
    server.start()
    VmInstance(machine, {}, contextlib.ExitStack()).await_answer(readiness, 5 * BOOT_TIMEOUT)
    assert machine.marks[-1].channel == "http-answer"
    return server


def test_user_network_goes_outwards_also_after_a_restore(guests: Guests, tmp_path: Path) -> None:
    """QEMU's own network reaches a server on this host; a restored guest has an address of its own."""
    machine = guests.make(WORKLOAD, "ready", line="ready", network=user_network())
    machine.start(BOOT_TIMEOUT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"from the host\n")

        thread = threading.Thread(target=answer)
        thread.start()
        got = machine.execute(["nc", "10.0.2.2", str(port)], timeout=PATIENCE)
        thread.join()
    assert got.output == b"from the host\n"
    state = machine.save(tmp_path / "state", PATIENCE)
    assert machine.spec.interface is not None
    card = dataclasses.replace(machine.spec.interface, hardware_address=random_link_address())
    spec = dataclasses.replace(machine.spec, interface=card)
    identity = Identity.fresh("sibling", card.hardware_address)
    restored = VirtualMachine(guests.connection, spec, state, identity)
    guests.made.append(restored)
    restored.start(BOOT_TIMEOUT)
    shown = restored.execute(["cat", "/sys/class/net/eth0/address"]).output.decode().strip()
    answering = await_forwarded_answer(restored)
    restored.stop(STOP_TIMEOUT)
    answering.join()
    assert shown == card.hardware_address != machine.spec.interface.hardware_address


def test_restored_guests_answer_each_at_its_own_address(
    guests: Guests, image: Image, journal: Journal, tmp_path: Path
) -> None:
    """Two guests of one state have places of their own on the bridge, and are asked there."""
    workload = Workload(
        "page",
        image.name,
        ("/bin/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/"),
        readiness=Readiness("http", port=PORT, path="/page", status=200),
        files=(WorkloadFile("/page", b"hello", 0o644),),
    )
    target = open_target(
        TargetChoice("vm-restore", "vm-restore", 1, {"network": "bridge", "accel": "tcg"}),
        TargetContext(journal, tmp_path),
    )
    with contextlib.ExitStack() as stack:
        stack.callback(target.cleanup)
        target.prepare(workload, with_initramfs(image, guests, tmp_path / "image"))
        siblings = []
        for _ in range(2):
            sibling = target.launch(BOOT_TIMEOUT)
            stack.callback(sibling.stop, STOP_TIMEOUT)
            assert isinstance(sibling, VmInstance)
            siblings.append(sibling)
        cards = [each.machine.spec.interface for each in siblings]
        for sibling, card in zip(siblings, cards, strict=True):
            assert sibling.marks[-1].channel == "http-answer"
            shown = sibling.machine.execute(["ip", "address", "show", "eth0"]).output.decode()
            assert card is not None
            assert f"{sibling.address}/" in shown
            assert card.hardware_address in shown
            with urllib.request.urlopen(f"http://{sibling.address}:{PORT}/page", timeout=PATIENCE) as answer:
                assert answer.read() == b"hello"
        assert len({sibling.address for sibling in siblings}) == len(set(cards)) == 2
    assert not any(Path("/sys/class/net", card.tap).exists() for card in cards if card)


def test_network_without_a_driver_is_refused(image: Image, journal: Journal, tmp_path: Path) -> None:
    """An image whose kernel cannot drive a card is bad input, said before anything is started."""
    for kind, network in (("vm", "bridge"), ("vm-restore", "user")):
        target = open_target(
            TargetChoice(kind, kind, 1, {"network": network, "accel": "tcg"}),
            TargetContext(journal, tmp_path),
        )
        with pytest.raises(InputError, match="no driver for a network card"):
            target.prepare(Workload("x", "minimal", (WORKLOAD, "ready")), image)
        target.cleanup()
