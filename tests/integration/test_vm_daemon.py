"""Guests of an ordinary user: with a daemon (`qemu:///session`, a libvirtd of the test's own) and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pybench.runtime.vm.workload import GuestWorkload, write_initramfs
from pybench.vm_images import Image

NOBODY = 65534
UNREACHABLE = 77
TIMEOUT = 900

# Privilege is dropped inside the process, because root's interpreter may be out of others' reach.
SCRIPT = """
    import contextlib, ctypes, encodings.ascii, encodings.idna, json, os, signal, socket, subprocess
    import sys, time
    from pathlib import Path
    from pybench.runtime.errors import InstanceError
    from pybench.runtime.journal import open_journal
    from pybench.runtime.vm.acceleration import decide
    from pybench.runtime.vm.command_line import COMMAND_LINE
    from pybench.runtime.vm.connection import open_connection
    from pybench.runtime.vm.machine import VirtualMachine
    from pybench.runtime.vm.progress import MachineSpec

    folder = Path(sys.argv[1])
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
        # The kernel hides a process that has changed its ids from its own user (PR_SET_DUMPABLE).
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    if not os.access(folder / "vmlinux", os.R_OK):
        sys.exit({unreachable})
    spec = MachineSpec(kernel=folder / "vmlinux", initramfs=folder / "initramfs", command_line=COMMAND_LINE,
                       memory=256 << 20, marking=True, line="ready")
    found = {{}}
    with open_journal(folder / "state") as journal, contextlib.ExitStack() as stack:
        quiet = {{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
        daemon = stack.enter_context(subprocess.Popen(["libvirtd"], cwd=folder, **quiet))
        stack.callback(daemon.kill)
        # Its socket has a name before anybody listens there.
        with socket.socket(socket.AF_UNIX) as client:
            while client.connect_ex(str(folder / "libvirt/libvirt-sock")):
                assert daemon.poll() is None
                time.sleep(0.02)
        with open_connection(journal, "qemu:///session") as connection:
            machine = VirtualMachine(connection, spec)
            machine.start(180)
            machine.stop(120)
            found["session"] = machine.exit_status
            found["channels"] = sorted({{mark.channel for mark in machine.marks}})
            machine = VirtualMachine(connection, spec)
            machine.start(180)
            (pid,) = machine.processes
            daemon.kill()
            daemon.wait()
            try:
                machine.stop(120)
            except InstanceError as error:
                found["lost"] = error.message
            found["survives"] = Path(f"/proc/{{pid}}/exe").exists()
        assert journal.entries == ()
        with open_connection(journal) as connection:
            machine = VirtualMachine(connection, spec)
            machine.start(180)
            machine.stop(120)
            found["embedded"] = machine.exit_status
        assert journal.entries == ()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answer(image: Image) -> dict[str, Any]:
    """What an ordinary user saw of guests with no daemon, with one, and with one that died."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(image.kernel, folder / "vmlinux")
        write_initramfs(
            image.initramfs, GuestWorkload(("/bin/workload", "ready"), marking=True), folder / "initramfs"
        )
        (folder / "state").mkdir()
        # Otherwise the daemon starts another one, for the output of QEMU.
        (folder / "libvirt").mkdir()
        (folder / "libvirt" / "qemu.conf").write_text('stdio_handler = "file"\n', encoding="utf-8")
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        script = textwrap.dedent(SCRIPT).format(nobody=NOBODY, unreachable=UNREACHABLE)
        places = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), name)
        finished = subprocess.run(
            [sys.executable, "-c", script, folder],
            env={**os.environ, **places, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    if finished.returncode == UNREACHABLE:
        pytest.skip("temporary files lie where other users may not enter")
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_ordinary_user_needs_no_daemon(answer: dict[str, Any]) -> None:
    """The embedded driver runs guests of an ordinary user, too."""
    assert answer["embedded"] == "exit 0"


def test_session_daemon_runs_guests_on_the_same_channels(answer: dict[str, Any]) -> None:
    """Through `qemu:///session` the guest pushes its marks as it does without a daemon."""
    assert answer["session"] == "exit 0"
    assert answer["channels"] == ["call", "isa-serial", "libvirt-call", "pidfd"]


def test_lost_daemon_is_a_fault_and_leaves_no_guest(answer: dict[str, Any]) -> None:
    """A daemon that dies under a running guest is told, and its QEMU is ended all the same."""
    assert "the connection to libvirt was lost" in answer["lost"]
    assert not answer["survives"]
