"""Commands in a live guest, files in and out of it, and a terminal, over both of its channels."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_modules import write_with_modules
from patience import PATIENCE, wait_until
from vm_guests import BOOT_TIMEOUT, STOP_TIMEOUT, WORKLOAD, Guests

from pybench.runtime.errors import InputError, InstanceError
from pybench.runtime.journal import open_journal
from pybench.runtime.terminal import raw, size_changes
from pybench.runtime.vm.connection import open_connection
from pybench.runtime.vm.machine import VirtualMachine
from pybench.vm_images import Image


@pytest.fixture(scope="module", params=["isa-serial", "virtio-serial"])
def channel(request: pytest.FixtureRequest) -> str:
    """The channel that the guest is to find."""
    return str(request.param)


@pytest.fixture(scope="module")
def machine(channel: str, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    """One guest for all tests of a channel."""
    folder = tmp_path_factory.mktemp("commands")
    with open_journal() as journal, open_connection(journal) as connection:
        guests = Guests(connection, image)
        if channel == "virtio-serial":
            write_with_modules(image, folder / "virtio.cpio")
            guests.base = folder / "virtio.cpio"
        with guests.running(WORKLOAD, "ready", line="ready", limits={"pids.max": "20"}) as running:
            yield running
        assert guests.traces() == []


def test_command_gets_input_and_gives_status(machine: VirtualMachine, channel: str) -> None:
    """Standard input goes in; both streams and the exit code come out, over the best channel there is."""
    done = machine.execute(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello\0\xff")
    assert (done.status, done.output, done.errors, done.channel) == (3, b"hello\0\xff", b"oops\n", channel)


def test_command_is_confined_like_the_workload(machine: VirtualMachine) -> None:
    """Without capabilities and within the workload's limits, unless everything is asked for."""
    script = "grep CapEff /proc/self/status; cat /proc/self/cgroup; echo $GREETING; pwd"
    done = machine.execute(
        ["/bin/sh", "-c", script], environment={"PATH": "/bin", "GREETING": "good day"}, directory="/tmp"
    )
    assert done.output.decode().split("\n") == [
        f"CapEff:\t{'0' * 16}",
        "0::/workload",
        "good day",
        "/tmp",
        "",
    ]
    privileged = machine.execute(["grep", "CapEff", "/proc/self/status"], privileged=True)
    assert int(privileged.output.split()[1], 16)


def test_command_that_cannot_start_is_told(machine: VirtualMachine) -> None:
    """The failed call and its reason are in the error, and the next command runs."""
    with pytest.raises(InstanceError, match="execve nothing: No such file"):
        machine.execute(["nothing"])
    with pytest.raises(InstanceError, match="chdir /none: No such file"):
        machine.execute(["true"], directory="/none")
    assert machine.execute(["true"]).status == 0


def test_endless_command_is_killed(machine: VirtualMachine) -> None:
    """One that runs too long or prints too much is an error and is gone; the next one runs."""
    with pytest.raises(InstanceError, match="did not end in time"):
        machine.execute(["sleep", "1000"], timeout=0.5)
    with pytest.raises(InstanceError, match="printed more than 10000 bytes"):
        machine.execute(["yes"], maximum=10_000)
    assert b"sleep 1000" not in machine.execute(["ps"]).output
    assert b"yes" not in machine.execute(["ps"]).output


def test_what_a_command_leaves_running_does_not_hold_it(machine: VirtualMachine) -> None:
    """A command is over when it ends; what it left in its process group ends with it."""
    done = machine.execute(["sh", "-c", "sleep 999 & echo started"], timeout=300)
    assert done.output == b"started\n"
    assert b"sleep 999" not in machine.execute(["ps"]).output


def test_killed_command_has_its_signal_as_status(machine: VirtualMachine) -> None:
    """The status of a command that a signal ended is the signal's number, negated."""
    assert machine.execute(["sh", "-c", "kill -TERM $$"]).status == -signal.SIGTERM


