"""What the program `measure` prints, as the harness reads it: strictly, since a guest may print anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.errors import InstanceError
from pybench.harness.measure.program import LimitTried, ProcessorTried, Work, parse_printed, work_command

WORK: dict[str, Any] = {
    "kind": "cpu",
    "amount": 1000,
    "warming": 500,
    "span": 60,
    "checksum": 2**64 - 1,
    "batches": [10, 20, 30],
}
LATENCY = {"n": 3, "p50": 10, "p95": 20, "p99": 20, "maximum": 20}


def line(**changes: object) -> bytes:
    """A result with something changed; None leaves a key out."""
    merged = {**WORK, **changes}
    return (
        b"begin\n" + json.dumps({key: value for key, value in merged.items() if value is not None}).encode()
    )


def test_a_result_is_read() -> None:
    """Numbers of 64 bits included."""
    work = parse_printed(Work, "cpu", 0, line(latency=LATENCY), b"")
    assert (work.total, work.span, work.checksum) == (3000, 60, 2**64 - 1)
    assert work.latency is not None
    assert work.latency.p50 == 10


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (b"", "did not print a result"),
        (b"begin\n", "no valid result"),
        (b"begin\n[]", "no valid result"),
        (b"begin\n" + b"9" * 9000, "did not print a result"),
        (line().removeprefix(b"begin\n"), "did not print a result"),
        (line() + b"{}", "no valid result"),
        (line(kind="syscall"), "of another kind"),
        (line(kind="\x1b[2J"), "kind"),
        (line(amount=0), "amount"),
        (line(amount=1.5), "amount"),
        (line(amount="1000"), "amount"),
        (line(amount=True), "amount"),
        (line(span=61), "the batches are not the span"),
        (line(batches=[10, 20, 0, 30]), "batches.2"),
        (line(batches=[30, 30]), "batches"),
        (line(batches=[1] * 101, span=101), "batches"),
        (line(batches=[10**15] * 3, span=3 * 10**15), "span"),
        (line(checksum=2**64), "checksum"),
        (line(checksum=None), "checksum"),
        (line(extra=1), "extra"),
        (line(latency={**LATENCY, "p95": 5}), "not in order"),
        (line(latency={**LATENCY, "n": 30}), "do not fit into the span"),
        (line(latency={**LATENCY, "p50": -1}), "latency.p50"),
    ],
)
def test_what_it_never_prints_is_refused(output: bytes, problem: str) -> None:
    """Wrong types, sums, orders and bounds, in one line of printable text."""
    with pytest.raises(InstanceError, match=problem) as caught:
        parse_printed(Work, "cpu", 0, output, b"")
    assert caught.value.message.isprintable()


def test_a_failure_is_told_in_its_own_words() -> None:
    """The program's line of error, escaped; or the status where there is none."""
    with pytest.raises(InstanceError, match=r"/bin/measure cpu failed: mmap a buffer: \\x1b"):
        parse_printed(Work, "cpu", 1, b"", b"measure: mmap a buffer: \x1b\n")
    with pytest.raises(InstanceError, match="failed: status -9"):
        parse_printed(Work, "cpu", -9, line(), b"")


@given(st.binary(max_size=300))
def test_nothing_a_guest_prints_gets_through_as_anything_else(output: bytes) -> None:
    """Bytes of any kind end in the one error there is for it."""
    with pytest.raises(InstanceError):
        parse_printed(Work, "cpu", 0, b"begin\n" + output, b"")


def test_limits_that_were_tried_are_read() -> None:
    """How far it got, and how it ended."""
    tried = b'begin\n{"kind":"limit.memory","span":5,"reached":4096,"ending":"killed"}\n'
    assert parse_printed(LimitTried, "limit.memory", 0, tried, b"").reached == 4096
    with pytest.raises(InstanceError, match="ending"):
        parse_printed(LimitTried, "limit.memory", 0, tried.replace(b"killed", b"maimed"), b"")
    used = b'begin\n{"kind":"limit.processor","span":5,"workers":2,"used":9}\n'
    assert parse_printed(ProcessorTried, "limit.processor", 0, used, b"").used == 9


def test_a_command_line_says_what_was_asked_for() -> None:
    """Times in milliseconds, and only the options that were given."""
    assert work_command("cpu", 0.5) == ("/bin/measure", "cpu", "--milliseconds", "500")
    assert work_command("network.send", 1, server=("10.0.0.1", 80))[-4:] == (
        "--address",
        "10.0.0.1",
        "--port",
        "80",
    )
    assert work_command("file.fsync", 0.0001, size=1 << 20, directory="/mnt")[2:] == (
        "--milliseconds", "1", "--size", "1048576", "--directory", "/mnt",
    )  # fmt: skip
