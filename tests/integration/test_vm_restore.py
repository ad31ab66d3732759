"""Guests restored from a saved state: quick, no two alike, and nothing left of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT, WORKLOAD, Guests

from pybench.harness.model import Readiness, TargetChoice, Workload
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.base import Target
from pybench.harness.targets.vm import VmInstance
from pybench.runtime.errors import HostError, InstanceError
from pybench.runtime.journal import Journal, open_journal
from pybench.runtime.vm.connection import open_connection
from pybench.runtime.vm.saved_state import SavedState
from pybench.vm_images import Image

FACTS = {
    "host name": ["hostname"],
    "machine id": ["cat", "/etc/machine-id"],
    "boot id": ["cat", "/proc/sys/kernel/random/boot_id"],
    "random bytes": ["sh", "-c", "head -c 16 /dev/urandom | hexdump -C"],
}


@pytest.fixture(scope="module")
def target(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The target, prepared once for a script that counts; nothing may be left of it."""
    folder = tmp_path_factory.mktemp("restore")
    script = "echo ready; n=0; while :; do n=$((n + 1)); echo $n > /tmp/count; sleep 0.1; done"
    workload = Workload(
        "counter",
        "minimal",
        ("/bin/sh", "-c", script),
        {"PATH": "/bin"},
        readiness=Readiness("line", "ready"),
    )
    with open_journal() as journal:
        choice = TargetChoice("vm-restore", "vm-restore", 1, {"accel": "tcg"})
        opened = open_target(choice, TargetContext(journal, folder))
        opened.prepare(workload, image)
        yield opened
        opened.cleanup()
        opened.cleanup()
        assert journal.entries == ()


def test_siblings_differ_in_everything_that_identifies_them(target: Target) -> None:
    """Two guests of one state have names, ids and random bytes of their own, and the right time."""
    siblings = [target.launch(BOOT_TIMEOUT), target.launch(BOOT_TIMEOUT)]
    try:
        facts = []
        for sibling in siblings:
            assert isinstance(sibling, VmInstance)
            facts.append({name: sibling.machine.execute(fact).output for name, fact in FACTS.items()})
            before = time.time()
            clock = int(sibling.machine.execute(["date", "+%s"]).output)
            assert before - 5 < clock < time.time() + 5
        for name in FACTS:
            assert facts[0][name] != facts[1][name]
            assert all(len(fact[name]) > 8 for fact in facts)
        assert all(fact["host name"].startswith(b"counter-") for fact in facts)
    finally:
        for sibling in siblings:
            sibling.stop(STOP_TIMEOUT)


def test_marks_and_qualifiers_tell_a_restored_guest(target: Target) -> None:
    """Its samples say how it was started; its marks are in order; its workload goes on from where it was."""
    instance = target.launch(BOOT_TIMEOUT)
    try:
        assert isinstance(instance, VmInstance)
        names = [mark.name for mark in instance.marks]
        assert names == ["preparing", "request", "vmm", "restored", "ready"]
        assert all(earlier.at <= later.at for earlier, later in pairwise(instance.marks))
        assert instance.qualifiers["start"] == "restore"
        assert instance.qualifiers["accel"] == "tcg"
        counts: list[int] = []
        while len(set(counts)) < 2:
            # Empty for the instant in which the shell has the file open.
            if written := instance.machine.execute(["cat", "/tmp/count"]).output:
                counts.append(int(written))
        assert counts == sorted(counts)
    finally:
        instance.stop(STOP_TIMEOUT)
    assert instance.marks[-1].name == "stopped"


def test_eight_guests_live_at_once(target: Target) -> None:
    """Eight siblings are alive together, no two of the same name, and all of them end."""
    with contextlib.ExitStack() as stack:
        names = set()
        for _ in range(8):
            sibling = target.launch(BOOT_TIMEOUT)
            stack.callback(sibling.stop, STOP_TIMEOUT)
            assert isinstance(sibling, VmInstance)
            names.add(sibling.machine.execute(["hostname"]).output)
            assert len(sibling.processes) == 1
    assert len(names) == 8


def test_saved_machine_is_over_and_restores_on_demand(image: Image, journal: Journal, tmp_path: Path) -> None:
    """Saving ends the machine; what cannot be saved leaves neither machine nor file."""
    with open_connection(journal) as connection:
        guests = Guests(connection, image)
        machine = guests.make(WORKLOAD, "ready", line="ready")
        machine.start(BOOT_TIMEOUT)
        with pytest.raises(InstanceError, match="could not save"):
            machine.save(tmp_path / "none" / "state", STOP_TIMEOUT)
        assert machine.processes == ()
        with pytest.raises(InstanceError, match="not running"):
            machine.save(tmp_path / "state", STOP_TIMEOUT)
        assert guests.traces() == []


def test_state_in_an_unknown_form_is_refused(tmp_path: Path) -> None:
    """A file that libvirt did not save like this is named, with what to do instead."""
    path = tmp_path / "state"
    path.write_bytes(b"LibvirtQemudSave" + bytes([3]) + bytes(200))
    with pytest.raises(HostError, match="form that is not known") as caught:
        SavedState(path, ("name", "uuid"))
    assert "vm" in caught.value.hint
    path.write_bytes(b"short")
    with pytest.raises(HostError, match="too short"):
        SavedState(path, ("name", "uuid"))
