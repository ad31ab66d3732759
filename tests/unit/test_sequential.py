"""Looking at the interval after every sample, and stopping when one likes, keeps what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybench.harness.looks import LOOKS, looks_of, looks_qualifier
from pybench.harness.model import Sample
from pybench.harness.stats import estimate, median_interval
from pybench.harness.stats.sequential import look_confidence, miss_probability, repeated_interval

RUNS = 1000
SAMPLE = Sample("w", "t", "startup.ready", "s", 0.0, 0, False, 0, "pipe", 1e-9, {})


def stopped_early(numbers: np.ndarray, precision: float, level: float, first: int) -> int:
    """After how many samples the interval at a level is narrow enough, or all."""
    for n in range(first, len(numbers) + 1):
        interval = median_interval(numbers[:n], level)
        if (
            interval.confidence >= level
            and (interval.high - interval.low) / np.median(numbers[:n]) <= precision
        ):
            return n
    return len(numbers)


def test_intervals_that_stop_the_run_cover_the_median_as_promised() -> None:
    """By simulation, on skewed samples: at least 95 % with the level of a look, clearly less without it."""
    first, last, precision = 10, 60, 0.45
    random = np.random.default_rng(11)
    level = look_confidence(first, last)
    covered = {level: 0, 0.95: 0}
    lengths = []
    for _ in range(RUNS):
        numbers = 1 + random.lognormal(0, 1, last)
        for each in covered:
            n = stopped_early(numbers, precision, each, first)
            interval = median_interval(numbers[:n], each)
            covered[each] += interval.low <= 2 <= interval.high
            if each == level:
                lengths.append(n)
    assert len(set(lengths)) > 10  # the rule really stops at many different moments
    assert covered[level] / RUNS >= 0.95 - 2 * (0.95 * 0.05 / RUNS) ** 0.5
    assert covered[0.95] < covered[level]


@pytest.mark.parametrize(("first", "last"), [(6, 20), (10, 40), (10, 200), (30, 31)])
def test_the_level_of_a_look_is_exact(first: int, last: int) -> None:
    """Together the looks miss at most as often as allowed; a slightly lower level would miss more often."""
    level = look_confidence(first, last)
    assert level >= 0.95
    assert miss_probability(first, last, 1 - level) <= 0.05
    assert miss_probability(first, last, min(0.5, 2.5 * (1 - level))) > 0.05


def test_the_probability_of_a_miss_is_that_of_a_simulated_walk() -> None:
    """The number of samples below the median is a random walk; its computed and simulated exits agree."""
    first, last, level = 10, 40, 0.03
    random = np.random.default_rng(5)
    below = (random.random((20_000, last)) < 0.5).cumsum(axis=1)
    missed = np.zeros(len(below), dtype=bool)
    for n in range(first, last + 1):
        numbers = np.arange(1.0, n + 1)
        interval = median_interval(numbers, 1 - level)
        if interval.confidence >= 1 - level:
            rank = int(interval.low)
            missed |= (below[:, n - 1] < rank) | (below[:, n - 1] > n - rank)
    assert missed.mean() == pytest.approx(miss_probability(first, last, level), abs=0.006)


@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(0, 60))
def test_more_looks_never_narrow_an_interval(first: int, more: int) -> None:
    """The level of one look rises with their number."""
    assert look_confidence(first, first + more) <= look_confidence(first, first + more + 20) + 1e-9


def test_looks_that_make_no_sense_are_refused() -> None:
    """The first look is not after the last."""
    with pytest.raises(ValueError, match="looks from 9 to 8"):
        look_confidence(9, 8)


def test_an_estimate_uses_the_interval_that_its_samples_ask_for() -> None:
    """Samples that were looked at have the wider interval and its level; too few of them do not reach it."""
    values = np.random.default_rng(2).lognormal(0, 0.4, 40)
    samples = [replace(SAMPLE, value=float(value)) for value in values]
    looked = [replace(sample, qualifiers={LOOKS: looks_qualifier(10, 40)}) for sample in samples]
    fixed, repeated = estimate(samples), estimate(looked)
    assert repeated.ci_low < fixed.ci_low
    assert repeated.ci_high > fixed.ci_high
    assert repeated.confidence == 0.95
    assert estimate(looked[:5]).confidence < 0.95
    assert repeated_interval(values, 10, 40).low == repeated.ci_low


@pytest.mark.parametrize("text", ["", "10", "10-", "40-10", "0-5", "1-99999", "x-y", "10-40 "])
def test_a_damaged_qualifier_is_none(text: str) -> None:
    """What an imported run says of its looks is bounded."""
    assert looks_of({LOOKS: text}) is None
