"""Which phases a changed start owes its change to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pybench.harness.comparison.ranks import CONFIDENCE, Values
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey, cell_key, counts

TOTAL: Final = "startup.ready"
PREFIX: Final = "startup.phase."
StartName = tuple[str, str, str]
"""Workload, target, label of the parameters."""
_RESAMPLES: Final = 2000
_FEWEST: Final = 2
_NORMAL_FROM: Final = 5000
"""Launches from which the central limit theorem stands for the bootstrap."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one phase, or all of them, adds to a change of the mean, with a 95 % interval; in seconds."""

    phase: str
    """Without its prefix; `total` for the sum."""
    value: float
    low: float
    high: float


def start_of(cell: CellKey) -> StartName:
    """The start that a cell belongs to."""
    return cell[0], cell[1], cell[4]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The change of the mean start of one workload on one target, and its parts, which add up to it."""

    workload: str
    target: str
    parameters: str
    """Their label."""
    total: Contribution
    phases: tuple[Contribution, ...]
    """In the order of the candidate's marks; those that only the baseline has come last."""

    @property
    def start(self) -> StartName:
        """Which start it is."""
        return self.workload, self.target, self.parameters


def attributions(baseline: Iterable[Sample], candidate: Iterable[Sample], seed: int = 1) -> list[Attribution]:
    """One attribution for every workload, target and set of parameters with two launches on both sides.

    Means are taken, because those of the phases add up to that of the total, which medians do not.
    The intervals are bootstrap percentile intervals over whole launches, so that the phases of a launch
    stay together (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 8.3). A phase
    that a side does not have took no time there.
    """
    generator = np.random.default_rng(seed)
    left, right = _launches(baseline), _launches(candidate)
    found = []
    for names_of_start, of_candidate in right.items():
        of_baseline = left.get(names_of_start, [])
        if min(len(of_baseline), len(of_candidate)) < _FEWEST:
            continue
        names = list(dict.fromkeys(name for launch in [*of_candidate, *of_baseline] for name in launch))
        x, y = _matrix(of_baseline, names), _matrix(of_candidate, names)
        drawn = _resampled_means(y, generator) - _resampled_means(x, generator)
        parts = [
            _contribution(name, float(y[:, at].mean() - x[:, at].mean()), drawn[:, at])
            for at, name in enumerate(names)
        ]
        value = float(y.sum(axis=1).mean() - x.sum(axis=1).mean())
        total = _contribution("total", value, drawn.sum(axis=1))
        found.append(Attribution(*names_of_start, total, tuple(parts)))
    return found


def _launches(samples: Iterable[Sample]) -> dict[StartName, list[dict[str, float]]]:
    """The phases of every launch that counts, in the order of the launches."""
    launches: dict[StartName, dict[int, dict[str, float]]] = {}
    for sample in samples:
        if sample.metric.startswith(PREFIX) and counts(sample) and sample.value is not None:
            cell = launches.setdefault(start_of(cell_key(sample)), {})
            cell.setdefault(sample.order, {})[sample.metric.removeprefix(PREFIX)] = sample.value
    return {cell: list(by_order.values()) for cell, by_order in launches.items()}


def _matrix(launches: Sequence[dict[str, float]], names: Sequence[str]) -> Values:
    return np.array([[launch.get(name, 0.0) for name in names] for launch in launches], dtype=np.float64)


def _resampled_means(matrix: Values, generator: np.random.Generator) -> Values:
    """Means of launches drawn with replacement; how often each is drawn is multinomial."""
    n = len(matrix)
    if n > _NORMAL_FROM:
        # Drawing two thousand times from this many would take minutes to find the normal distribution.
        covariance = np.atleast_2d(np.cov(matrix, rowvar=False)) / n
        return generator.multivariate_normal(matrix.mean(axis=0), covariance, _RESAMPLES)
    weights = generator.multinomial(n, np.full(n, 1 / n), _RESAMPLES) / n
    return np.asarray(weights @ matrix, dtype=np.float64)


def _contribution(name: str, value: float, drawn: Values) -> Contribution:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Contribution(name, value, float(low), float(high))
