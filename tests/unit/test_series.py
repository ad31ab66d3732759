"""Drift, dependence and modes are found where they are, and seldom where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from pybench.harness.stats.series import autocorrelation, drift, modes

RANDOM = np.random.default_rng(4)


def test_a_drift_is_shown_with_its_size() -> None:
    """A rise of a tenth over the run, in noise of a twentieth; and a fall."""
    rise = [float(value) for value in np.linspace(1.0, 1.1, 60) * RANDOM.lognormal(0, 0.02, 60)]
    found = drift(rise)
    assert found is not None
    assert found.is_shown
    assert found.share == pytest.approx(0.1, abs=0.04)
    falling = drift(rise[::-1])
    assert falling is not None
    assert falling.share == pytest.approx(-found.share, abs=0.01)


def test_a_steady_series_seldom_seems_to_drift() -> None:
    """About one in a hundred, the significance of the test, also with ties."""
    shown = sum(bool((d := drift(RANDOM.lognormal(0, 0.3, 30))) and d.is_shown) for _ in range(400))
    assert shown <= 12
    ties = sum(
        bool((d := drift(RANDOM.integers(1, 4, 30).astype(np.float64))) and d.is_shown) for _ in range(400)
    )
    assert ties <= 12


@pytest.mark.parametrize("numbers", [[1.0] * 40, list(range(9))])
def test_what_has_no_trend_or_is_too_short_has_no_drift(numbers: list[float]) -> None:
    """Equal values, and fewer than ten."""
    found = drift(numbers)
    assert found is None or not found.is_shown


def test_long_series_take_little_time() -> None:
    """A hundred thousand samples are thinned evenly, and the drift stays what it is."""
    found = drift(np.linspace(1.0, 2.0, 100_000))
    assert found is not None
    assert found.share == pytest.approx(2 / 3, rel=0.01)
    assert len(modes(RANDOM.normal(5, 1, 100_000))) == 1


def test_neighbours_that_resemble_each_other_are_correlated() -> None:
    """Near zero for independent samples, high for a walk, negative for an alternation."""
    independent = [autocorrelation(RANDOM.lognormal(0, 1, 40)) or 0.0 for _ in range(200)]
    assert abs(np.mean(independent)) < 0.06
    assert (autocorrelation(np.cumsum(RANDOM.normal(0, 1, 100))) or 0) > 0.7
    assert (autocorrelation([1.0, 2.0] * 20) or 0) < -0.9
    assert autocorrelation([1.0] * 9) is None
    assert autocorrelation([1.0] * 20) == 0.0


def test_two_modes_are_found_with_their_shares() -> None:
    """A bimodal boot: values and shares of both."""
    low, high = modes(np.concatenate([RANDOM.normal(1.0, 0.04, 30), RANDOM.normal(1.4, 0.04, 20)]))
    assert [low.value, high.value] == pytest.approx([1.0, 1.4], abs=0.05)
    assert [low.share, high.share] == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize("shape", ["skewed", "with outliers", "few", "equal"])
def test_one_mode_is_one_mode(shape: str) -> None:
    """Skew, a few outliers, few samples and equal values do not make two."""
    numbers = {
        "skewed": RANDOM.lognormal(0, 0.6, 60),
        "with outliers": np.concatenate([RANDOM.normal(1, 0.05, 50), [4.0, 9.0, 9.1]]),
        "few": RANDOM.choice([1.0, 2.0], 15),
        "equal": np.ones(30),
    }[shape]
    (mode,) = modes(numbers)
    assert mode.share == pytest.approx(1.0)


def test_modes_are_seldom_invented() -> None:
    """In at most a few of a hundred series with one mode."""
    assert sum(len(modes(RANDOM.lognormal(0, 0.3, 40))) > 1 for _ in range(50)) <= 2


def test_nothing_has_no_mode() -> None:
    """An empty series."""
    assert modes([]) == ()
