"""What an instance prints: hostile, so it is bounded when kept and escaped when shown."""

from __future__ import annotations

import os
import selectors
import threading
from types import TracebackType
from typing import Self

TAIL_BYTES = 16 * 1024
READ_BYTES = 64 * 1024


def printable(data: bytes) -> str:
    """Text with everything but printable characters, tabs and line ends escaped."""
    text = data.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(
        character if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )  # fmt: skip


class Tail:
    """The last `TAIL_BYTES` bytes of a stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Append, forgetting what is too old."""
        self._data += data
        if len(self._data) > TAIL_BYTES:
            del self._data[:-TAIL_BYTES]

    @property
    def text(self) -> str:
        """What is kept, escaped."""
        return printable(bytes(self._data))

    @property
    def data(self) -> bytes:
        """What is kept, as it came."""
        return bytes(self._data)


class OutputCollector:
    """One thread that empties the pipes of every running instance, so that none blocks on a full one.

    It sleeps in epoll and costs nothing while nobody prints.
    """

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._ending = False
        self._thread = threading.Thread(target=self._collect, name="pybench-output", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._selector.close()
        os.close(self._wake)

    def add(self, descriptor: int, tail: Tail) -> None:
        """Empty a non-blocking descriptor into a tail from now on."""
        with self._lock:
            self._selector.register(descriptor, selectors.EVENT_READ, tail)

    def remove(self, descriptor: int) -> None:
        """Stop; what is still in the pipe goes into the tail first."""
        with self._lock:
            try:
                key = self._selector.unregister(descriptor)
            except KeyError:
                return  # it had ended by itself
            drain(descriptor, key.data)

    def _collect(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select():
                with self._lock:
                    if key.fd == self._wake or key.fd not in self._selector.get_map():
                        continue
                    if not drain(key.fd, key.data):
                        self._selector.unregister(key.fd)


def drain(descriptor: int, tail: Tail) -> bool:
    """Read what is there, one buffer at most; false once the writers are gone."""
    try:
        data = os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        return False
    tail.feed(data)
    return bool(data)
