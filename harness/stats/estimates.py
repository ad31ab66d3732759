"""The summary of a cell: medians, their intervals, quantiles, ratios."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.looks import looks_of
from pybench.harness.model import Estimate, Sample
from pybench.harness.stats.cells import CellSamples, different_qualifiers, gathered
from pybench.harness.stats.intervals import CONFIDENCE, Interval, Values, median_interval
from pybench.harness.stats.sequential import repeated_interval

FEWEST_FOR_P95: Final = 20
FEWEST_FOR_P99: Final = 100
RESAMPLES: Final = 2000


class Ratio(NamedTuple):
    """A ratio of medians and its 95 % interval."""

    value: float
    low: float
    high: float


def estimates(samples: Iterable[Sample]) -> list[Estimate]:
    """One estimate per cell, in the order in which the cells first appear.

    A cell of warm-ups only is left out; one of failures only is there, with n = 0.
    """
    return estimates_of(gathered(samples))


def estimates_of(found: Iterable[CellSamples]) -> list[Estimate]:
    """As `estimates`, of samples that have been gathered already."""
    return [_estimate(cell) for cell in found if cell.was_measured]


def estimate(samples: Sequence[Sample]) -> Estimate:
    """Summarise the samples of one cell.

    The median has the distribution-free interval of `median_interval`, or, where the samples say that
    precision was looked at while they were taken, that of `repeated_interval`. p95 and p99 are `quantile`s
    and are given from 20 and 100 samples on: below that, fewer than one sample is expected beyond them.

    Raises:
        ValueError: there are no samples, or they belong to several cells.
    """
    found = gathered(samples)
    if len(found) != 1:
        raise ValueError(f"an estimate is of one cell, not of {len(found)}")
    return _estimate(found[0])


def _estimate(cell: CellSamples) -> Estimate:
    workload, target, metric, unit, _ = cell.key
    numbers, samples = cell.values, cell.samples
    failed = sum(sample.status == "failed" and not sample.warmup for sample in cell.others)
    n = len(numbers)
    median = mean = math.nan
    interval = Interval(math.nan, math.nan, 0.0)
    if n:
        median, mean = quantile(numbers, 0.5), float(numbers.mean())
        looks = looks_of(samples[0].qualifiers)
        interval = median_interval(numbers) if looks is None else repeated_interval(numbers, *looks)
    return Estimate(
        workload=workload,
        target=target,
        metric=metric,
        unit=unit,
        n=n,
        failed=failed,
        median=median,
        mean=mean,
        ci_low=interval.low,
        ci_high=interval.high,
        confidence=interval.confidence,
        p95=quantile(numbers, 0.95) if n >= FEWEST_FOR_P95 else None,
        p99=quantile(numbers, 0.99) if n >= FEWEST_FOR_P99 else None,
        qualifiers=_agreed(cell.qualifiers) if n else shared_qualifiers(samples),
        parameters=samples[0].parameters,
    )


def quantile(numbers: Sequence[float] | Values, probability: float) -> float:
    """The sample quantile of type 7 in Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996).

    It interpolates linearly between the order statistics around (n − 1)·p + 1; it is the default of NumPy,
    pandas, R and spreadsheets, so that anyone can recompute it from the samples.
    """
    return float(np.quantile(numbers, probability, method="linear"))


def ratio(numerator: Sequence[float] | Values, denominator: Sequence[float] | Values, seed: int = 1) -> Ratio:
    """How many times larger the median of one side is than that of the other, with a 95 % interval.

    The interval is the bootstrap percentile interval (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13): both sides are resampled 2,000 times, independently. Seeded, so that
    a report drawn twice shows the same figure. A side of one value has no spread to resample and adds none.

    Raises:
        ValueError: a side is empty, or the denominator has a value that is not positive.
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if not len(above) or not len(below):
        raise ValueError("a ratio needs at least one value on each side")
    if not (below > 0).all():
        raise ValueError("a ratio needs a denominator of positive values")
    generator = np.random.default_rng(seed)
    resampled = _resampled_medians(above, generator) / _resampled_medians(below, generator)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(float(np.median(above) / np.median(below)), float(low), float(high))


def phase_sums(samples: Iterable[Sample], metric: str = "startup") -> dict[tuple[str, str, int], float]:
    """The sum of each launch's phases `<metric>.phase.*`, by (workload, target, order); in the phases' unit.

    Medians of phases do not add up to the median of the total, but sums per launch and means do.
    """
    phases: dict[tuple[str, str, int], list[float]] = {}
    prefix = f"{metric}.phase."
    for sample in samples:
        if sample.metric.startswith(prefix) and sample.value is not None:
            phases.setdefault((sample.workload, sample.target, sample.order), []).append(sample.value)
    return {key: math.fsum(parts) for key, parts in phases.items()}


def shared_qualifiers(samples: Sequence[Sample]) -> Mapping[str, str]:
    """The qualifiers on which every sample agrees, in the first one's order."""
    return _agreed(different_qualifiers(samples))


def _agreed(mappings: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    if not mappings:
        return {}
    first, *others = mappings
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _resampled_medians(numbers: Values, generator: np.random.Generator) -> Values:
    """The medians of so many resamples, drawn from their distribution instead of from resamples.

    A resample takes value number ⌊n·u⌋ for each of n uniform u. The k-th smallest of these is distributed as
    Beta(k, n − k + 1), and the next one as the least of the n − k that are uniform above it (David and
    Nagaraja, "Order Statistics", 3rd ed. 2003, section 2.3), so that the effort does not depend on n.
    """
    ordered = np.sort(numbers)
    n = len(ordered)
    middle = (n + 1) // 2
    lower = generator.beta(middle, n - middle + 1, RESAMPLES)
    medians = ordered[_positions(lower, n)]
    if n % 2:
        return medians
    upper = lower + (1 - lower) * (1 - generator.random(RESAMPLES) ** (1 / (n - middle)))
    return (medians + ordered[_positions(upper, n)]) / 2


def _positions(shares: Values, n: int) -> np.typing.NDArray[np.int64]:
    return np.minimum((shares * n).astype(np.int64), n - 1)
