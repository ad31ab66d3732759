"""How late the harness sees a mark, by channel: measured before a run, reported, never subtracted."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pybench.harness.targets import MACHINES
from pybench.runtime.container.spawn import _spawn

BATCHES: Final = 5
ROUNDS: Final = 50
PUSH_SPACING: Final = 0.0005
"""Seconds between two pushes: long enough for the reader to be asleep again."""
WITH_SPAWNER: Final = frozenset({"process", "floor", "chroot", "container"})
PIPE_CHANNELS: Final = ("execve-pipe", "mark-pipe", "stdout-pipe")
SOCKET_CHANNELS: Final = ("isa-serial",)


@dataclass(frozen=True, slots=True)
class Latency:
    """From the push of a byte to the instant that the harness notes for it, in seconds."""

    median: float
    """Of the steadiest batch, as the probable error."""
    probable_error: float
    """Half the distance between the quartiles: half of all marks are no farther from the usual lateness.

    That of the steadiest batch, hence of the channel itself: what other work on the host adds is found out
    for each sample. The usual lateness is the same in every sample; it is in the figures, and told beside
    them.
    """
    high: float
    """95th percentile of all batches: as the host was."""
    is_whole: bool = True
    """False where only the host's end of the channel was measured: the rest is unknown and comes on top."""


def calibrate(kinds: Iterable[str]) -> dict[str, Latency]:
    """Channel → how late its marks are seen, for the channels that these kinds of target use.

    Pipes are watched by the C code that spawns, and are measured in it. Of a serial line only the host's end
    can be measured: a socket that a thread of Python reads. What QEMU takes comes on top, so such marks err
    by their resolution all the same.
    """
    wanted = set(kinds)
    found: dict[str, Latency] = {}
    if wanted & WITH_SPAWNER:
        found.update(dict.fromkeys(PIPE_CHANNELS, _latency(pipe_latencies)))
    if wanted & MACHINES:
        hosts_end = replace(_latency(socket_latencies), is_whole=False)
        found.update(dict.fromkeys(SOCKET_CHANNELS, hosts_end))
    return found


def calibration_fields(calibration: Mapping[str, Latency]) -> dict[str, str]:
    """The calibration as fields of the environment, `calibration.<channel>.p50` and so on, in seconds."""
    return {
        f"calibration.{channel}.{name}": f"{value:.3g}"
        for channel, latency in calibration.items()
        for name, value in (("p50", latency.median), ("p95", latency.high), ("error", latency.probable_error))
        if name != "error" or latency.is_whole
    }


def pipe_latencies(rounds: int) -> list[float]:
    """Seconds from a thread's push into a pipe to this thread's wake-up, once per round."""
    return [nanoseconds * 1e-9 for nanoseconds in _spawn.pipe_latencies(rounds)]


def socket_latencies(rounds: int) -> list[float]:
    """Seconds from a thread's push into a UNIX socket to this thread's wake-up, once per round."""
    reader, writer = socket.socketpair()
    pushed: list[int] = []

    def push() -> None:
        for _ in range(rounds):
            time.sleep(PUSH_SPACING)
            pushed.append(time.monotonic_ns())
            writer.send(b"x")

    seen = []
    thread = threading.Thread(target=push, name="pybench-calibration")
    with reader, writer:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        thread.start()
        for _ in range(rounds):
            poll.poll()
            seen.append(time.monotonic_ns())
            reader.recv(1)
        thread.join()
    return [(late - early) * 1e-9 for early, late in zip(pushed, seen, strict=True)]


def _latency(measure: Callable[[int], list[float]]) -> Latency:
    batches = [sorted(measure(ROUNDS)) for _ in range(BATCHES)]
    steadiest = min(batches, key=_probable_error)
    together = sorted(value for batch in batches for value in batch)
    return Latency(_at(steadiest, 0.5), _probable_error(steadiest), _at(together, 0.95))


def _probable_error(ordered: Sequence[float]) -> float:
    return (_at(ordered, 0.75) - _at(ordered, 0.25)) / 2


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
