"""Opening and closing libvirt, and what a killed harness leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from vm_guests import WORKLOAD

from pybench.runtime.errors import HostError
from pybench.runtime.journal import Journal, open_journal, take_abandoned
from pybench.runtime.leftovers import REMOVERS
from pybench.runtime.vm.connection import open_connection
from pybench.runtime.vm.leftovers import find_emulator

MANY = 40
"""Times that a long session may come back to virtual machines; libvirt has room for sixteen openings."""

HARNESS = """
import sys
from pathlib import Path
from vm_guests import BOOT_TIMEOUT, Guests
from pybench.runtime.journal import open_journal
from pybench.runtime.vm.connection import open_connection
from pybench.vm_images import find
with open_journal(Path(sys.argv[1])) as journal, open_connection(journal) as connection:
    Guests(connection, find("minimal")).make(sys.argv[2], "ready").start(BOOT_TIMEOUT)
    print("started", flush=True)
    sys.stdin.read()
"""


def test_last_user_closes_everything(journal: Journal) -> None:
    """When the last of its users has left, thread and directory are gone, however often they come back."""
    for _ in range(MANY):
        with open_connection(journal) as first:
            with open_connection(journal) as second:
                assert second is first
            assert first.directory.is_dir()
            assert first.emulator_version.count(".") == 2
        assert not first.directory.exists()
        assert "libvirt-events" not in {thread.name for thread in threading.enumerate()}


def test_unreachable_daemon_is_told_with_a_hint(journal: Journal) -> None:
    """A URI nobody serves is an error of the host, and leaves nothing."""
    uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"
    with pytest.raises(HostError, match="refuses") as caught, open_connection(journal, uri):
        pass
    assert "virsh" in caught.value.hint


def test_missing_emulator_is_told_with_the_command(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without QEMU the error says how to install it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="qemu-system-x86_64") as caught, open_connection(journal):
        pass
    assert "apt-get install" in caught.value.hint


@pytest.mark.usefixtures("image")
def test_domain_of_a_killed_harness_is_removed(tmp_path: Path) -> None:
    """QEMU outlives a harness that was killed; its journal suffices to end it and remove its files."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path), WORKLOAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"started\n"
        harness.send_signal(signal.SIGKILL)
    (path,) = tmp_path.glob("*.journal")
    with take_abandoned(path) as entries:
        assert entries is not None
        details = {entry.kind: entry.details for entry in entries}
        assert find_emulator(str(details["domain"]["uuid"])) is not None
        done = [REMOVERS[entry.kind](entry.details) for entry in entries]
    assert find_emulator(str(details["domain"]["uuid"])) is None
    assert not Path(str(details["directory"]["path"])).exists()
    assert all(done)
    with open_journal(tmp_path):
        assert REMOVERS["domain"](details["domain"]) == ""


def test_daemon_beside_the_embedded_driver_is_refused(journal: Journal) -> None:
    """Once the embedded driver is in the process no daemon can be reached, which is said with the remedy."""
    with open_connection(journal):
        pass
    with pytest.raises(HostError, match="refuses") as caught, open_connection(journal, "qemu:///session"):
        pass
    assert "embedded driver" in caught.value.hint
    assert "libvirt_uri" in caught.value.hint


def test_description_is_held_against_the_schema(journal: Journal) -> None:
    """What libvirt's schema does not allow is refused before it is tried; one form is looked at once."""
    with open_connection(journal) as connection:
        with pytest.raises(HostError, match="schema does not allow"):
            connection.validate("<domain type='qemu'><name>x</name><nonsense/></domain>")
        assert connection.handle.listAllDomains() == []


def test_another_machine_is_refused_before_it_is_asked(journal: Journal) -> None:
    """Marks are bytes in sockets of this machine; so a URI of another one is refused with that reason."""
    with (
        pytest.raises(HostError, match="another machine: a guest there cannot push marks"),
        open_connection(journal, "qemu+ssh://elsewhere.invalid/system"),
    ):
        pass
