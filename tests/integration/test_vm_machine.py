"""Virtual machines through the real libvirt and QEMU."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT, WORKLOAD, Guests

from pybench.runtime.errors import InstanceError
from pybench.runtime.output import TAIL_BYTES
from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.runtime.vm.machine import VirtualMachine


class Ended:
    """Waits for the end of a process, which need not be a child."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def wait(self) -> None:
        """Return once it has ended; fail if it does not."""
        assert select.select([self._descriptor], [], [], BOOT_TIMEOUT)[0]

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


@contextlib.contextmanager
def signalled(machine: VirtualMachine, number: signal.Signals) -> Iterator[None]:
    """Send a machine's QEMU a signal as soon as there is one, unless the block ends before."""
    over = threading.Event()

    def send() -> None:
        while not (found := machine.processes):
            if over.wait(0.001):
                return
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[0], number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_marks_are_in_order_and_name_their_channels(guests: Guests) -> None:
    """From request to stopped each mark comes after the one before, each over its own channel."""
    with guests.running(WORKLOAD, "ready", line="ready") as machine:
        assert machine.processes
    names = [mark.name for mark in machine.marks]
    instants = [mark.at for mark in machine.marks]
    channels = {mark.name: mark.channel for mark in machine.marks}
    assert names == [
        "preparing",
        "request",
        "vmm",
        "kernel",
        "sandbox",
        "exec",
        "ready",
        "stopping",
        "stopped",
    ]
    assert instants == sorted(instants)
    assert channels["vmm"] == "libvirt-call"
    assert channels["exec"] == "isa-serial"
    assert channels["stopped"] == "pidfd"
    assert machine.output == "ready\n"
    assert machine.processes == ()


def test_guest_is_unprivileged_and_limited(guests: Guests) -> None:
    """A command that cannot mark starts without capabilities, limited, on a host of its own name."""
    script = (
        "hostname; grep -E 'Cap|NoNewPrivs' /proc/self/status; cat /proc/self/cgroup;"
        "cat /sys/fs/cgroup/workload/pids.max; ip -o address show lo | grep -q 127.0.0.1 && echo loopback;"
        "echo done; exec sleep 1000"
    )
    with guests.running("/bin/sh", "-c", script, line="done", limits={"pids.max": "17"}) as machine:
        lines = machine.output.splitlines()
    assert lines[0] == "guest"
    assert {line[-16:] for line in lines if line.startswith("Cap")} == {"0" * 16}
    assert ["NoNewPrivs:", "1"] in [line.replace("\\t", " ").split() for line in lines]
    assert {"0::/workload", "17", "loopback"} <= set(lines)
    assert next(mark.channel for mark in machine.marks if mark.name == "exec") == "isa-serial:execve"
    assert machine.exit_status == "signal 15"


def test_guest_has_no_device_it_does_not_need(guests: Guests) -> None:
    """Its bus has the chipset's two bridges and no more; the timer that its clock is checked by is there."""
    clocks = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
    with guests.running(WORKLOAD, "ready", line="ready") as machine:
        devices = machine.execute(
            ["cat", *(f"/sys/bus/pci/devices/0000:00:{at}/class" for at in ("00.0", "1f.0"))]
        )
        count = machine.execute(["ls", "/sys/bus/pci/devices"]).output.split()
        available = machine.execute(["cat", clocks]).output.split()
        (pid,) = machine.processes
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert devices.output.split() == [b"0x060000", b"0x060100"]  # PCI's classes: host bridge, ISA bridge
    assert len(count) == 2
    assert b"hpet" in available
    assert b"G_SLICE=always-malloc" in environment


def test_locked_down_kernel_marks_through_its_driver(guests: Guests) -> None:
    """Where the kernel refuses the port to init, the first mark takes the driver's way, and says so."""
    machine = guests.make(WORKLOAD, "exit", "0", command_line=f"{COMMAND_LINE} lockdown=integrity")
    machine.start(BOOT_TIMEOUT)
    machine.stop(STOP_TIMEOUT)
    assert next(mark.channel for mark in machine.marks if mark.name == "kernel") == "isa-serial:tty"


def test_exit_status_is_forwarded(guests: Guests) -> None:
    """A workload that ends by itself switches the guest off and leaves its status."""
    with guests.running(WORKLOAD, "exit", "3") as machine:
        pass
    assert machine.exit_status == "exit 3"


def test_stubborn_workload_is_killed_after_the_grace(guests: Guests) -> None:
    """A workload that ignores the request to stop does not outlive the grace."""
    script = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    machine = guests.make("/bin/sh", "-c", script, line="deaf")
    machine.start(BOOT_TIMEOUT)
    machine.stop(0.3)
    stopping, stopped = machine.marks[-2:]
    assert (stopped.at - stopping.at) / 1e9 >= 0.3
    machine.stop(0.3)
    assert machine.marks[-1] == stopped