def test_files_go_in_and_out(machine: VirtualMachine, tmp_path: Path) -> None:
    """A file arrives with its content and mode, and comes back the same."""
    content = os.urandom(50_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    machine.copy_in(source, "/tmp/copied", mode=0o750)
    listed = machine.execute(["ls", "-l", "/tmp/copied"]).output
    assert listed.startswith(b"-rwxr-x---")
    assert machine.copy_out("/tmp/copied", target) == len(content)
    assert target.read_bytes() == content
    machine.copy_in(b"", "/tmp/copied")
    assert machine.execute(["wc", "-c", "/tmp/copied"]).output == b"0 /tmp/copied\n"


def test_file_that_cannot_be_copied_is_told(machine: VirtualMachine, tmp_path: Path) -> None:
    """A missing file, a directory, an existing target, too large a file: told, and nothing is left."""
    target = tmp_path / "target"
    with pytest.raises(InstanceError, match="open /none: No such file"):
        machine.copy_out("/none", target)
    with pytest.raises(InstanceError, match="not a regular file: /tmp"):
        machine.copy_out("/tmp", target)
    with pytest.raises(InstanceError, match="more than 100 bytes"):
        machine.copy_out("/bin/busybox", target, maximum=100)
    assert not target.exists()
    target.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        machine.copy_out("/etc/passwd", target)
    with pytest.raises(InstanceError, match=r"open /none/x\.pybench: No such file"):
        machine.copy_in(b"x", "/none/x")
    with pytest.raises(InputError, match="no absolute path"):
        machine.copy_in(b"x", "x")


def test_terminal_is_interactive(machine: VirtualMachine) -> None:
    """A shell on a terminal: it sees a tty of our size, follows its changes, and Ctrl-C reaches it."""
    keyboard, screen = pty.openpty()
    shown = bytearray()
    sizes = [(30, 90)]
    status: list[int] = []

    def run() -> None:
        with raw(screen), size_changes() as _:
            status.append(
                machine.attach(
                    ["/bin/sh"], screen, screen, size=lambda: sizes[0], resized=resized, privileged=True
                )
            )

    def await_text(text: bytes, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while text not in shown and time.monotonic() < deadline:
            if select.select([keyboard], [], [], 1)[0]:
                shown.extend(os.read(keyboard, 4096))
        assert text in shown

    resized = os.eventfd(0, os.EFD_NONBLOCK)
    shell = threading.Thread(target=run)
    shell.start()
    try:
        await_text(b"#")
        os.write(keyboard, b"tty; stty size\n")
        await_text(b"/dev/pts/")
        await_text(b"30 90")
        sizes[0] = (40, 100)
        os.eventfd_write(resized, 1)
        os.write(keyboard, b'until [ "$(stty size)" = "40 $((99 + 1))" ]; do :; done; stty size\n')
        await_text(b"40 100")
        os.write(keyboard, b"echo will $((6 * 8)) sleep; sleep 1000; echo was $?\n")
        await_text(b"will 48 sleep")
        # On a busy host sleep may not have begun, and Ctrl-C comes to nothing: it is pressed again.
        for attempt in range(1001, 1031):
            os.write(keyboard, b"\x03echo still $((1 * %d)) here\n" % attempt)
            with contextlib.suppress(AssertionError):
                await_text(b"still %d here" % attempt, 4)
                break
        else:
            pytest.fail(f"Ctrl-C ended nothing: {bytes(shown)!r}")
        os.write(keyboard, b"exit 5\n")
    finally:
        shell.join(PATIENCE)
        for descriptor in (keyboard, screen, resized):
            os.close(descriptor)
    assert status == [5]


@contextlib.contextmanager
def command_under_way(machine: VirtualMachine, reason: str) -> Iterator[None]:
    """A command runs in the guest while the block does, and is then told why it ended."""
    told: list[str] = []

    def run() -> None:
        try:
            # The kernel says on its console what it would do when asked for help.
            machine.execute(["sh", "-c", "echo h > /proc/sysrq-trigger; exec sleep 1000"], privileged=True)
        except InstanceError as error:
            told.append(error.message)

    runner = threading.Thread(target=run)
    runner.start()
    try:
        wait_until(lambda: "HELP" in machine.console)
        yield
    finally:
        runner.join(PATIENCE)
    assert len(told) == 1
    assert re.search(reason, told[0])


def test_stop_ends_a_command_that_runs(image: Image) -> None:
    """Stopping the machine ends a command of another thread, which is told so, and waits for nothing."""
    with open_journal() as journal, open_connection(journal) as connection:
        guests = Guests(connection, image)
        with (
            guests.running(WORKLOAD, "ready") as machine,
            command_under_way(machine, r"QEMU ended|was closed"),
        ):
            machine.stop(STOP_TIMEOUT)
        assert guests.traces() == []


def test_emulator_killed_during_a_command_is_told(image: Image) -> None:
    """A command whose machine dies fails at once, with the machine's fault."""
    with open_journal() as journal, open_connection(journal) as connection:
        guests = Guests(connection, image)
        machine = guests.make(WORKLOAD, "ready")
        machine.start(BOOT_TIMEOUT)
        (pid,) = machine.processes
        with command_under_way(machine, "QEMU ended"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(InstanceError, match="QEMU ended"):
            machine.execute(["true"])
        with pytest.raises(InstanceError, match="QEMU ended"):
            machine.stop(1)
        assert guests.traces() == []
