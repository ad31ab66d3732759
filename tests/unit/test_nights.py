"""Limits learn from the nights before what nights differ by."""

from __future__ import annotations

import numpy as np
import pytest

from pybench.harness.comparison.limits import DEFAULTS, Limit, Limits
from pybench.harness.comparison.nights import Night, Series, deviation_of, widened
from pybench.harness.stats import CellKey

CELLS: list[CellKey] = [("ready", target, "startup.ready", "s", "") for target in "abcd"]
CELL = CELLS[0]
USUAL = DEFAULTS["s"].relative


def learnt(medians: list[float]) -> float:
    """The share that a change must exceed after nights with these medians, the last being the candidate's."""
    return widened(Limits(), series_of(medians), [CELL]).of(CELL).relative


def series_of(medians: list[float], tails: list[float] | None = None) -> Series:
    """Nights of one cell; without other tails of a twentieth of a usual median."""
    known = tails or [1e-4] * len(medians)
    return {CELL: [Night("night", *each) for each in zip(medians, known, strict=True)]}


def nights(number: int, spread: float, seed: int = 1) -> list[float]:
    """Medians around 2 ms whose nights differ by a share."""
    return [float(each) for each in 2e-3 * np.random.default_rng(seed).normal(1, spread, number)]


def test_quiet_nights_leave_the_limit() -> None:
    """From ten earlier ones on it is the usual one; before, it comes down to it night by night."""
    quiet = nights(41, 0.002)
    assert learnt(quiet[:11]) == learnt(quiet) == USUAL
    shares = [learnt(quiet[:number]) for number in (2, 4, 6, 8, 11)]
    assert shares == sorted(shares, reverse=True)
    assert 1.5 * USUAL < shares[0] < 3 * USUAL
    assert widened(Limits(), {}, [CELL]).of(CELL).relative == pytest.approx(shares[0], rel=0.1)


def test_noisy_nights_widen_the_limit_at_once() -> None:
    """Five of them are enough to be told from quiet ones."""
    assert learnt(nights(6, 0.1)) > 0.2
    assert learnt(nights(41, 0.1)) > 0.2


def test_the_more_cells_the_wider_is_each_limit() -> None:
    """It is the night that may not raise an alarm, not each cell by itself."""
    noisy = {cell: series_of(nights(21, 0.02))[CELL] for cell in CELLS}
    alone = widened(Limits(), noisy, CELLS[:1]).of(CELL).relative
    assert widened(Limits(), noisy, CELLS).of(CELL).relative > 1.1 * alone > USUAL


def test_a_night_remembers_its_worst_tenth() -> None:
    """Of times the longest, above the median; of rates the lowest, below it."""
    values = [10.0, *[20.0] * 8, 50.0]
    rate: CellKey = ("ready", "a", "rate.starts", "1/s", "")
    assert Night.of("night", CELL, values)[1:3] == pytest.approx((20, 3))
    assert Night.of("night", rate, values)[1:3] == pytest.approx((20, -1))


def test_a_limit_that_was_set_stays() -> None:
    """By unit, by metric or by cell, though it be what is usual."""
    own = Limit(USUAL, DEFAULTS["s"].absolute)
    noisy = series_of(nights(40, 0.1))
    for limits in (
        Limits(of_unit={"s": own}),
        Limits(of_metric={"startup.ready": own}),
        Limits(of_cell={("ready", "a", "startup.ready", ""): own}),
    ):
        assert widened(limits, noisy, [CELL]).of(CELL) == own


def test_a_new_level_and_a_drift_do_not_widen_it() -> None:
    """Successive differences hold neither; of three nights, one may already be a new level."""
    quiet = nights(40, 0.002)
    stepped = [*quiet[:25], *(each * 1.5 for each in quiet[25:])]
    drifting = [each * 1.004**at for at, each in enumerate(quiet)]
    for medians in (stepped, drifting):
        assert learnt(medians) == pytest.approx(USUAL, abs=0.005)
    assert learnt([2e-3, 2e-3, 3e-3, 3e-3]) < 3 * USUAL


@pytest.mark.parametrize("number", [3, 5, 10, 60])
def test_the_deviation_is_about_right(number: int) -> None:
    """On average of many series, a little too large where there are few nights."""
    values = np.random.default_rng(2).normal(10, 1, (2000, number))
    average = np.mean([deviation_of(series) for series in values])
    assert 0.95 <= average <= 1.5
    assert deviation_of(values[0][:2]) == 0


@pytest.mark.parametrize("number", [1, 2, 3, 5, 9, 10, 15, 40])
def test_nights_that_differ_raise_an_alarm_once_in_a_hundred_at_most(number: int) -> None:
    """Simulated: four cells that share half of what makes nights differ by 1.5 %, against two baselines.

    Whatever the number of earlier nights; the usual limit is exceeded far too often.
    """
    generator = np.random.default_rng(number)
    usual = alarms = 0
    trials = 1500
    for _ in range(trials):
        shared = generator.normal(0, 1, (number + 1, 1))
        medians = 1 + 0.015 * np.sqrt(0.5) * (shared + generator.normal(0, 1, (number + 1, len(CELLS))))
        series = {
            cell: series_of(column.tolist(), [0.05] * len(column))[CELL]
            for cell, column in zip(CELLS, medians.T, strict=True)
        }
        limits = widened(Limits(), series, CELLS)
        # Exceeded against the latest, or against the oldest of them.
        change = np.maximum(medians[-1] / medians[-2], medians[-1] / medians[0]) - 1
        usual += bool((change > USUAL).any())
        alarms += any(
            moved > limits.of(cell).relative for cell, moved in zip(CELLS, change.tolist(), strict=True)
        )
    assert usual / trials > 0.1
    assert alarms / trials <= 0.015


def test_a_host_of_two_states_is_got_to_know() -> None:
    """What happened once may be a regression; what happened twice is how the host is."""
    quiet = nights(40, 0.002)
    for times in (1, 2):
        states = [each * (1.3 if at // 5 in (3, 5)[:times] else 1.0) for at, each in enumerate(quiet)]
        assert learnt(states) == pytest.approx(USUAL if times == 1 else 0.3, abs=0.01)


def test_tails_that_differ_widen_their_own_limit() -> None:
    """The median's stays; and where nothing has been seen, a long tail tells of a restless host."""
    medians = nights(41, 0.002)
    tails = [abs(each) for each in np.random.default_rng(4).normal(6e-4, 2e-4, 41).tolist()]
    limit = widened(Limits(), series_of(medians, tails), [CELL]).of(CELL)
    assert limit.relative == USUAL
    assert limit.tail is not None
    assert limit.tail > 0.3
    for few in (2, 5):
        wide, narrow = (
            widened(Limits(), series_of(medians[:few], [tail] * few), [CELL]).of(CELL).relative
            for tail in (6e-4, 1e-4)
        )
        assert wide > 2 * narrow
