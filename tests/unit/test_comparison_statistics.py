"""Two-sample statistics agree with scipy and published examples, and keep the laws they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pybench.harness.comparison import shift as shift_module
from pybench.harness.comparison.modes import modes
from pybench.harness.comparison.multiplicity import benjamini_hochberg
from pybench.harness.comparison.quantiles import quantile_differences
from pybench.harness.comparison.ranks import (
    cliffs_delta,
    mann_whitney,
    quantile_test,
    share_test,
    u_probabilities,
)
from pybench.harness.comparison.shift import hodges_lehmann

Values = NDArray[np.float64]

# Tritiated water diffusion across human chorioamnion, Hollander, Wolfe and Chicken 2014, table 4.1.
AT_TERM = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
EARLY = np.array([1.15, 0.88, 0.90, 0.74, 1.21])

# Whole numbers keep differences exact, so that laws hold to the last digit.
VALUES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=30).map(
    lambda numbers: np.array(numbers, dtype=np.float64)
)
P_VALUES = st.lists(st.floats(0, 1), max_size=30)


def test_the_shift_is_that_of_the_published_example() -> None:
    """Hollander, Wolfe and Chicken, examples 4.3 and 4.4: -0.305 with the 96 % interval (-0.76, 0.15)."""
    found = hodges_lehmann(AT_TERM, EARLY, confidence=0.95)
    assert found.value == pytest.approx(-0.305)
    assert (found.low, found.high) == pytest.approx((-0.76, 0.15))
    assert found.confidence == pytest.approx(0.96, abs=0.005)


@pytest.mark.parametrize("many", [21, 25, 400])
def test_one_value_beside_many_is_within_them_as_often_as_is_said(many: int) -> None:
    """The widest interval there is covers less than asked for, or more; simulated without a shift."""
    generator = np.random.default_rng(many)
    shifts = [hodges_lehmann(generator.random(many), generator.random(1)) for _ in range(4000)]
    covered = np.mean([found.low <= 0 <= found.high for found in shifts])
    assert covered == pytest.approx(shifts[0].confidence, abs=4 * math.sqrt(0.08 * 0.92 / 4000))


def test_the_test_is_that_of_the_published_example() -> None:
    """Example 4.1 of the same book has the one-sided p-value 0.127."""
    assert mann_whitney(AT_TERM, EARLY) / 2 == pytest.approx(0.1272, abs=5e-5)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_mann_whitney_agrees_with_scipy(x: Values, y: Values) -> None:
    """Exact without ties and few values, corrected for ties and continuity otherwise."""
    ties = len(np.unique(np.concatenate([x, y]))) < len(x) + len(y)
    method = "asymptotic" if ties or max(len(x), len(y)) > 20 else "exact"
    expected = scipy.stats.mannwhitneyu(x, y, method=method).pvalue
    assert mann_whitney(x, y) == pytest.approx(1.0 if math.isnan(expected) else expected, rel=1e-9)


def test_the_distribution_of_u_is_one() -> None:
    """Its probabilities add up to 1 and are symmetric."""
    found = u_probabilities(17, 20)
    assert found.sum() == pytest.approx(1)
    assert (found == found[::-1]).all()


@given(VALUES, VALUES)
def test_exchanging_the_sides_turns_every_sign(x: Values, y: Values) -> None:
    """Shift and effect change their sign, p-values stay."""
    there, back = hodges_lehmann(x, y), hodges_lehmann(y, x)
    assert (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)
    assert mann_whitney(x, y) == pytest.approx(mann_whitney(y, x), rel=1e-9)
    effect, reverse = cliffs_delta(x, y), cliffs_delta(y, x)
    assert effect == pytest.approx((-reverse.value, -reverse.high, -reverse.low))


@given(VALUES, VALUES, st.integers(-500, 500), st.sampled_from([0.25, 0.5, 2.0, 64.0]))
def test_units_and_origins_do_not_matter(x: Values, y: Values, origin: int, scale: float) -> None:
    """Another unit scales the shift, another origin leaves it; ranks know neither."""
    plain, moved = hodges_lehmann(x, y), hodges_lehmann(x * scale + origin, y * scale + origin)
    assert moved[:3] == pytest.approx(tuple(value * scale for value in plain[:3]), abs=1e-9)
    assert mann_whitney(x * scale + origin, y * scale + origin) == mann_whitney(x, y)
    assert cliffs_delta(x * scale + origin, y * scale + origin) == cliffs_delta(x, y)
    assert hodges_lehmann(x, y + 7).value == plain.value + 7


@given(VALUES, VALUES)
def test_effects_are_what_counting_pairs_gives(x: Values, y: Values) -> None:
    """Cliff's delta is the mean sign of all differences; its interval holds it and stays in bounds."""
    effect = cliffs_delta(x, y)
    assert effect.value == pytest.approx(float(np.sign(np.subtract.outer(y, x)).mean()))
    assert -1 <= effect.low <= effect.value + 1e-12
    assert effect.value - 1e-12 <= effect.high <= 1


