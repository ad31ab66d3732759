"""Instants that a workload has read off the clock that it shares with the host."""

from __future__ import annotations

import os

import pytest

from pybench.runtime.container.workload_clock import CHANNEL, EXEC, LINE, WorkloadClock, clock_resolution
from pybench.runtime.marks import Mark

SEEN = Mark("ready", 2_000, "stdout-pipe", 1e-5)


def told(pushed: bytes, offset: int = 0) -> WorkloadClock:
    """What is made of these bytes."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        if pushed:
            os.write(writer, pushed)
        return WorkloadClock.read(reader, offset)
    finally:
        os.close(reader)
        os.close(writer)


def test_an_instant_takes_the_place_of_its_arrival_which_is_kept() -> None:
    """The mark says by which channel the host knows it, and how the host has seen it itself."""
    mark = told(b"exec 1000\nline 1500\n").mark(LINE, 1_000, SEEN)
    assert (mark.name, mark.at, mark.channel, mark.arrived) == ("ready", 1_500, CHANNEL, SEEN)
    assert mark.resolution == clock_resolution() > 0


def test_a_time_namespace_is_taken_out() -> None:
    """A container's clock begins at zero; its offset is what the host has written down."""
    assert told(b"exec 100\n", offset=-1_100).mark(EXEC, 0, SEEN).at == 1_200


@pytest.mark.parametrize(
    "pushed",
    [
        b"",
        b"exec\n",
        b"exec 1500\n",
        b"line\n",
        b"line 2001\n",
        b"line 999\n",
        b"line -1500\n",
        b"line 1500",
        b"line 1500 \n",
        b"line 0x5dc\n",
        b"line 99999999999999999999999999\n",
        b"\xff" * 300 + b"\nline 1500\n",
    ],
)
def test_what_cannot_be_is_not_believed(pushed: bytes) -> None:
    """An instant before what came before it, after its arrival, or not told at all: the arrival stands."""
    assert told(pushed).mark(LINE, 1_000, SEEN) is SEEN
