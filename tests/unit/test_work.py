"""Work that is timed by two clocks: what is counted, and what must not count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pybench.harness.errors import InstanceError
from pybench.harness.measure.error import estimated_error, rejections
from pybench.harness.measure.work import Timed, timed
from pybench.harness.targets.base import PIPE, Completed

SECOND = 10**9


def completed(inside: int, host: int | None, **changes: object) -> Completed:
    """A command whose own clock tells `inside` nanoseconds, and the host's `host`."""
    batches = [inside // 4, inside // 4, inside - 2 * (inside // 4)]
    result = {"kind": "cpu", "amount": 1000, "warming": 1, "span": inside, "checksum": 1, "batches": batches}
    line = b"begin\n" + json.dumps({**result, **changes}).encode()
    return Completed(0, line, b"", "virtio-serial", None if host is None else (5 * SECOND, 5 * SECOND + host))


def test_a_rate_is_by_the_hosts_clock() -> None:
    """Three batches of 1000 in a second of the host's; the clocks' difference is its estimated error."""
    reading = timed("cpu", completed(SECOND - 4_000_000, SECOND)).rate("throughput.cpu", "1/s")
    assert reading.value == pytest.approx(3000)
    assert (reading.unit, reading.channel) == ("1/s", "virtio-serial")
    error = estimated_error(reading, {}, 0.0)
    assert error == pytest.approx(3000 * 0.004)
    assert rejections([reading], [error]) == [""]
    assert reading.qualifiers == {"spread": "100.0%"}


@pytest.mark.parametrize("inside", [SECOND * 13 // 10, SECOND * 98 // 100])
def test_a_clock_that_contradicts_the_hosts_is_told(inside: int) -> None:
    """Fast or slow: the value is kept, with both clocks in the reason for which it does not count."""
    work = timed("cpu", completed(inside, SECOND))
    reading = work.rate("throughput.cpu", "1/s")
    (reason,) = rejections([reading], [estimated_error(reading, {}, 0.0)])
    assert "the clock inside tells" in reason
    assert "the host's tells 1.000 s" in reason
    assert reading.value == pytest.approx(3000)


def test_a_program_on_the_hosts_kernel_is_timed_by_the_clock_that_both_have() -> None:
    """However late its result was seen: only reading the clock errs."""
    late = replace(completed(SECOND, 2 * SECOND), channel=PIPE)
    reading = timed("cpu", late).rate("throughput.cpu", "1/s")
    assert reading.value == pytest.approx(3000)
    assert (reading.channel, reading.doubt) == ("workload-clock", "")
    error = estimated_error(reading, {}, 1.0)
    assert error > 0
    assert rejections([reading], [error]) == [""]


def test_latencies_are_by_the_clock_inside_and_fall_with_it() -> None:
    """The host cannot see a single operation; where the clocks differ, neither figure counts."""
    latency = {"n": 3000, "p50": 100, "p95": 200, "p99": 250_000, "maximum": 300_000}

    def read(inside: int) -> str:
        work: Timed = timed("cpu", completed(inside, SECOND, latency=latency))
        reading = work.latency("latency.p99", 250_000)
        assert reading.value == pytest.approx(250e-6)
        assert reading.channel == "program-clock"
        (reason,) = rejections([reading], [estimated_error(reading, {}, 0.0)])
        return reason

    assert read(SECOND) == ""
    assert "the clock inside tells" in read(2 * SECOND)


def test_a_result_that_was_not_seen_to_begin_is_refused() -> None:
    """A guest that prints all at once has not been timed by anybody."""
    for host in (None, 0):
        with pytest.raises(InstanceError, match="cannot be timed"):
            timed("cpu", completed(SECOND, host))