@settings(deadline=None)
@given(VALUES, VALUES, st.sampled_from([0, 5, 100]))
def test_a_shift_of_many_values_is_found_without_all_pairs(x: Values, y: Values, few: int) -> None:
    """A search gives what all differences would, be it down to few pairs or to such as are nearly equal."""
    plain = hodges_lehmann(x, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shift_module, "_MOST_PAIRS", 0)
        patch.setattr(shift_module, "_FEW_PAIRS", few)
        assert hodges_lehmann(x, y)[:3] == pytest.approx(plain[:3], abs=1e-4)


def test_the_shift_of_many_values_is_exact() -> None:
    """Of more pairs than are made at once, the interval still runs between two of the differences."""
    generator = np.random.default_rng(2)
    x, y = generator.lognormal(0, 0.2, 3000), generator.lognormal(0.05, 0.2, 3000)
    x[0] = 1e6
    differences = np.sort(np.subtract.outer(y, x).ravel())
    found = hodges_lehmann(x, y)
    rank = int(np.searchsorted(differences, found.low))
    assert found.value == np.median(differences)
    assert (found.low, found.high) == (differences[rank], differences[-1 - rank])


def test_a_large_shift_takes_no_large_memory() -> None:
    """A hundred thousand values a side would have ten thousand million pairs."""
    generator = np.random.default_rng(1)
    x, y = generator.normal(0, 1, 100_000), generator.normal(0.01, 1, 100_000)
    found = hodges_lehmann(x, y)
    assert found.low < 0.01 < found.high
    assert found.high - found.low == pytest.approx(0.0179, abs=0.001)


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_shares_agree_with_scipy(m: int, n: int, data: st.DataObject) -> None:
    """Twice the smaller one-sided tail of Fisher's exact test."""
    marked, candidates = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    table = [[candidates, n - candidates], [marked, m - marked]]
    tails = [scipy.stats.fisher_exact(table, side).pvalue for side in ("less", "greater")]
    assert share_test(m, marked, n, candidates) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-6)


def test_a_tail_is_seen_that_the_middle_does_not_show() -> None:
    """A fifth of the launches takes a detour: the ranks hardly move, the quantile test finds it."""
    generator = np.random.default_rng(3)
    x, y = generator.lognormal(0, 0.1, 60), generator.lognormal(0, 0.1, 60)
    y[::5] *= 2
    assert quantile_test(x, y, 0.9) < 0.001
    assert quantile_test(x, x, 0.9) == 1.0


@settings(deadline=None)
@given(P_VALUES)
def test_adjusted_p_values_agree_with_scipy(p_values: list[float]) -> None:
    """Benjamini and Hochberg's, in the order of the tests."""
    expected = scipy.stats.false_discovery_control(p_values) if p_values else []
    assert benjamini_hochberg(p_values) == pytest.approx(list(expected))


