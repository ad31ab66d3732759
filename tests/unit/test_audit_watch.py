"""What an audited instance uses, as the host's readings tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybench.harness.audit.watch import SPAN, Watch
from pybench.runtime.container.cgroup.base import Usage

NOTHING = Usage(None, None, None, None, None, None, None, None)


def cpu(usage: Usage) -> float | None:
    """Its processor time."""
    return usage.cpu_seconds


def readings(*points: tuple[float, float]) -> Watch:
    """A watch that read these processor times, in seconds."""
    return Watch([(at, at, replace(NOTHING, cpu_seconds=used)) for at, used in points])


def test_the_highest_rate_is_that_of_the_busiest_span() -> None:
    """Half a second at two processors between idle seconds counts as two."""
    watched = readings((0, 0), (1, 0), (1.25, 0.5), (1.5, 1.0), (2.5, 1.0))
    assert watched.highest_rate(cpu) == pytest.approx(2.0)


def test_a_burst_that_is_shorter_than_a_span_is_averaged_over_it() -> None:
    """No rate is taken over less than the span."""
    watched = readings((0, 0), (0.01, 0.1), (SPAN + 0.02, 0.1))
    assert watched.highest_rate(cpu) == pytest.approx(0.1 / (SPAN + 0.02))


def test_a_reading_that_was_interrupted_makes_no_rate_higher() -> None:
    """What a busy host let it read late was used until then."""
    watched = Watch(
        [
            (0, 0, replace(NOTHING, cpu_seconds=0)),
            (SPAN, 4 * SPAN, replace(NOTHING, cpu_seconds=4 * SPAN)),
        ]
    )
    assert watched.highest_rate(cpu) == pytest.approx(1.0)


def test_what_is_not_counted_has_no_rate() -> None:
    """None is not zero: nothing is known."""
    watched = Watch([(0, 0, NOTHING), (9, 9, NOTHING)])
    assert watched.highest_rate(cpu) is None
    assert watched.highest(lambda usage: usage.pids) is None
    assert readings((0, 0)).highest_rate(cpu) is None


def test_peaks_and_growth_are_of_the_whole_time() -> None:
    """The highest of a figure, and the last of a counter less the first."""
    watched = Watch(
        [
            (at, at, replace(NOTHING, pids=pids, oom_kills=kills))
            for at, pids, kills in ((0, 3, 1), (1, 9, 1), (2, 4, 3))
        ]
    )
    assert watched.highest(lambda usage: usage.pids) == 9
    assert watched.growth(lambda usage: usage.oom_kills) == 2
