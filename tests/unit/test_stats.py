"""Estimates agree with published values, with scipy, and with simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pybench.harness.model import Sample
from pybench.harness.stats import (
    cells,
    estimate,
    estimates,
    median_interval,
    phase_sums,
    quantile,
    ratio,
    shared_qualifiers,
)


def samples(values: list[float], **changes: object) -> list[Sample]:
    """One cell of samples."""
    sample = Sample("w", "t", "startup.ready", "s", 0.0, 0, False, 0, "pipe", 1e-9, {"accel": "tcg"})
    made = [replace(sample, value=value, repetition=n, order=n) for n, value in enumerate(values)]
    return [replace(each, **changes) for each in made]  # type: ignore[arg-type]


numbers = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("n", "rank", "confidence"),
    [
        # Ranks of the 95 % interval of the median, Conover 1999 table A3 / Hahn and Meeker 1991 table A.15.
        (6, 1, 0.9688),
        (10, 2, 0.9785),
        (20, 6, 0.9586),
        (30, 10, 0.9572),
        (40, 14, 0.9615),
        (100, 40, 0.9648),
    ],
)
def test_the_interval_of_the_median_has_the_published_ranks(n: int, rank: int, confidence: float) -> None:
    """The interval lies between the published order statistics and tells its real coverage."""
    interval = median_interval([float(value) for value in range(1, n + 1)])
    assert (interval.low, interval.high) == (rank, n + 1 - rank)
    assert interval.confidence == pytest.approx(confidence, abs=5e-5)


@pytest.mark.parametrize(("n", "confidence"), [(1, 0.0), (2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375)])
def test_few_samples_give_the_whole_range_and_say_what_it_covers(n: int, confidence: float) -> None:
    """Below six samples not even minimum and maximum reach 95 %, and nothing else is pretended."""
    interval = median_interval([float(value) for value in range(n)])
    assert (interval.low, interval.high) == (0.0, n - 1.0)
    assert interval.confidence == pytest.approx(confidence)


@given(st.integers(6, 400))
def test_the_coverage_agrees_with_scipy(n: int) -> None:
    """The coverage is binomial and at least 95 %, and one rank further in would be too little."""
    interval = median_interval(np.arange(1.0, n + 1))
    rank = int(interval.low)
    assert interval.confidence == pytest.approx(1 - 2 * scipy_stats.binom.cdf(rank - 1, n, 0.5))
    assert interval.confidence >= 0.95
    assert 1 - 2 * scipy_stats.binom.cdf(rank, n, 0.5) < 0.95


@pytest.mark.parametrize("n", [1000, 9_999, 100_000, 1_000_000])
def test_the_coverage_of_many_samples_agrees_with_scipy(n: int) -> None:
    """So many samples have the ranks and, to a millionth, the coverage that scipy's distribution gives."""
    interval = median_interval(np.arange(1.0, n + 1))
    tails = scipy_stats.binom.cdf(np.arange(n // 2), n, 0.5)
    rank = int(np.searchsorted(tails, 0.025, side="right"))
    assert (interval.low, interval.high) == (rank, n + 1 - rank)
    assert interval.confidence == pytest.approx(1 - 2 * tails[rank - 1], abs=1e-6)


@pytest.mark.parametrize("n", [7, 12, 30, 40])
def test_the_interval_covers_as_often_as_it_says(n: int) -> None:
    """Over 4,000 skewed data sets the true median is inside as often as the stated confidence."""
    generator = np.random.default_rng(5)
    data = generator.lognormal(0.0, 1.5, size=(4000, n))
    intervals = [median_interval(row) for row in data]
    inside = sum(interval.low <= 1.0 <= interval.high for interval in intervals)
    expected = intervals[0].confidence
    # Five standard errors of a proportion: seeded, so it cannot fail by chance.
    assert inside / 4000 == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / 4000))


