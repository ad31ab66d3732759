"""The thread that answers containers' system calls: one for all of them.

A call can only be answered while its caller sleeps, so the thread never waits for anything a
container could hold back but the page of memory that the answer goes to. Each container has a pace:
one that asks without a pause waits for its answers, instead of having the harness work for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pybench.runtime.container import notify
from pybench.runtime.container.notify import Answer, Handler
from pybench.runtime.errors import LeftoverError

INTERVAL: Final = 0.005
"""Seconds between a container's calls, if it makes many."""
AT_ONCE: Final = 50
"""How many calls it may make without that."""
PATIENCE: Final = 2.0
"""Seconds until an answer under way must be finished."""
_EVENTS: Final = 64


@dataclass(slots=True)
class _Container:
    handlers: Mapping[int, Handler]
    paid_until: float = 0.0
    """When its calls so far would have ended at one per interval (the generic cell rate algorithm)."""
    resting: bool = False


class Supervisor:
    """Answers what filters hand over; a context manager that verifies that no container is left."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._containers: dict[int, _Container] = {}
        self._dismissed: list[int] = []
        self._lock = threading.Lock()
        self._ending = False
        self._thread = threading.Thread(target=self._serve, name="pybench-supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise LeftoverError("the thread that answers containers' system calls does not end")
        self._epoll.close()
        os.close(self._wake)
        if self._containers:
            raise LeftoverError(f"{len(self._containers)} containers' system calls were still to be answered")

    @property
    def descriptor(self) -> int:
        """The epoll descriptor that listeners are added to."""
        return self._epoll.fileno()

    @contextlib.contextmanager
    def answering(self, handlers: Mapping[int, Handler]) -> Iterator[int]:
        """Answer one container's calls; other calls than these answer ENOSYS.

        Yields:
            A descriptor to be replaced by the container's listener (`Spawner.spawn` does) and then added
            to `descriptor`. It is made ahead of the start, so that already the first call finds its handler.

        Raises:
            LeftoverError: at the end, if an answer under way does not finish.
        """
        place = os.eventfd(0, os.EFD_CLOEXEC)
        with self._lock:
            self._containers[place] = _Container(handlers)
        try:
            yield place
        finally:
            self._dismissed.append(place)
            if not self._lock.acquire(timeout=PATIENCE):
                # The thread lets go of it as soon as it can.
                raise LeftoverError(
                    "an answer to a container's system call does not finish",
                    "the page that it goes to may be a file's whose file system does not answer",
                )
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        """Close the listeners that are not wanted any more; from then on their calls answer ENOSYS."""
        while self._dismissed:
            place = self._dismissed.pop()
            del self._containers[place]
            os.close(place)

    def _serve(self) -> None:
        while not self._ending:
            for descriptor, event in self._epoll.poll(self._until_a_rest_ends(), _EVENTS):
                with self._lock:
                    # It may have gone, and another container have taken its number, since the poll.
                    container = self._containers.get(descriptor)
                    if container is not None:
                        self._attend(descriptor, event, container)

    def _attend(self, listener: int, event: int, container: _Container) -> None:
        if not notify.is_pending(listener):
            if event & select.EPOLLHUP:
                # Its last process has ended; it would be told again and again.
                with contextlib.suppress(FileNotFoundError):
                    self._epoll.unregister(listener)
            return
        now = time.monotonic()
        if container.paid_until - now > AT_ONCE * INTERVAL:
            container.resting = True
            self._epoll.modify(listener, 0)
            return
        container.paid_until = max(container.paid_until, now) + INTERVAL
        # A caller that is gone by now is no reason to stop answering the others.
        with contextlib.suppress(OSError):
            call = notify.receive(listener)
            notify.respond(listener, call, _answer(container.handlers, call))

    def _until_a_rest_ends(self) -> float | None:
        """Take up again those whose rest has ended; seconds until the next rest does, None without one."""
        now = time.monotonic()
        left = []
        with self._lock:
            self._let_go()
            for listener, container in self._containers.items():
                if not container.resting:
                    continue
                rest = container.paid_until - AT_ONCE * INTERVAL - now
                if rest > 0:
                    left.append(rest)
                else:
                    container.resting = False
                    with contextlib.suppress(FileNotFoundError):
                        self._epoll.modify(listener, select.EPOLLIN)
        return min(left, default=None)


def _answer(handlers: Mapping[int, Handler], call: notify.Notification) -> Answer:
    handler = handlers.get(call.number)
    if handler is None:
        return Answer(error=errno.ENOSYS)
    try:
        return handler(call)
    except (OSError, ValueError):
        # What it asks about has just gone; the thread must go on for the others.
        return Answer(error=errno.EAGAIN)
