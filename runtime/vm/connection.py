"""A connection to libvirt, by default to its embedded QEMU driver, which runs inside this process.

Within a process there is one connection per URI, shared by everybody who opens it and closed with
the last of them: the embedded driver exists once per process anyhow.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree as Xml

import libvirt

from pybench.runtime.errors import HostError, LeftoverError
from pybench.runtime.output import OutputCollector, printable
from pybench.runtime.vm import embedded, event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybench.runtime.journal import Journal

EMULATOR: Final = "qemu-system-x86_64"
_SETTLE_SECONDS: Final = 20.0
_LOG_BYTES: Final = 4096
_COMPLAINTS: Final = 3
_KEEP_ALIVE_SECONDS: Final = 5
_KEEP_ALIVE_COUNT: Final = 2

_lock = threading.Lock()
_shared: dict[str, _Shared] = {}


class LifecycleEvent(NamedTuple):
    """What libvirt said of a domain: VIR_DOMAIN_EVENT_* and its detail; `lost` without a connection."""

    event: int
    detail: int
    lost: bool = False


@dataclass(slots=True)
class Connection:
    """An open libvirt connection; use `open_connection`.

    `directory` holds the sockets and initial root filesystems of its guests; for the embedded
    driver it is the driver's `root`, too.
    """

    uri: str
    root: Path | None
    directory: Path
    journal: Journal
    handle: libvirt.virConnect
    output: OutputCollector
    emulator: Path
    emulator_version: str
    _known_forms: set[tuple[str, ...]] = field(default_factory=set)
    _listeners: dict[str, Callable[[LifecycleEvent], None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def listening(self, uuid: str, listener: Callable[[LifecycleEvent], None]) -> Iterator[None]:
        """Have `listener` called, in the event loop's thread, with every event of the domain `uuid`.

        After leaving, it is not called any more.
        """
        with self._lock:
            self._listeners[uuid] = listener
        try:
            yield
        finally:
            with self._lock:
                del self._listeners[uuid]

    def emulator_log(self, name: str) -> str:
        """What QEMU itself said about a domain, bounded and escaped; nothing where a daemon keeps it."""
        if self.root is None:
            return ""
        try:
            with (self.root / "log" / "qemu" / f"{name}.log").open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_BYTES))
                lines = printable(log.read(_LOG_BYTES)).splitlines()
        except OSError:
            return ""
        # libvirt writes the command line first, one option a line, each but the last continued by `\`.
        first = max((number for number, line in enumerate(lines) if line.endswith("\\")), default=-2) + 2
        return "\n".join(line for line in lines[first:] if "Domain id=" not in line)

    def emulator_errors(self, name: str) -> str:
        """The complaints in `emulator_log`, in one line."""
        complaints = []
        for line in self.emulator_log(name).splitlines():
            _, found, complaint = line.partition(f"{EMULATOR}: ")
            if found and not complaint.startswith("terminating on signal"):
                complaints.append(complaint)
            elif line.startswith("KVM internal error"):
                complaints.append(line)
        return "; ".join(complaints[-_COMPLAINTS:])

    def validate(self, description: str) -> None:
        """Hold a domain's XML against libvirt's own schema, once for each form of it.

        Raises:
            HostError: the schema does not allow it.
        """
        form = tuple(element.tag for element in Xml.fromstring(description).iter())  # noqa: S314 - our own
        if form in self._known_forms:
            return
        try:
            self.handle.defineXMLFlags(description, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_XML_INVALID_SCHEMA:
                raise HostError(f"this libvirt's schema does not allow the machine: {error}") from error
            # Whatever else is wrong with it, creating it will tell.
            return
        self._known_forms.add(form)

    def settle(self) -> None:
        """Wait until libvirt has put its own files about ended domains away.

        It does so only when QEMU's parent has reaped the process, which a lazy init delays for seconds;
        so nobody waits for it within a measurement.

        Raises:
            LeftoverError: a domain is still there.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        with self._stopped:
            while names := self._domain_names():
                # The event comes a moment before the domain is off the list, hence the short patience.
                self._stopped.wait(0.1)
                if time.monotonic() > deadline:
                    raise LeftoverError(f"libvirt still knows {', '.join(names)}", "pybench clean")

    def _domain_names(self) -> list[str]:
        """Ours that still exist; for a daemon only those of this connection's machines can be meant."""
        if self.root is None:
            return []
        return [domain.name() for domain in self.handle.listAllDomains()]

    def _dispatch(
        self, _handle: object, domain: libvirt.virDomain, event: int, detail: int, _opaque: object
    ) -> None:
        with self._lock:
            if listener := self._listeners.get(domain.UUIDString()):
                listener(LifecycleEvent(event, detail))
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            with self._stopped:
                self._stopped.notify_all()

    def _closed(self, _handle: object, reason: int, _opaque: object) -> None:
        with self._lock:
            for listener in self._listeners.values():
                listener(LifecycleEvent(-1, reason, lost=True))


