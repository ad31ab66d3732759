"""Ctrl-C and SIGTERM, let through only where something may be cut short.

By default a signal is noted and waits. Inside `allowed()` it raises KeyboardInterrupt, once: whatever follows
(stopping an instance, storing samples, cleaning up) then runs to its end, however often the user asks again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Takes the signals over while it is entered; only in the main thread, where Python delivers them.

    A signal that was ignored when it is entered stays ignored (`nohup` ignores SIGHUP).
    """

    def __init__(self) -> None:
        self._requested = False
        self._allowed = False
        self._raised = False
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._requested

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                previous = signal.getsignal(number)
                if previous is not signal.SIG_IGN:
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the former handlers back."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A region that a signal may cut short, also one that arrived before it."""
        if self._requested:
            self._raised = True
            raise KeyboardInterrupt
        self._allowed = True
        try:
            yield
        finally:
            # A signal between the last line above and this one raises for the first and last time.
            self._allowed = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside of `allowed()`, a part that is not cut short; a signal in between raises after it."""
        was_allowed, self._allowed = self._allowed, False
        try:
            yield
        finally:
            self._allowed = was_allowed
        if was_allowed and self._requested and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's signature
        self._requested = True
        if self._allowed and not self._raised:
            self._raised = True
            raise KeyboardInterrupt
