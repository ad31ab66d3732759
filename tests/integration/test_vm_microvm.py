"""QEMU's machine without PCI and ACPI, through the real libvirt, with the distribution's kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vm_guests import BOOT_TIMEOUT, WORKLOAD, Guests

from pybench.harness.errors import InputError
from pybench.harness.model import Resources, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.errors import InstanceError
from pybench.runtime.journal import Journal
from pybench.runtime.vm.command_line import command_line
from pybench.runtime.vm.counter import counter_frequency
from pybench.runtime.vm.domain import MICROVM
from pybench.vm_images import Image

TOLD = command_line("tcg", MICROVM)


pytestmark = pytest.mark.skipif(
    counter_frequency() is None,
    reason="this host's kernel does not vouch for the processor's counter, so the guest has no clock",
)


def test_it_becomes_ready_and_ends_when_told(guests: Guests) -> None:
    """Without a bus of PCI, by a clock that its kernel trusts; it answers commands, and ends by itself."""
    machine = guests.make(WORKLOAD, "ready", line="ready", machine=MICROVM, command_line=TOLD)
    machine.start(BOOT_TIMEOUT)
    try:
        clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        answer = machine.execute(["/bin/sh", "-c", f"ls /sys/bus/pci/devices; cat {clock}"])
        assert answer.output.decode().split()[0].startswith("tsc")
    finally:
        machine.stop(BOOT_TIMEOUT)
    assert machine.marks[-1].name == "stopped"
    assert machine.exit_status == "exit 0"


def test_a_panic_ends_it(guests: Guests) -> None:
    """It resets without a keyboard controller or ACPI to do that; the console's words are in the error."""
    told = TOLD.replace("rdinit=/.pybench/init", "rdinit=/none root=none")
    machine = guests.make(WORKLOAD, "ready", machine=MICROVM, command_line=told)
    with pytest.raises(InstanceError, match="kernel panicked"):
        machine.start(BOOT_TIMEOUT)


@pytest.mark.parametrize(
    ("network", "cpus", "message"), [("user", 1, "does not reach a network"), ("none", 2, "one processor")]
)
def test_what_its_guest_would_not_find_is_refused(
    journal: Journal, image: Image, network: str, cpus: float, message: str
) -> None:
    """A network without a driver for the machine's bus, and processors that nobody tells it of."""
    choice = TargetChoice("vm", "vm", 1, {"accel": "tcg", "machine": MICROVM, "network": network})
    target = open_target(choice, TargetContext(journal, Path(os.devnull)))
    try:
        with pytest.raises(InputError, match=message):
            target.prepare(
                Workload("x", "minimal", (WORKLOAD, "ready"), resources=Resources(cpus=cpus)), image
            )
    finally:
        target.cleanup()
