"""What libvirt and the harness add to QEMU: the same guest started by hand and by the runtime, in turns."""

from __future__ import annotations

import os
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybench.runtime.journal import open_journal
from pybench.runtime.vm.channels import LINES
from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.runtime.vm.connection import EMULATOR, Connection, open_connection
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.progress import MachineSpec
from pybench.runtime.vm.workload import GuestWorkload, write_initramfs
from pybench.vm_images import build

PAIRS = int(os.environ.get("PYBENCH_VM_PAIRS", "5"))
LIMIT = 1.15
RESTORE_LIMIT = 0.45 / 2.2
"""Of a boot's time in the same run: the limits of both on a quiet reference host, in seconds."""
TIMEOUT = 60.0
COMMAND = ("/bin/workload", "ready")


@pytest.fixture
def connection() -> Iterator[Connection]:
    """An embedded driver for the comparison."""
    with open_journal() as journal, open_connection(journal) as opened:
        yield opened


def specify(connection: Connection) -> MachineSpec:
    """A guest of the image `minimal` that prints one line."""
    image = build("minimal", progress=lambda _text: None)
    initramfs = connection.directory / "startup.cpio"
    write_initramfs(image.initramfs, GuestWorkload(COMMAND, marking=True), initramfs)
    return MachineSpec(
        kernel=image.kernel,
        initramfs=initramfs,
        command_line=COMMAND_LINE,
        memory=256 << 20,
        marking=True,
        line="ready",
    )


def by_hand(spec: MachineSpec, directory: Path) -> float:
    """Seconds from starting QEMU itself to the workload's line."""
    listeners = {}
    arguments = [EMULATOR, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += [
        "-machine",
        spec.machine,
        "-accel",
        spec.acceleration,
        "-m",
        f"{spec.memory >> 20}M",
        "-smp",
        "1",
    ]
    arguments += ["-kernel", str(spec.kernel), "-initrd", str(spec.initramfs), "-append", spec.command_line]
    for name in LINES:
        listener = socket.socket(socket.AF_UNIX)
        path = directory / name
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        listeners[name] = listener
        arguments += ["-chardev", f"socket,id={name},path={path}", "-serial", f"chardev:{name}"]
    started = time.monotonic()
    with subprocess.Popen(arguments) as emulator:
        try:
            lines = {name: listener.accept()[0] for name, listener in listeners.items()}
            poll = select.poll()
            poll.register(lines["output"], select.POLLIN)
            output = b""
            while not output.endswith(b"ready\n"):
                assert poll.poll(TIMEOUT * 1e3), "the guest started by hand never got ready"
                output += lines["output"].recv(4096)
            return time.monotonic() - started
        finally:
            emulator.kill()
            for opened in (*lines.values(), *listeners.values()):
                opened.close()


def by_libvirt(spec: MachineSpec, connection: Connection) -> dict[str, float]:
    """Seconds from the request to each mark."""
    machine = VirtualMachine(connection, spec)
    machine.start(TIMEOUT)
    request = machine.marks[1].at
    machine.stop(5)
    return {mark.name: (mark.at - request) / 1e9 for mark in machine.marks}


def test_libvirt_adds_at_most_a_seventh_to_bare_qemu(connection: Connection, tmp_path: Path) -> None:
    """Request to ready through libvirt takes at most 1.15 times what QEMU started by hand takes (p50)."""
    spec = specify(connection)
    bare, ours = [], []
    for pair in range(PAIRS):
        # The order flips, so that a drift of the host hits both alike.
        for libvirt in (False, True) if pair % 2 else (True, False):
            if libvirt:
                ours.append(by_libvirt(spec, connection))
            else:
                bare.append(by_hand(spec, tmp_path))
    ready = statistics.median(marks["ready"] for marks in ours)
    created = statistics.median(marks["vmm"] for marks in ours)
    ratio = ready / statistics.median(bare)
    print(f"\nbare QEMU {statistics.median(bare):.3f} s ({min(bare):.3f} to {max(bare):.3f})")
    for name in ours[0]:
        values = [marks[name] for marks in ours]
        print(f"{name:<9} {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})")
    print(f"ready / bare QEMU {ratio:.3f}")
    assert ratio <= LIMIT, (
        f"ready after {ready:.2f} s, {ratio:.2f} times bare QEMU; createXML took {created:.2f} s"
    )


def test_restored_guest_is_ready_in_a_fifth_of_a_boot(connection: Connection) -> None:
    """Request to ready of a restored guest, its new identity included, against a boot's, in turns (p50)."""
    spec = specify(connection)
    saved = VirtualMachine(connection, spec)
    saved.start(TIMEOUT)
    state = saved.save(connection.directory / "saved", TIMEOUT)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(PAIRS):
        for restored in (False, True) if pair % 2 else (True, False):
            machine = VirtualMachine(connection, spec, state if restored else None)
            machine.start(TIMEOUT)
            seconds[restored].append((machine.marks[-1].at - machine.marks[1].at) / 1e9)
            machine.stop(5)
    boot, restore = statistics.median(seconds[False]), statistics.median(seconds[True])
    print(f"\nboot {boot:.3f} s, restored {restore:.3f} s, ratio {restore / boot:.3f}")
    assert restore / boot <= RESTORE_LIMIT
