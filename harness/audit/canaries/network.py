"""Sockets of the host that answer everybody with a token, and marked frames on its loopback."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - that it listens everywhere is the point
FRAME_INTERVAL: Final = 0.01
_DISCARD: Final = 9
"""UDP port 9 (RFC 863); nobody needs to listen for a frame to be on the wire."""


class _Answering:
    """One thread that answers on any number of sockets."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="pybench-canary", daemon=True)

    def add(self, listening: socket.socket, token: str) -> None:
        """Answer on a socket with a token; before `start`."""
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ, token.encode())

    def start(self, removal: ExitStack) -> None:
        """Serve until the removal."""
        self._thread.start()
        removal.callback(self._stop)

    def _stop(self) -> None:
        self._wake.send(b"!")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._wake.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                waiting = key.fileobj
                if waiting is self._woken:
                    return
                if isinstance(waiting, socket.socket):
                    with contextlib.suppress(OSError):
                        _answer(waiting, key.data)


def _answer(waiting: socket.socket, token: bytes) -> None:
    if waiting.type == socket.SOCK_DGRAM:
        _, sender = waiting.recvfrom(64)
        waiting.sendto(token, sender)
        return
    connection, _ = waiting.accept()
    with connection:
        connection.setblocking(False)
        connection.send(token)


class ListenersCanary(Canary):
    """TCP and UDP, on the loopback alone and on every address."""

    name = "listeners"

    def plant(self, removal: ExitStack) -> None:
        """Listen on ports that the kernel chooses, so that none can be taken already."""
        answering = _Answering()
        self.loopback_token, self.open_token = self.token(), self.token()
        ports = []
        for address, token in ((LOOPBACK, self.loopback_token), (EVERYWHERE, self.open_token)):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                listening = socket.socket(socket.AF_INET, kind)
                listening.bind((address, 0))
                if kind == socket.SOCK_STREAM:
                    listening.listen(16)
                answering.add(listening, token)
                ports.append(int(listening.getsockname()[1]))
        answering.start(removal)
        self.loopback_tcp, self.loopback_udp, self.open_tcp, self.open_udp = ports


class AbstractSocketCanary(Canary):
    """A UNIX socket in the abstract name space, one whose name is a token, and one in the file system."""

    name = "unix-sockets"

    def plant(self, removal: ExitStack) -> None:
        """Listen on all three."""
        answering = _Answering()
        self.abstract_name = f"pybench-canary-{os.urandom(4).hex()}"
        self.abstract_token, self.name_token, self.path_token = self.token(), self.token(), self.token()
        self.path = self.planting.place.path / "engine.sock"
        names = (
            (b"\0" + self.abstract_name.encode(), self.abstract_token),
            (b"\0" + self.name_token.encode(), self.name_token),
            (os.fsencode(self.path), self.path_token),
        )
        for name, token in names:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(name)
            listening.listen(16)
            answering.add(listening, token)
        self.path.chmod(0o666)
        answering.start(removal)


class FramesCanary(Canary):
    """Datagrams with a token in them, sent over the loopback again and again."""

    name = "frames"

    def plant(self, removal: ExitStack) -> None:
        """Send them until the removal."""
        token = self.token().encode()
        ended = threading.Event()

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                while not ended.wait(FRAME_INTERVAL):
                    with contextlib.suppress(OSError):
                        sender.sendto(token, (LOOPBACK, _DISCARD))

        _run_until(removal, send, ended)


def _run_until(removal: ExitStack, work: Callable[[], None], ended: threading.Event) -> None:
    thread = threading.Thread(target=work, name="pybench-canary", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise CannotPlantError(f"no thread for a canary: {error}") from error
    removal.callback(thread.join)
    removal.callback(ended.set)
