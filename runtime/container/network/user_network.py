"""The network of an ordinary user's container: a program that is its gateway, in user space.

Without privilege nobody can put a link between a container and the host. pasta and slirp4netns need
none: they hold a tap device inside the container's namespace and make, as the user, the connections
that it asks for. So a container with such a network reaches whatever its user reaches (other
hosts, the cloud's metadata address), except this host's own loopback address.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container.leftovers import start_ticks
from pybench.runtime.errors import HostError, InstanceError
from pybench.runtime.journal import Journal, state_directory

START_PATIENCE = 10.0
"""Seconds in which the program must be ready."""
STOP_PATIENCE = 5.0
PUBLISHED_ON = "127.0.0.1"
TAP_DEVICE = "/dev/net/tun"

Starter = Callable[[Journal, str, int, Mapping[int, int]], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """A program of this host that gives an ordinary user's container a network."""

    name: str
    program: str

    @property
    def qualifiers(self) -> dict[str, str]:
        """What must be said beside every number."""
        return {"net": self.name, "outgoing": "open"}

    def attached(
        self, journal: Journal, pid: int, ports: Mapping[int, int] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Give the network namespace of a child a network, for as long as the block lasts.

        `ports` are TCP ports to publish on the host's 127.0.0.1: host's port → container's.

        Raises:
            InstanceError: it did not become ready.
            HostError: it cannot publish ports.
        """
        return _STARTERS[self.name](journal, self.program, pid, ports or {})


def detect_user_network() -> UserNetwork | None:
    """The program to use, pasta before slirp4netns, or None: then there is no network but `none`.

    Root has the bridge instead: pasta would give up the rights that it needs to join the namespace.
    """
    if os.geteuid() == 0 or not os.access(TAP_DEVICE, os.R_OK | os.W_OK):
        return None
    for name in _STARTERS:
        if program := shutil.which(name):
            return UserNetwork(name, program)
    return None


@contextlib.contextmanager
def _pasta(journal: Journal, program: str, pid: int, ports: Mapping[int, int]) -> Iterator[None]:
    """pasta(1), which tells that it is ready by writing its pid file: here a FIFO."""
    with _scratch_directory(journal) as directory:
        ready = directory / "ready"
        os.mkfifo(ready, 0o600)
        # Open for writing as well, so that opening waits for nobody and the end is not seen early.
        descriptor = os.open(ready, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            published = [f"{PUBLISHED_ON}/{outer}:{inner}" for outer, inner in ports.items()]
            command = [
                program,
                "--foreground",
                "--quiet",
                *("--pid", str(ready)),
                "--config-net",
                "--no-map-gw",  # else the gateway's address is the host's loopback
                *("--tcp-ports", ",".join(published) or "none"),
                *("--udp-ports", "none"),
                *("--tcp-ns", "none"),  # else the host's loopback ports appear inside
                *("--udp-ns", "none"),
                str(pid),
            ]
            with _running(journal, command, descriptor):
                yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _scratch_directory(journal: Journal) -> Iterator[Path]:
    directory = state_directory() / f"network-{os.urandom(4).hex()}"
    number = journal.record("directory", path=str(directory))
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        journal.forget(number)


@contextlib.contextmanager
def _slirp4netns(journal: Journal, program: str, pid: int, ports: Mapping[int, int]) -> Iterator[None]:
    """slirp4netns(1), which tells on a descriptor that it is ready, and ends when another is closed."""
    if ports:
        raise HostError("slirp4netns cannot publish ports for pybench", "apt-get install passt")
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    exit_end, exit_ = os.pipe2(os.O_CLOEXEC)
    try:
        command = [
            program,
            "--configure",
            "--disable-host-loopback",
            "--enable-seccomp",
            f"--ready-fd={ready_end}",
            f"--exit-fd={exit_end}",
            str(pid),
            "tap0",
        ]
        with _running(journal, command, ready, passed=(ready_end, exit_end)):
            yield
    finally:
        for descriptor in (ready, ready_end, exit_end, exit_):
            os.close(descriptor)


_STARTERS: Mapping[str, Starter] = {"pasta": _pasta, "slirp4netns": _slirp4netns}


@contextlib.contextmanager
def _running(
    journal: Journal, command: list[str], ready: int, passed: tuple[int, ...] = ()
) -> Iterator[None]:
    """Run a program from when it says that it is ready to the end of the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=passed, start_new_session=True
        )
        number = journal.record("session", session=process.pid, started=start_ticks(process.pid) or 0)
        try:
            if not _await_ready(process, ready):
                log.seek(0)
                said = log.read(4096).decode(errors="backslashreplace")
                raise InstanceError(f"{Path(command[0]).name} did not become ready", log=said)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            journal.forget(number)


def _await_ready(process: subprocess.Popen[bytes], ready: int) -> bool:
    """Wait for the first byte; false if the program ends before, or takes too long."""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        for descriptor in (ready, ended):
            poll.register(descriptor, select.POLLIN)
        return ready in dict(poll.poll(START_PATIENCE * 1000))
    finally:
        os.close(ended)
