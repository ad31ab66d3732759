"""The host's side of an interactive instance: a terminal in raw mode, and its changes of size."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Have every key go to the instance, Ctrl-C included; the terminal is put back on leaving.

    What is no terminal is left as it is.
    """
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def size_changes() -> Iterator[int]:
    """An eventfd that becomes readable when the terminal's size has changed (SIGWINCH).

    Python runs handlers of signals in its main thread alone; elsewhere it never becomes readable.
    """
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        if threading.current_thread() is not threading.main_thread():
            yield descriptor
            return

        def changed(_number: int, _frame: Any) -> None:  # noqa: ANN401 - the signal module's signature
            os.eventfd_write(descriptor, 1)

        before = signal.signal(signal.SIGWINCH, changed)
        try:
            yield descriptor
        finally:
            signal.signal(signal.SIGWINCH, before)
    finally:
        os.close(descriptor)


def size_of(descriptor: int) -> tuple[int, int]:
    """Rows and columns; those of the classic terminal for what is none."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 24, 80
    return rows, columns
