"""libvirt's event loop, in a thread of its own for as long as a connection is open.

It must be registered before the first connection is opened, or that connection gets no events
(https://libvirt.org/html/libvirt-libvirt-event.html, virEventRegisterImpl).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import libvirt

from pybench.runtime.errors import LeftoverError

if TYPE_CHECKING:
    from collections.abc import Iterator

END_SECONDS: Final = 5.0


class _Loop:
    """The one loop of the process; users are counted, the last one ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered = False
        self._users = 0
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        with self._lock:
            if not self._registered:
                libvirt.virEventRegisterDefaultImpl()
                # The default handler prints every error that is raised as well.
                libvirt.registerErrorHandler(lambda _opaque, _error: None, None)
                self._registered = True
            self._users += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
                self._thread.start()

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._thread is None:
                return
            # An expired timeout wakes the loop up, so that it sees that nobody needs it.
            timer = libvirt.virEventAddTimeout(0, lambda _timer, _opaque: None, None)
            self._thread.join(END_SECONDS)
            libvirt.virEventRemoveTimeout(timer)
            if self._thread.is_alive():
                raise LeftoverError("libvirt's event loop did not end")
            self._thread = None

    def _run(self) -> None:
        while self._users:
            libvirt.virEventRunDefaultImpl()


_loop = _Loop()


@contextmanager
def running() -> Iterator[None]:
    """Have the event loop run; when the last user leaves, its thread has ended.

    Raises:
        LeftoverError: the thread did not end.
    """
    _loop.enter()
    try:
        yield
    finally:
        _loop.leave()


def library_version() -> str:
    """The version of libvirt's client library, e.g. `9.0.0`."""
    # Encoded as major * 1,000,000 + minor * 1,000 + release (virGetVersion).
    number = libvirt.getVersion()
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
