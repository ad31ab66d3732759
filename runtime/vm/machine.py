"""One virtual machine: created through libvirt, watched until its workload is ready, stopped, verified gone.

Nothing is polled with a sleep: one poll(2) waits for the guest's serial lines, for QEMU's pidfd and
for libvirt's word, whichever comes first.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import libvirt

from pybench.runtime.errors import HostError, InstanceError, LeftoverError
from pybench.runtime.marks import Mark
from pybench.runtime.output import Tail
from pybench.runtime.vm.channels import PORT_NAME, Channels, Line, Received
from pybench.runtime.vm.commands import GuestCommands
from pybench.runtime.vm.domain import Domain
from pybench.runtime.vm.forwarding import forward_port
from pybench.runtime.vm.identity import Identity
from pybench.runtime.vm.leftovers import find_emulator
from pybench.runtime.vm.progress import CLOCK_RESOLUTION, MachineSpec, Progress
from pybench.runtime.vm.saved_state import SavedState
from pybench.runtime.vm.session import ChannelClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pybench.runtime.vm.connection import Connection, LifecycleEvent

KILL_PATIENCE: Final = 10.0
"""Seconds until a killed QEMU must be gone, and then until libvirt must have returned from creating it."""
CREATE_PATIENCE: Final = 2.0
"""Seconds that libvirt gets for finishing a creation nobody waits for, before its QEMU is killed."""
ANSWER_SECONDS: Final = 1.0
"""A guest that has been silent for so long after `stop` hangs; a shorter grace proves nothing."""
END_PATIENCE: Final = 2.0
"""Seconds in which a QEMU whose sockets are closed should have ended."""
LOG_LINES: Final = 20
_ROUNDS: Final = 64
_ANSWER_LENGTH: Final = 80
_DRAINED: Final[tuple[Line, ...]] = ("console", "output")
_COMMAND_LINES: Final[dict[str, Line]] = {"isa-serial": "commands", "virtio-serial": "port"}


@dataclass(slots=True)
class _Creation:
    """The call of createXML, in a thread: it can be waited for, and a hanging one be reported."""

    thread: threading.Thread | None = None
    returned_at: int = 0
    domain: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class VirtualMachine(GuestCommands):
    """One launch. `start` returns when it is ready; `stop` is idempotent and verifies the end."""

    connection: Connection
    spec: MachineSpec
    state: SavedState | None = None
    """Restore this instead of booting; `spec` is that of the saved machine, with a card of its own."""
    identity: Identity = field(default_factory=lambda: Identity.fresh("guest"))
    """What a restored guest is told to be."""
    marks: list[Mark] = field(default_factory=list)
    name: str = field(default_factory=lambda: f"pybench-{os.urandom(5).hex()}")
    _uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    _resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _channels: Channels | None = None
    _creation: _Creation = field(default_factory=_Creation)
    _wake: int = -1
    _pidfd: int = -1
    _ended_at: int = 0
    _told_to_stop: bool = False
    _renewal_sent: bool = False
    _progress: Progress = field(init=False)
    _problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._progress = Progress(self.spec, restored=self.state is not None)

    @property
    def exit_status(self) -> str:
        """What init said of the workload's end: `exit 0`, `signal 15`; empty while it runs."""
        return self._progress.exit_status

    @property
    def last_words(self) -> str:
        """Why it has ended since it was ready, or is about to; empty while it runs. Takes a millisecond."""
        self._catch_up()
        progress = self._progress
        if progress.failure or progress.exit_status:
            return progress.ended
        return self._reason() if self._ended_at else "".join(self._problems[:1])

    @property
    def processes(self) -> tuple[int, ...]:
        """QEMU's pid while it runs."""
        pid = self._channels.emulator if self._channels else None
        return (pid,) if pid and self._pidfd >= 0 and not self._ended_at else ()

    @property
    def has_ended(self) -> bool:
        """Whether QEMU has; the kernel is asked, and nothing read that the guest has sent."""
        if self._pidfd < 0 or self._ended_at:
            return True
        watcher = select.poll()
        watcher.register(self._pidfd, select.POLLIN)
        return bool(watcher.poll(0))

    @property
    def output(self) -> str:
        """The last of what the workload printed, escaped."""
        return self._channels.output.text if self._channels else ""

    @property
    def console(self) -> str:
        """The last of what the guest's kernel printed, escaped."""
        return self._channels.console.text if self._channels else ""

    def start(self, timeout: float) -> None:
        """Boot the guest, or restore it from its saved state, and wait until it is ready.

        Raises:
            InstanceError: it failed or was not ready after `timeout` seconds; nothing is left of it.
        """
        try:
            self._mark("preparing", time.monotonic_ns(), "call", CLOCK_RESOLUTION)
            create = self._prepare()
            requested_at = time.monotonic_ns()
            self._mark("request", requested_at, "call", CLOCK_RESOLUTION)
            deadline = requested_at + round(timeout * 1e9)
            self._create(create)
            while not self._progress.ready:
                self._take_in(self._receive(deadline, timeout))
        except BaseException:
            self._abandon()
            raise
        self.marks += self._progress.marks(requested_at)
        for line in _DRAINED:
            self._hand_over(line)

    def stop(self, timeout: float) -> None:
        """Have init end the workload and switch off; kill QEMU after `timeout` seconds; verify.

        Raises:
            InstanceError: the guest had died or hung since it was ready; nothing is left of it.
            LeftoverError: QEMU survived, or libvirt never returned from creating the domain.
        """
        if self._channels is None or self._wake < 0:
            return
        for line in _DRAINED:
            self._take_back(line)
        self._catch_up()
        fault = self.fault
        self._mark("stopping", time.monotonic_ns(), "call", CLOCK_RESOLUTION)
        self._told_to_stop = True
        self._channels.send("stop")
        self._await_end(timeout)
        self._catch_up()
        fault = fault or self.fault or self._silence(timeout)
        error = self._error(f"after it was ready, {fault}") if fault else None
        self._end()
        if self._ended_at:
            at = max(self._ended_at, self.marks[-1].at)
            self._mark("stopped", at, "pidfd", CLOCK_RESOLUTION)
        if error:
            raise error

    @property
    def fault(self) -> str:
        """Why the machine is not what it was when it became ready, as far as is known; usually nothing.

        A workload that ends by itself takes its guest along, which is no fault.
        """
        if self.spec.probe or self._progress.exit_status:
            return ""
        if self._problems:
            return self._problems[0]
        if self._progress.failure or (self._ended_at and not self._told_to_stop):
            return self._reason()
        return self._panic

    def live_description(self) -> str:
        """The domain as libvirt runs it now, as XML.

        Raises:
            InstanceError: it has ended.
        """
        domain = self._creation.domain
        if domain is None:
            raise InstanceError("the machine is not running")
        try:
            return str(domain.XMLDesc(0))
        except libvirt.libvirtError as error:
            raise InstanceError(f"libvirt cannot describe the machine: {error}") from error

    def forward(self, port: int) -> int:
        """Have a port of this host's loopback address lead to `port` of a guest on QEMU's own network.

        Raises:
            InstanceError: it has ended, or has no such network.
        """
        if self._creation.domain is None:
            raise InstanceError("the machine is not running")
        return forward_port(self._creation.domain, port)

    def save(self, path: Path, timeout: float) -> SavedState:
        """Write the state of a ready machine to the new file `path`; the machine ends with it.

        The workload stands still in it, until a restored guest has an identity of its own.

        Raises:
            InstanceError: the guest did not answer, or libvirt could not save it within `timeout` seconds;
                neither the machine nor the file is left.
        """
        if self._channels is None or not self.processes:
            raise InstanceError(self.fault or "the machine is not running")
        deadline = time.monotonic_ns() + round(timeout * 1e9)
        self._told_to_stop = True
        try:
            self._channels.send("freeze")
            while not self._progress.frozen:
                self._note(self._receive(deadline, timeout, "save", "its workload was not frozen"))
                if self._progress.exit_status:
                    raise self._error("could not save the machine: its workload has ended")
                if self._ended_at or self._progress.failure:
                    raise self._error(f"could not save the machine: {self._reason()}")
            domain, self._creation = self._creation.domain, _Creation()
            self._create(lambda: domain.saveFlags(str(path), None, 0) or domain)
            while not self._creation.returned_at:
                self._note(self._receive(deadline, timeout, "save", "libvirt did not return"))
            if self._creation.error:
                raise self._error(f"libvirt could not save the machine: {self._creation.error}")
            self._end()
            return SavedState(path, self._names)
        except BaseException:
            path.unlink(missing_ok=True)
            self._abandon()
            raise

    def _prepare(self) -> Callable[[], Any]:
        """Everything that needs no clock; returns what creates the domain."""
        domain = self._prepare_domain()
        handle, state = self.connection.handle, self.state
        if state is None:
            description = domain.xml()
            self.connection.validate(description)
            return lambda: handle.createXML(description, 0)

        def restore() -> Any:  # noqa: ANN401 - libvirt has no types
            with state.lock:
                state.rename(self._names)
                handle.restoreFlags(str(state.path), None, 0)
            return handle.lookupByUUIDString(self._uuid)

        return restore

    @property
    def _names(self) -> tuple[str, ...]:
        """What tells the machine from every other in its description."""
        card = self.spec.interface
        own = (card.hardware_address, card.tap) if card else ()
        return (self.name, self._uuid, *(name for name in own if name))

    def _prepare_domain(self) -> Domain:
        """The sockets, the journal, the description."""
        connection = self.connection
        directory = connection.directory / self.name
        directory.mkdir(mode=0o711)
        self._resources.callback(directory.rmdir)
        self._channels = self._resources.enter_context(Channels(directory, port=self.spec.virtio_port))
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._resources.callback(self._close_wake)
        self._channels.watch(self._wake)
        self._resources.enter_context(connection.listening(self._uuid, self._on_lifecycle))
        number = connection.journal.record(
            "domain", name=self.name, uuid=self._uuid, uri=connection.uri, root=str(connection.root or "")
        )
        self._resources.callback(connection.journal.forget, number)
        spec = self.spec
        return Domain(
            name=self.name,
            uuid=self._uuid,
            memory=spec.memory,
            vcpus=spec.vcpus,
            kernel=spec.kernel,
            initramfs=spec.initramfs,
            command_line=spec.command_line,
            serials=self._channels.serials,
            port=self._channels.port_path,
            port_name=PORT_NAME,
            interface=spec.interface,
            savable=spec.savable,
            processors=spec.processors,
            acceleration=spec.acceleration,
            processor=spec.processor,
            machine=spec.machine,
            emulator=connection.emulator,
            disks=spec.disks,
        )

    def _create(self, create: Callable[[], Any]) -> None:
        creation = self._creation

        def call() -> None:
            try:
                creation.domain = create()
            except (libvirt.libvirtError, HostError) as error:
                creation.error = error
            creation.returned_at = time.monotonic_ns()
            os.eventfd_write(self._wake, 1)

        creation.thread = threading.Thread(target=call, name=f"create-{self.name}", daemon=True)
        creation.thread.start()

    def _receive(self, deadline: int, timeout: float, wanted: str = "", awaited: str = "") -> Received:
        if self._channels is None:
            raise RuntimeError("not started")
        received = self._channels.receive(deadline)
        if received is None and wanted:
            raise self._error(f"could not {wanted} the machine within {timeout:g} s: {awaited}")
        if received is None:
            hint = "raise schedule.ready_timeout, or correct the workload's readiness"
            raise self._error(f"not ready after {timeout:g} s: {self._progress.awaited}", hint)
        return received

    def _take_in(self, received: Received) -> None:
        """Note what came; raise when it says that the machine will not become ready."""
        self._note(received)
        if self._creation.error:
            raise self._error(f"libvirt could not create the domain: {self._creation.error}")
        if self._progress.ready:
            return
        if self._ended_at or self._progress.ended:
            self._catch_up()
            raise self._error(self._reason())
        if self._problems:
            raise self._error(self._problems[0])

    def _note(self, received: Received) -> None:
        if self._channels is None:
            return
        for at, text in received.lines:
            self._progress.hear(text, at)
        self._progress.print(received.printed, received.at)
        if self._wake in received.woken:
            self._hear_of_creation()
        if self._pidfd in received.woken:
            self._ended_at = received.at
            self._channels.forget(self._pidfd)
        self._pin()

    def _hear_of_creation(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            # The thread of a command and the one that stops the machine were both woken; the other has read.
            return
        if self._creation.domain is not None:
            self._progress.create(self._creation.returned_at)
            self._renew()

    def _renew(self) -> None:
        """The first word to a restored guest; before its state is in place QEMU would lose it."""
        if self._channels is not None and self._progress.restored and not self._renewal_sent:
            self._renewal_sent = self._channels.send(self.identity.order())

    def _reason(self) -> str:
        """Why it ended unasked, by the best evidence there is."""
        if known := self._progress.ended or self._panic:
            return known
        if self._problems:
            return self._problems[0]
        last_words = self.connection.emulator_errors(self.name) or "killed from outside, or crashed"
        return f"QEMU ended: {last_words}"

    @property
    def _panic(self) -> str:
        panic = next((line for line in self.console.splitlines() if "Kernel panic" in line), "")
        return f"the guest's kernel panicked: {panic[panic.index('Kernel panic') :]}" if panic else ""

    def _silence(self, timeout: float) -> str:
        """Of a guest that said nothing when told to stop: it was dead, or its own code may go on running."""
        if self.spec.probe or self._progress.answered or self._progress.exit_status:
            return ""
        if self._ended_at:
            return self._reason()
        if timeout < ANSWER_SECONDS:
            return ""
        return f"the guest hung: init did not answer within {timeout:g} s when told to stop"

    def _open_command_line(self, nonce: str, deadline: float) -> tuple[int, str]:
        channels = self._channels
        if self.spec.bare_metal:
            raise InstanceError("a bare-metal guest has no init to run commands")
        if channels is None or not self.processes:
            raise InstanceError(self.fault or "the machine is not running")
        self._progress.command_channel = ""
        channels.send(f"commands {nonce}")
        while not (name := self._progress.command_channel):
            received = None if self._ended_at else channels.receive(round(deadline * 1e9))
            if received is None:
                raise InstanceError("the guest's init did not answer when asked for a channel for commands")
            self._note(received)
        line = _COMMAND_LINES.get(name)
        descriptor = channels.descriptor(line) if line else None
        if descriptor is None:
            raise InstanceError(f"the guest has no channel for commands: {name[:_ANSWER_LENGTH]}")
        return descriptor, name

    @property
    def _ended_descriptor(self) -> int:
        return self._pidfd

    def _explain(self, error: InstanceError) -> InstanceError:
        if isinstance(error, ChannelClosedError):
            # Its sockets close a moment before QEMU has ended.
            self._await_end(END_PATIENCE)
        self._catch_up()
        return self._error(self.fault or error.message)

    def _mark(self, name: str, at: int, channel: str, resolution: float) -> None:
        self.marks.append(Mark(name, at, channel, resolution))

    def _on_lifecycle(self, event: LifecycleEvent) -> None:
        """In the event loop's thread: note what the guest's lines cannot tell, and wake the poll up."""
        if event.lost:
            self._problems.append("the connection to libvirt was lost")
        elif event.event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            self._problems.append("the guest crashed")
        elif (
            event.event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED
            and self._creation.domain is not None
            and not self._told_to_stop
        ):
            self._problems.append("QEMU stopped the guest's processor")
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _catch_up(self) -> None:
        """Take in what has come already; what tells the reason for an end may be on several lines."""
        # Bounded, because a guest that never stops printing would keep us here.
        for _ in range(_ROUNDS):
            if self._channels is None:
                return
            received = self._channels.receive(time.monotonic_ns() + 1_000_000)
            if received is None:
                return
            self._note(received)

    def _error(self, message: str, hint: str = "") -> InstanceError:
        self._catch_up()
        parts = [_last_lines(self.output)]
        if console := _last_lines(self.console):
            parts.append(f"-- the guest's console --\n{console}")
        if emulator := _last_lines(self.connection.emulator_log(self.name)):
            parts.append(f"-- QEMU --\n{emulator}")
        return InstanceError(message, hint, log="\n".join(part for part in parts if part))

    def _hand_over(self, line: Line) -> None:
        """Let the connection's output thread empty a line from now on, so that the guest never blocks."""
        if self._channels is None or (descriptor := self._channels.descriptor(line)) is None:
            return
        self._channels.forget(descriptor)
        tail: Tail = self._channels.output if line == "output" else self._channels.console
        self.connection.output.add(descriptor, tail)

    def _take_back(self, line: Line) -> None:
        if self._channels is None or (descriptor := self._channels.descriptor(line)) is None:
            return
        self.connection.output.remove(descriptor)
        self._channels.watch(descriptor)

    def _await_end(self, timeout: float) -> None:
        """Take in what comes until QEMU has ended, something went wrong, or `timeout` seconds are over."""
        if self._channels is None:
            return
        deadline = time.monotonic_ns() + round(timeout * 1e9)
        # Where libvirt is lost nobody tells QEMU to quit once the guest has switched itself off.
        while self._pidfd >= 0 and not self._ended_at and not self._problems:
            received = self._channels.receive(deadline)
            if received is None:
                return
            self._note(received)

    def _abandon(self) -> None:
        """After a failed start: end it without grace; a leftover is the more important error."""
        self._end()

    def _end(self) -> None:
        """Make sure that QEMU is gone, then release everything; the order is that of dependence.

        Raises:
            LeftoverError: QEMU survived, or libvirt did not return; the journal keeps the domain.
        """
        creation, channels = self._creation, self._channels
        if channels is not None and creation.thread is not None:
            # QEMU may come into being only while libvirt works on it; but libvirt also waits for ever
            # for a QEMU that does not answer, and returns when that one is killed.
            self._await_creation(CREATE_PATIENCE)
            if creation.thread.is_alive() and self._pidfd < 0 and (pid := find_emulator(self._uuid)):
                channels.emulator = pid
            self._kill()
            self._await_creation(KILL_PATIENCE)
            if creation.thread.is_alive():
                raise LeftoverError(f"libvirt does not return from creating the domain {self.name}")
            self._catch_up()
            self._kill()
        # A command that runs in another thread has seen the end by now, and lets go of the descriptors.
        with self._command_lock:
            self._resources.close()

    def _await_creation(self, patience: float) -> None:
        thread, channels = self._creation.thread, self._channels
        if thread is None or channels is None:
            return
        deadline = time.monotonic_ns() + round(patience * 1e9)
        while thread.is_alive() and (received := channels.receive(deadline)) is not None:
            self._note(received)
        thread.join(max(0.0, (deadline - time.monotonic_ns()) / 1e9))

    def _kill(self) -> None:
        self._pin()
        if self._pidfd < 0 or self._ended_at:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            # A daemon runs QEMU as another user: only the daemon may end it.
            if self._creation.domain is not None:
                with contextlib.suppress(libvirt.libvirtError):
                    self._creation.domain.destroyFlags(0)
        watcher = select.poll()
        watcher.register(self._pidfd, select.POLLIN)
        if not watcher.poll(KILL_PATIENCE * 1e3):
            raise LeftoverError(f"QEMU of the domain {self.name} survived SIGKILL", "pybench clean")
        self._ended_at = time.monotonic_ns()

    def _pin(self) -> None:
        """Hold QEMU by a pidfd from the moment its pid is known: it cannot become another process's."""
        if self._pidfd >= 0 or self._ended_at or self._channels is None or not self._channels.emulator:
            return
        try:
            self._pidfd = os.pidfd_open(self._channels.emulator)
        except ProcessLookupError:
            # It connected, ended, and was reaped before its connection was looked at.
            self._ended_at = time.monotonic_ns()
        else:
            self._channels.watch(self._pidfd)

    def _close_wake(self) -> None:
        os.close(self._wake)
        self._wake = -1
        self._ended_at = self._ended_at or time.monotonic_ns()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES:])
