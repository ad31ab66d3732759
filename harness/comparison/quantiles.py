"""How the quantiles of two sides differ: a change of the tail need not be one of the middle."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.ranks import CONFIDENCE, Values

PROBABILITIES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_RESAMPLES: Final = 2000
_BEYOND: Final = 1.0
"""Samples that are expected beyond a quantile for it to be given, as for p95 and p99 of a single cell."""


class QuantileDifference(NamedTuple):
    """Candidate minus baseline at one quantile, with a 95 % interval."""

    probability: float
    baseline: float
    candidate: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The difference."""
        return self.candidate - self.baseline


def quantile_differences(baseline: Values, candidate: Values, seed: int = 1) -> list[QuantileDifference]:
    """The differences at those quantiles of which both sides have enough samples on either end.

    The interval is the bootstrap percentile interval of the order statistic at each quantile. What resampling
    would give for the k-th of n values is known without doing it: the value at rank ⌈n·B⌉, with B of the beta
    distribution (k, n + 1 - k) (Hutson and Ernst, "The exact bootstrap mean and variance of an L-estimator",
    Journal of the Royal Statistical Society B 62(1), 2000). Seeded, so that the same figures come out again.
    """
    fewest = min(len(baseline), len(candidate))
    generator = np.random.default_rng(seed)
    x, y = np.sort(baseline), np.sort(candidate)
    found = []
    for probability in PROBABILITIES:
        # The tolerance lets 20 samples have the 95th percentile: 20 · (1 - 0.95) is just below 1.
        if fewest * min(probability, 1 - probability) < _BEYOND - 1e-9:
            continue
        drawn = _resampled(y, probability, generator) - _resampled(x, probability, generator)
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        left, right = float(np.quantile(x, probability)), float(np.quantile(y, probability))
        found.append(QuantileDifference(probability, left, right, float(low), float(high)))
    return found


def _resampled(ordered: Values, probability: float, generator: np.random.Generator) -> Values:
    n = len(ordered)
    rank = round(probability * (n - 1)) + 1
    positions = np.ceil(generator.beta(rank, n + 1 - rank, _RESAMPLES) * n).astype(np.int64)
    return ordered[np.clip(positions, 1, n) - 1]
