"""Limits learn from the nights before what nights differ by."""

from __future__ import annotations

import numpy as np
import pytest

from pybench.harness.comparison.limits import DEFAULTS, Limit, Limits
from pybench.harness.comparison.nights import widened
from pybench.harness.stats import CellKey

CELL: CellKey = ("ready", "container", "startup.ready", "s", "")


def series(medians: list[float]) -> dict[CellKey, list[tuple[str, float]]]:
    """The medians of one cell, as of runs."""
    return {CELL: [(f"night-{at}", median) for at, median in enumerate(medians)]}


def nights(number: int, spread: float, seed: int = 1) -> list[float]:
    """Medians around 2 ms whose nights differ by a share."""
    return [float(each) for each in 2e-3 * np.random.default_rng(seed).normal(1, spread, number)]


def test_quiet_nights_and_few_of_them_leave_the_limit() -> None:
    """The usual limit is the least, and nine nights say too little."""
    assert widened(Limits(), series(nights(31, 0.002))).of(CELL) == DEFAULTS["s"]
    assert widened(Limits(), series(nights(10, 0.2))).of(CELL) == DEFAULTS["s"]
    assert widened(Limits(), {}).of(CELL) == DEFAULTS["s"]


def test_a_limit_that_was_set_stays() -> None:
    """By unit, by metric or by cell."""
    own = Limit(0.01, 0.0)
    noisy = series(nights(40, 0.1))
    for limits in (
        Limits(of_unit={"s": own}),
        Limits(of_metric={"startup.ready": own}),
        Limits(of_cell={("ready", "container", "startup.ready", ""): own}),
    ):
        assert widened(limits, noisy).of(CELL) == own


def test_a_new_level_and_a_drift_do_not_widen_it() -> None:
    """Successive differences hold neither."""
    quiet = nights(40, 0.002)
    stepped = [*quiet[:25], *(each * 1.5 for each in quiet[25:])]
    drifting = [each * 1.004**at for at, each in enumerate(quiet)]
    for medians in (stepped, drifting):
        assert widened(Limits(), series(medians)).of(CELL).relative == pytest.approx(0.03, abs=0.005)


def test_nights_that_differ_raise_an_alarm_less_than_once_in_a_hundred() -> None:
    """Simulated: of nights that differ by 1.5 % by themselves, two exceed the usual limit too often."""
    generator = np.random.default_rng(3)
    usual = learnt = 0
    trials = 2000
    for _ in range(trials):
        medians = [float(each) for each in 2e-3 * generator.normal(1, 0.015, 41)]
        baseline, candidate = medians[-2:]
        margin = widened(Limits(), series(medians)).of(CELL).margin(baseline)
        usual += candidate - baseline > DEFAULTS["s"].margin(baseline)
        learnt += candidate - baseline > margin
    assert usual / trials > 0.03
    assert learnt / trials <= 0.01