def test_flood_is_bounded_and_does_not_block(guests: Guests) -> None:
    """Output without end is read, kept within bounds, and does not keep the guest from stopping."""
    with guests.running(WORKLOAD, "flood") as machine:
        time.sleep(0.3)
    assert machine.exit_status
    assert len(machine.output) <= TAIL_BYTES


def test_never_ready_reports_what_was_printed(guests: Guests) -> None:
    """A workload that never prints its line fails after the timeout, with its output in the log."""
    # A busy host may not get as far as the workload in a short time: it is given ever more.
    for patience in (4, 12, 60):
        machine = guests.make("/bin/sh", "-c", "echo one line; sleep 1000", line="never")
        with pytest.raises(InstanceError, match=f"not ready after {patience} s") as caught:
            machine.start(patience)
        if "one line" in caught.value.log:
            break
    assert re.search(r"not ready after \d+ s: .*'never'", caught.value.message)
    assert "one line" in caught.value.log


def test_end_before_ready_is_told_with_its_status(guests: Guests) -> None:
    """A workload that ends before its line appears is reported at once, with the exit code."""
    machine = guests.make("/bin/sh", "-c", "echo oops; exit 7", line="never")
    with pytest.raises(InstanceError, match="exit code 7") as caught:
        machine.start(BOOT_TIMEOUT)
    assert "oops" in caught.value.log


def test_command_that_cannot_start_is_told(guests: Guests) -> None:
    """Init says which system call failed on what."""
    machine = guests.make("/bin/nothing")
    with pytest.raises(InstanceError, match=r"execve /bin/nothing: No such file"):
        machine.start(BOOT_TIMEOUT)


def test_panic_is_recognised(guests: Guests) -> None:
    """A kernel without an init panics; the console's words are in the error."""
    machine = guests.make(
        WORKLOAD, "ready", command_line="console=ttyS0 quiet rdinit=/none panic=-1 root=none"
    )
    with pytest.raises(InstanceError, match="kernel panicked") as caught:
        machine.start(BOOT_TIMEOUT)
    assert "Kernel panic" in caught.value.log


def test_killed_emulator_is_recognised_while_booting(guests: Guests) -> None:
    """QEMU killed from outside during the boot fails the start at once."""
    machine = guests.make(WORKLOAD, "ready")

    with signalled(machine, signal.SIGKILL), pytest.raises(InstanceError, match="QEMU ended"):
        machine.start(BOOT_TIMEOUT)


def test_machine_libvirt_does_not_know_is_refused(guests: Guests) -> None:
    """What libvirt says about an impossible machine is in the error."""
    machine = guests.make(WORKLOAD, "ready", machine="nonsense")
    with pytest.raises(InstanceError, match="nonsense"):
        machine.start(BOOT_TIMEOUT)


def test_emulator_that_stands_still_cannot_hold_libvirt(guests: Guests) -> None:
    """Libvirt waits for ever for a QEMU that does not answer; the start fails in time all the same."""
    machine = guests.make(WORKLOAD, "ready")

    message = "not ready after 1 s: the guest's init did not start"
    with signalled(machine, signal.SIGSTOP), pytest.raises(InstanceError, match=message):
        machine.start(1)


def test_guest_that_hangs_is_told_and_killed(guests: Guests) -> None:
    """A guest whose processor stands still after it was ready is a fault, with the console in the log."""
    machine = guests.make(WORKLOAD, "ready", command_line=COMMAND_LINE.replace("quiet", ""))
    machine.start(BOOT_TIMEOUT)
    assert machine.fault == ""
    (pid,) = machine.processes
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(InstanceError, match="the guest hung: init did not answer within 1 s") as caught:
        machine.stop(1)
    assert "Run /.pybench/init" in caught.value.log
    assert machine.marks[-1].name == "stopped"
    machine.stop(1)


def test_emulator_killed_while_it_ran_is_told(guests: Guests) -> None:
    """QEMU killed from outside after the guest was ready is a fault, and everything else is cleaned up."""
    machine = guests.make(WORKLOAD, "ready")
    machine.start(BOOT_TIMEOUT)
    (pid,) = machine.processes
    with contextlib.closing(Ended(pid)) as ended:
        os.kill(pid, signal.SIGKILL)
        ended.wait()
    with pytest.raises(InstanceError, match="after it was ready, QEMU ended: killed from outside"):
        machine.stop(STOP_TIMEOUT)


def test_panic_while_it_ran_is_told(guests: Guests) -> None:
    """A kernel that panics after the guest was ready is recognised by the console's last lines."""
    script = "echo running; sleep 2; echo c > /proc/sysrq-trigger; sleep 100"
    machine = guests.make("/bin/sh", "-c", script, line="running")
    machine.start(BOOT_TIMEOUT)
    (pid,) = machine.processes
    with contextlib.closing(Ended(pid)) as ended:
        ended.wait()
    with pytest.raises(InstanceError, match="the guest's kernel panicked: Kernel panic") as caught:
        machine.stop(STOP_TIMEOUT)
    assert re.search(r"\w\+0x[0-9a-f]+/0x[0-9a-f]+", caught.value.log)  # one frame of the trace
