"""What instances print is bounded when kept and escaped when shown."""

from __future__ import annotations

import os
import time

from hypothesis import given
from hypothesis import strategies as st

from pybench.runtime.output import TAIL_BYTES, OutputCollector, Tail, printable


@given(st.binary(max_size=200))
def test_any_bytes_become_printable(data: bytes) -> None:
    """No control character but tab and line end survives, whatever the guest printed."""
    assert all(character.isprintable() or character in "\n\t" for character in printable(data))


def test_terminal_escapes_are_shown_not_obeyed() -> None:
    """An escape sequence appears as text."""
    assert printable(b"\x1b[2Jgone\r\n\xff") == "\\x1b[2Jgone\n\\xff"


def test_only_the_last_bytes_are_kept() -> None:
    """A tail holds no more than its bound, and holds the end."""
    tail = Tail()
    for number in range(10_000):
        tail.feed(f"{number:09}\n".encode())
    assert len(tail.data) == TAIL_BYTES
    assert tail.text.endswith("000009999\n")


def test_a_full_pipe_is_emptied() -> None:
    """A writer that prints more than a pipe holds is not blocked."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    tail = Tail()
    with OutputCollector() as collector:
        collector.add(reader, tail)
        for _ in range(8):
            os.write(writer, b"x" * 65536)
        os.write(writer, b"end")
        os.close(writer)
        deadline = time.monotonic() + 60
        while not tail.data.endswith(b"end") and time.monotonic() < deadline:
            time.sleep(0.001)
        collector.remove(reader)
    os.close(reader)
    assert tail.data.endswith(b"end")