def test_p_values_out_of_range_are_refused() -> None:
    """NaN among them."""
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            benjamini_hochberg([0.5, wrong])


def test_empty_sides_are_refused() -> None:
    """No statistic invents a figure."""
    empty, some = np.array([]), np.array([1.0])
    for statistic in (hodges_lehmann, mann_whitney, cliffs_delta):
        for x, y in ((empty, some), (some, empty)):
            with pytest.raises(ValueError, match="at least one value"):
                statistic(x, y)


@pytest.mark.parametrize(("m", "n"), [(12, 12), (40, 40), (60, 25)])
def test_the_interval_of_the_shift_covers_as_stated(m: int, n: int) -> None:
    """Of 1,000 simulated pairs of skewed samples, the stated share of intervals holds the true shift."""
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        found = hodges_lehmann(generator.lognormal(0, 0.5, m), generator.lognormal(0, 0.5, n) + 0.3)
        covered += found.low <= 0.3 <= found.high
    # Three standard deviations of a binomial share.
    assert covered / 1000 == pytest.approx(found.confidence, abs=3 * math.sqrt(0.05 * 0.95 / 1000))


def test_the_interval_of_the_effect_covers_as_stated() -> None:
    """Of 1,000 simulated pairs of normal samples, about 95 % of the intervals hold the true delta."""
    generator = np.random.default_rng(6)
    truth = 2 * scipy.stats.norm.cdf(0.8 / math.sqrt(2)) - 1
    found = (cliffs_delta(generator.normal(0, 1, 30), generator.normal(0.8, 1, 30)) for _ in range(1000))
    assert sum(each.low <= truth <= each.high for each in found) / 1000 == pytest.approx(0.95, abs=0.025)


def test_the_interval_of_a_quantile_covers_as_stated() -> None:
    """Of 400 simulated pairs, 90 % or more of the intervals at each quantile hold the true difference."""
    generator = np.random.default_rng(7)
    held: dict[float, int] = {}
    for _ in range(400):
        x, y = generator.exponential(1, 80), generator.exponential(2, 80)
        for each in quantile_differences(x, y):
            truth = -math.log(1 - each.probability)
            held[each.probability] = held.get(each.probability, 0) + (each.low <= truth <= each.high)
    assert list(held) == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    assert min(held.values()) / 400 >= 0.9


def test_quantiles_need_enough_samples() -> None:
    """The 95th percentile is given from 20 samples a side on, the 99th from 100 on."""
    given_at = {
        n: [each.probability for each in quantile_differences(np.arange(n * 1.0), np.arange(n * 1.0))]
        for n in (1, 9, 20, 99, 100)
    }
    assert given_at[1] == []
    assert given_at[9] == [0.25, 0.5, 0.75]
    assert given_at[20] == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    assert given_at[99][-1] == 0.95
    assert given_at[100][-1] == 0.99


def test_two_paths_are_two_modes() -> None:
    """Three launches in ten take a path that is 60 % longer: two centres with their shares."""
    generator = np.random.default_rng(8)
    values = generator.lognormal(0, 0.07, 100)
    values[:30] *= 1.6
    low, high = modes(values)
    assert (low.center, high.center) == pytest.approx((1.0, 1.6), rel=0.05)
    assert (low.share, high.share) == pytest.approx((0.7, 0.3), abs=0.05)


def test_one_skewed_path_is_one_mode() -> None:
    """Of 300 simulated skewed samples at most 2 % seem to have several; few or equal values never do."""
    generator = np.random.default_rng(9)
    several = sum(len(modes(generator.lognormal(0, 0.15, 40))) > 1 for _ in range(300))
    assert several / 300 <= 0.02
    assert len(modes(np.append(generator.normal(1, 0.1, 60), 50.0))) == 1
    assert [mode.share for mode in modes(np.ones(30))] == [1.0]
    assert modes(np.ones(19)) == []