def test_quantiles_are_of_type_7() -> None:
    """Hyndman and Fan's type 7: the value at (n - 1)p, interpolated."""
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.95) == pytest.approx(3.85)
    assert quantile([float(n) for n in range(101)], 0.95) == pytest.approx(95.0)


@pytest.mark.parametrize(
    ("n", "p95", "p99"), [(19, False, False), (20, True, False), (99, True, False), (100, True, True)]
)
def test_tails_are_told_only_from_enough_samples(n: int, p95: bool, p99: bool) -> None:
    """There is no p95 below 20 samples and no p99 below 100."""
    cell = estimate(samples([float(value) for value in range(n)]))
    assert ((cell.p95 is not None), (cell.p99 is not None)) == (p95, p99)


def test_warmups_and_failures_do_not_count() -> None:
    """An estimate is of samples that are neither warm-up nor failed, and tells how many failed."""
    cell = [
        *samples([1.0, 2.0, 3.0]),
        *samples([1000.0], warmup=True),
        *samples([0.0], value=None, status="failed", reason="no", qualifiers={}),
        *samples([0.0], value=None, status="failed", reason="no", warmup=True),
    ]
    summary = estimate(cell)
    assert (summary.n, summary.failed, summary.median, summary.mean) == (3, 1, 2.0, 2.0)
    assert summary.qualifiers == {"accel": "tcg"}


def test_a_cell_of_failures_only_has_no_figures() -> None:
    """It is listed with n = 0, so that nobody overlooks it."""
    (summary,) = estimates(samples([1.0, 2.0], value=None, status="failed", reason="no"))
    assert (summary.n, summary.failed, summary.p95) == (0, 2, None)
    assert all(map(math.isnan, (summary.median, summary.mean, summary.ci_low, summary.ci_high)))


def test_a_cell_of_warmups_only_is_left_out() -> None:
    """There is nothing to say about it."""
    assert estimates(samples([1.0], warmup=True)) == []


def test_each_cell_has_its_estimate() -> None:
    """Cells differ in workload, target, metric, unit or parameters; in the order of first samples."""
    (with_parameters,) = samples([5.0])
    mixed = [
        *samples([3.0], target="vm"),
        *samples([1.0]),
        *samples([4.0], target="vm"),
        *samples([2.0], metric="m"),
        replace(with_parameters, parameters={"memory": "64MiB"}),
    ]
    assert list(cells(mixed)) == [
        ("w", "vm", "startup.ready", "s", ""),
        ("w", "t", "startup.ready", "s", ""),
        ("w", "t", "m", "s", ""),
        ("w", "t", "startup.ready", "s", "memory=64MiB"),
    ]
    assert [summary.median for summary in estimates(mixed)] == [3.5, 1.0, 2.0, 5.0]
    assert estimates(mixed)[-1].parameters == {"memory": "64MiB"}


@pytest.mark.parametrize("mixed", [[], [*samples([1.0]), *samples([1.0], target="vm")]])
def test_an_estimate_is_of_one_cell(mixed: list[Sample]) -> None:
    """No samples, or samples of two cells, are an error of the caller."""
    with pytest.raises(ValueError, match="of one cell"):
        estimate(mixed)


@given(numbers)
def test_the_interval_contains_the_median_and_ignores_order(values: list[float]) -> None:
    """Whatever the data, low ≤ median ≤ high, within the data's range, in any order of samples."""
    summary = estimate(samples(values))
    assert min(values) <= summary.ci_low <= summary.median <= summary.ci_high <= max(values)
    assert estimate(samples(values[::-1])).median == summary.median


@given(numbers, st.sampled_from([2.0, 0.5, 1024.0]))
def test_estimates_scale_with_their_unit(values: list[float], factor: float) -> None:
    """The same data in another unit gives the same figures in that unit."""
    one, other = estimate(samples(values)), estimate(samples([value * factor for value in values]))
    assert other.median == pytest.approx(one.median * factor)
    assert (other.ci_low, other.ci_high) == pytest.approx((one.ci_low * factor, one.ci_high * factor))


