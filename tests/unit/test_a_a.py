"""The same thing measured twice under two names is not told to differ: by simulation."""

from __future__ import annotations

import numpy as np

from pybench.harness.stats import ratio

RUNS, REPETITIONS = 100, 30


def test_intervals_of_a_ratio_contain_one_where_nothing_differs() -> None:
    """In nine of ten runs at least, for skewed samples, two modes, and a drift that both sides meet."""
    random = np.random.default_rng(7)
    shape = (2, REPETITIONS)
    contained = {"skewed": 0, "two modes": 0, "drifting": 0}
    for _ in range(RUNS):
        sides = {
            "skewed": random.lognormal(0, 0.4, shape),
            "two modes": random.choice([1.0, 1.3], shape) * random.lognormal(0, 0.05, shape),
            "drifting": np.linspace(1, 1.2, REPETITIONS) * random.lognormal(0, 0.1, shape),
        }
        for name, (one, other) in sides.items():
            found = ratio(one, other)
            contained[name] += found.low <= 1 <= found.high
    assert all(number >= 0.9 * RUNS for number in contained.values()), contained
