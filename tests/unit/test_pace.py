"""What a host that got slower explains of a change, and how its pace is taken."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.comparison.pace import UNKNOWN, Pace, Slowdown, unexplained
from pybench.harness.runner.pace import PROCESSORS, PaceMaker
from pybench.harness.stats import CellKey

NUMBERS = st.floats(-1e3, 1e3)


def cell(unit: str) -> CellKey:
    """A cell of this unit."""
    return "ready", "container", "metric", unit, ""


def test_the_pace_of_a_run_is_its_middle_and_its_tail() -> None:
    """The median of its launches, and how far the 90th percentile lies above it."""
    pace = Pace.of([2e-5] * 8 + [3e-5] * 2 + [4e-5])
    assert pace is not None
    assert pace == pytest.approx((2e-5, 1e-5))
    assert Pace.of([2e-5]) == (2e-5, 0.0)
    assert Pace.of([]) is Pace.of([0.0, 0.0]) is None


def test_a_slower_host_is_one_whose_fixed_work_takes_longer() -> None:
    """By shares of the pace before; nothing is explained where one of them is not known."""
    slowdown = Slowdown.between(Pace(2e-5, 1e-6), Pace(2.5e-5, 3e-6))
    assert slowdown == pytest.approx((0.25, 0.1))
    assert Slowdown.between(None, Pace(2e-5, 0.0)) == Slowdown.between(Pace(2e-5, 0.0), None) == UNKNOWN


def test_times_rise_rates_fall_and_sizes_stay() -> None:
    """A host that needs a quarter longer does four fifths of the work a second, in the same memory."""
    slowdown = Slowdown(0.25, 0.1)
    assert slowdown.explains(cell("s"), 4.0) == pytest.approx((1.0, 0.4))
    assert slowdown.explains(cell("1/s"), 100.0) == pytest.approx((-20.0, -10.0))
    assert slowdown.explains(cell("B/s"), 100.0) == pytest.approx((-20.0, -10.0))
    assert slowdown.explains(cell("B"), 100.0) == UNKNOWN


@given(NUMBERS, NUMBERS)
def test_what_a_host_explains_makes_a_change_no_larger(moved: float, explained: float) -> None:
    """It takes away no more than there is, nothing of a change against it, and of both signs alike."""
    left = unexplained(moved, explained)
    assert 0 <= left <= abs(moved)
    assert left == unexplained(-moved, -explained)
    assert moved * explained > 0 or left == abs(moved)
    assert left >= abs(moved) - abs(explained)


def test_the_pace_is_taken_on_every_processor_in_its_turn() -> None:
    """A few microseconds for a hundred calls, and this thread may run where it might before."""
    allowed = os.sched_getaffinity(0)
    pace_maker = PaceMaker()
    for _ in range(len(allowed) // PROCESSORS + 2):
        assert 1e-7 < pace_maker.seconds() < 10
        assert os.sched_getaffinity(0) == allowed
    one = {min(allowed)}
    os.sched_setaffinity(0, one)
    try:
        assert pace_maker.seconds() > 0
        assert os.sched_getaffinity(0) == one
    finally:
        os.sched_setaffinity(0, allowed)