def test_a_ratio_is_of_medians_and_repeatable() -> None:
    """The value is the ratio of the medians, inside its interval, and the same on every call."""
    generator = np.random.default_rng(1)
    slow, fast = generator.lognormal(1.0, 0.2, 40), generator.lognormal(0.0, 0.2, 30)
    result = ratio(slow, fast)
    assert result.value == pytest.approx(np.median(slow) / np.median(fast))
    assert result.low < result.value < result.high
    assert ratio(slow, fast) == result


def test_the_ratio_agrees_with_scipys_bootstrap() -> None:
    """The interval is that of scipy.stats.bootstrap's percentile method, up to resampling noise."""
    generator = np.random.default_rng(2)
    slow, fast = generator.lognormal(1.0, 0.3, 60), generator.lognormal(0.0, 0.3, 60)
    reference = scipy_stats.bootstrap(
        (slow, fast),
        lambda one, other, axis: np.median(one, axis=axis) / np.median(other, axis=axis),
        method="percentile",
        n_resamples=4000,
        random_state=np.random.default_rng(3),
    ).confidence_interval
    result = ratio(slow, fast)
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high), rel=0.02)


def test_the_ratio_covers_the_truth() -> None:
    """Over 300 simulated pairs the true ratio lies in the 95 % interval about as often as it should."""
    generator = np.random.default_rng(4)
    inside = 0
    for _ in range(300):
        result = ratio(2 * generator.lognormal(0, 0.5, 40), generator.lognormal(0, 0.5, 40))
        inside += result.low <= 2.0 <= result.high
    assert inside / 300 >= 0.92


@pytest.mark.parametrize(("above", "below"), [([], [1.0]), ([1.0], []), ([1.0], [0.0]), ([1.0], [-1.0, 2.0])])
def test_a_ratio_without_meaning_is_refused(above: list[float], below: list[float]) -> None:
    """An empty side or a denominator that is not positive has no ratio."""
    with pytest.raises(ValueError, match="a ratio needs"):
        ratio(above, below)


def test_single_values_have_a_ratio_without_spread() -> None:
    """One value on each side leaves nothing to resample."""
    assert ratio([3.0], [2.0]) == (1.5, 1.5, 1.5)


def test_phases_are_summed_per_launch() -> None:
    """Each launch's phases are added up, and other metrics are left alone."""
    stored = [
        *samples([0.001, 0.002], metric="startup.phase.sandbox"),
        *samples([0.01, 0.02], metric="startup.phase.ready"),
        *samples([9.0]),
    ]
    assert phase_sums(stored) == {("w", "t", 0): pytest.approx(0.011), ("w", "t", 1): pytest.approx(0.022)}


def test_only_common_qualifiers_are_shared() -> None:
    """A qualifier on which samples disagree belongs to none of them together."""
    mixed = [*samples([1.0]), *samples([1.0], qualifiers={"accel": "tcg", "net": "none"})]
    assert shared_qualifiers(mixed) == {"accel": "tcg"}
    assert shared_qualifiers([]) == {}


@pytest.mark.parametrize("n", [1, 2, 5, 8, 41])
def test_the_bootstrap_of_medians_is_the_resampling_one(n: int) -> None:
    """The medians that are drawn directly are distributed like medians of drawn resamples."""
    numbers = np.random.default_rng(n).lognormal(0, 1, n)
    one = np.ones(1)
    ratios = [ratio(numbers, one, seed=seed) for seed in range(40)]
    generator = np.random.default_rng(99)
    resampled = np.median(generator.choice(numbers, size=(20_000, n)), axis=1)
    expected = np.quantile(resampled, [0.025, 0.975])
    spread = resampled.std() or 1.0
    assert np.mean([each.low for each in ratios]) == pytest.approx(expected[0], abs=0.1 * spread)
    assert np.mean([each.high for each in ratios]) == pytest.approx(expected[1], abs=0.1 * spread)
