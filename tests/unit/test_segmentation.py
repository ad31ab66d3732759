"""The best partition of a series, held against a search that tries every one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.comparison.segmentation import segment_ends

SHORTEST = 3


def deviation(values: list[float]) -> float:
    """From the median, absolute, in all."""
    return float(np.abs(np.asarray(values) - np.median(values)).sum())


def least_cost(values: list[float], penalty: float) -> float:
    """By the definition: every beginning of every last segment is tried."""
    least = [0.0, *[math.inf] * len(values)]
    for end in range(SHORTEST, len(values) + 1):
        least[end] = min(
            least[begin] + deviation(values[begin:end]) + penalty for begin in range(end - SHORTEST + 1)
        )
    return least[-1]


@given(
    st.lists(st.integers(-50, 50).map(float) | st.floats(-1e3, 1e3), min_size=SHORTEST, max_size=24),
    st.floats(0.1, 100.0),
)
def test_no_partition_costs_less(values: list[float], penalty: float) -> None:
    """Ties, wild values and any penalty: the partition costs as little as the cheapest of all."""
    ends = segment_ends(np.array(values), penalty, SHORTEST)
    begins = [0, *ends[:-1]]
    assert ends[-1] == len(values)
    assert all(end - begin >= SHORTEST for begin, end in zip(begins, ends, strict=True))
    cost = sum(deviation(values[begin:end]) + penalty for begin, end in zip(begins, ends, strict=True))
    assert cost == pytest.approx(least_cost(values, penalty), rel=1e-9, abs=1e-6)


def test_a_long_series_is_cut_where_its_level_changes() -> None:
    """Two changes within 500 values are found to the value."""
    generator = np.random.default_rng(5)
    values = generator.normal(0, 1, 500) + np.repeat([0.0, 6.0, 12.0], [120, 300, 80])
    assert segment_ends(values, 2.5 * math.log(500), SHORTEST) == [120, 420, 500]