@dataclass(slots=True)
class _Shared:
    connection: Connection
    resources: ExitStack
    users: int = 0


@contextmanager
def open_connection(journal: Journal, uri: str = "") -> Iterator[Connection]:
    """Connect to `uri`, or to an embedded driver of our own when it is empty.

    When the last user leaves, the event loop's thread has ended and the connection's directory is gone.

    Raises:
        HostError: libvirt's driver or QEMU is missing, or the URI is refused or is another machine's.
        LeftoverError: a domain or the event loop did not end.
    """
    with _lock:
        if uri not in _shared:
            with ExitStack() as resources:
                connection = _connect(resources, journal, uri)
                _shared[uri] = _Shared(connection, resources.pop_all())
        shared = _shared[uri]
        shared.users += 1
    try:
        yield shared.connection
    finally:
        with _lock:
            shared.users -= 1
            if not shared.users:
                del _shared[uri]
                shared.resources.close()


def _connect(resources: ExitStack, journal: Journal, uri: str) -> Connection:
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise HostError(f"{EMULATOR} is not installed", embedded.INSTALL_HINT)
    _refuse_other_machine(uri)
    resources.enter_context(event_loop.running())
    directory = resources.enter_context(embedded.private_directory(journal))
    if not uri:
        embedded.configure(directory)
    try:
        handle = libvirt.open(uri) if uri else embedded.opened(directory)
    except libvirt.libvirtError as error:
        refused = uri or "its embedded driver"
        raise HostError(f"libvirt refuses {refused}: {error}", _refusal_hint(uri, str(error))) from error
    if uri:
        resources.callback(_quietly, handle.close)
        # A daemon that stands still is as good as lost.
        _quietly(handle.setKeepAlive, _KEEP_ALIVE_SECONDS, _KEEP_ALIVE_COUNT)
    version = handle.getVersion()  # major * 1,000,000 + minor * 1,000 + release (virConnectGetVersion)
    connection = Connection(
        uri=uri or handle.getURI(),
        root=None if uri else directory,
        directory=directory,
        journal=journal,
        handle=handle,
        output=resources.enter_context(OutputCollector()),
        emulator=Path(emulator),
        emulator_version=f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}",
    )
    lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    events = handle.domainEventRegisterAny(None, lifecycle, connection._dispatch, None)
    resources.callback(_quietly, handle.domainEventDeregisterAny, events)
    if uri:
        handle.registerCloseCallback(connection._closed, None)
        resources.callback(_quietly, handle.unregisterCloseCallback)
    resources.callback(connection.settle)
    return connection


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    """For the parting words to a connection that may be lost already."""
    try:
        call(*arguments)
    except libvirt.libvirtError:
        return


def _refuse_other_machine(uri: str) -> None:
    """A guest's marks are bytes in sockets of this machine; its kernel and initramfs are files of it."""
    host = urlsplit(uri).hostname
    if host and host not in {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()}:
        raise HostError(
            f"{uri} is another machine: a guest there cannot push marks onto this machine's clock",
            "run pybench on that machine",
        )


def _refusal_hint(uri: str, error: str) -> str:
    if not uri:
        return embedded.hint(error)
    hint = f"check the URI and your access to it: virsh --connect {uri} version"
    if uri.startswith("qemu:///"):
        hint = "sudo apt-get install libvirt-daemon-system, or leave the URI out: no daemon is needed"
    if embedded.is_loaded():
        hint += (
            "; libvirt's embedded driver, once used in a process, shuts daemons out:"
            " give all targets of a run one libvirt_uri"
        )
    return hint
