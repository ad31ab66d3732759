"""The test of the best values keeps its level, is what its scores say, and sees more where they tell more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pybench.harness.comparison.base import base_shift, base_test
from pybench.harness.comparison.ranks import mann_whitney
from pybench.harness.comparison.shift import hodges_lehmann

Values = NDArray[np.float64]

VALUES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=30).map(
    lambda numbers: np.array(numbers, dtype=np.float64)
)


@pytest.mark.parametrize(("m", "n"), [(20, 20), (60, 60), (20, 60), (60, 20), (20, 200)])
def test_it_keeps_its_level_on_either_side(m: int, n: int) -> None:
    """Of 20,000 simulated pairs without a shift, no more are called so than the level says."""
    generator = np.random.default_rng(1)
    counts = {(level, side): 0 for level in (0.05, 0.01) for side in (-1, 1)}
    rounds = 20_000
    for values in generator.random((rounds, m + n)):
        x, y = values[:m], values[m:]
        p = base_test(x, y)
        side = 1 if np.log(values.argsort().argsort()[m:] + 1).mean() > _expected(m + n) else -1
        for level in (0.05, 0.01):
            counts[level, side] += p <= level
    for (level, _), count in counts.items():
        # Three standard deviations of the simulation, and the twentieth that is said.
        assert count / rounds <= level / 2 * 1.05 + 3 * math.sqrt(level / 2 / rounds)


def _expected(number: int) -> float:
    return float(np.log(np.arange(1, number + 1)).mean())


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_it_is_a_test_by_permutation_of_its_scores(digits: int) -> None:
    """Arrangements drawn at random of the scores, shared by equal values, give the same p-value."""
    generator = np.random.default_rng(10 + digits)
    x = np.round(generator.gumbel(0, 1, 30), digits)
    y = np.round(generator.gumbel(0.5, 1, 40), digits)
    pooled = np.concatenate([x, y])
    plain = np.log(np.arange(1, 71) / 71)
    ordered = np.sort(pooled)
    scores = np.array([plain[ordered == value].mean() for value in pooled])
    scores -= scores.mean()
    drawn = np.abs([generator.permutation(scores)[30:].sum() for _ in range(20_000)])
    share = float((drawn >= abs(scores[30:].sum())).mean())
    assert 0 < share < 0.5
    assert base_test(x, y) == pytest.approx(share, abs=0.003, rel=0.1)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_exchanging_the_sides_turns_every_sign(x: Values, y: Values) -> None:
    """The shift changes its sign, the p-value stays; the other end of the values is the mirror image."""
    there, back = base_shift(x, y), base_shift(y, x)
    precise = 1e-6 * (1 + float(np.ptp(np.concatenate([x, y]))))
    assert there[:3] == pytest.approx((-back.value, -back.high, -back.low), abs=precise)
    assert there.low <= there.value + precise
    assert there.value <= there.high + precise
    assert base_test(x, y) == pytest.approx(base_test(y, x), rel=1e-6, abs=1e-12)
    mirrored = base_shift(-x, -y, better=1)
    assert mirrored[:3] == pytest.approx((-there.value, -there.high, -there.low), abs=precise)
    assert base_test(-x, -y, better=1) == base_test(x, y)


@settings(deadline=None)
@given(VALUES, VALUES, st.integers(-500, 500), st.sampled_from([0.25, 0.5, 2.0, 64.0]))
def test_units_and_origins_do_not_matter(x: Values, y: Values, origin: int, scale: float) -> None:
    """Another unit scales the shift, another origin leaves it; ranks know neither."""
    plain, moved = base_shift(x, y), base_shift(x * scale + origin, y * scale + origin)
    precise = 1e-6 * scale * (1 + float(np.ptp(np.concatenate([x, y]))))
    assert moved[:3] == pytest.approx(tuple(value * scale for value in plain[:3]), abs=precise)
    assert base_test(x * scale + origin, y * scale + origin) == pytest.approx(base_test(x, y))
    assert base_shift(x, y + 7).value == pytest.approx(plain.value + 7, abs=precise / scale)
    assert base_shift(x, x + 7).value == pytest.approx(7, abs=precise / scale)


def test_all_values_alike_show_nothing() -> None:
    """There is no arrangement but one."""
    same = np.ones(30)
    assert base_test(same, same) == 1
    assert base_shift(same, same).value == 0


def test_empty_sides_are_refused() -> None:
    """No statistic invents a figure."""
    empty, some = np.array([]), np.array([1.0])
    for statistic in (base_test, base_shift):
        for x, y in ((empty, some), (some, empty)):
            with pytest.raises(ValueError, match="at least one value"):
                statistic(x, y)


@pytest.mark.parametrize(("m", "n"), [(20, 20), (60, 60), (60, 25)])
def test_the_interval_covers_as_stated(m: int, n: int) -> None:
    """Of 1,000 simulated pairs of skewed samples, the stated share of intervals holds the true shift."""
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        found = base_shift(generator.gumbel(0, 0.5, m), generator.gumbel(0, 0.5, n) + 0.3)
        covered += found.low <= 0.3 <= found.high
    # Three standard deviations of a binomial share.
    assert covered / 1000 == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 1000))


def test_it_tells_more_than_the_middle_where_only_delays_disturb() -> None:
    """Of values with a sharp lower end, it has less error and more power: three quarters of them would do."""
    generator = np.random.default_rng(6)
    pairs = [(x, y + 0.6) for x, y in generator.gumbel(0, 1, (600, 2, 60))]
    middle, base = (np.var([f(x, y).value for x, y in pairs]) for f in (hodges_lehmann, base_shift))
    # Wilcoxon's scores have an efficiency of 12 (∫f²)² = 12/16 there, where Fisher's information is 1.
    assert base / middle == pytest.approx(0.75, abs=0.08)
    power = [sum(test(x, y) <= 0.001 for x, y in pairs) / 600 for test in (mann_whitney, base_test)]
    assert power[1] > power[0] + 0.05


def test_many_values_are_told_by_some_of_them() -> None:
    """Of thirty thousand values a side the estimate lies well within its interval, which is as narrow."""
    generator = np.random.default_rng(7)
    x, y = generator.gumbel(0, 1, 30_000), generator.gumbel(0.05, 1, 30_000)
    found = base_shift(x, y)
    assert found.low < 0.05 < found.high
    # 2 · 1.96 · √(2 / n): the least that is possible for Gumbel's distribution.
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 30_000), rel=0.05)


def test_one_wild_value_costs_no_precision() -> None:
    """However long the longest launch took, the estimate is the same."""
    generator = np.random.default_rng(8)
    x, y = generator.gumbel(5, 0.1, 60), generator.gumbel(5.1, 0.1, 60)
    estimates = []
    for longest in (10, 1e6):
        x[0] = longest
        estimates.append(base_shift(x, y).value)
    assert estimates[1] == pytest.approx(estimates[0], abs=1e-6)
