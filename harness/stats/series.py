"""What a cell's samples say as a series: whether they drift, depend on each other, or have several modes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybench.harness.stats.intervals import Values

FEWEST_FOR_DRIFT: Final = 10
FEWEST_FOR_MODES: Final = 20
SMALLEST_DRIFT: Final = 0.01
FEWEST_DIFFERENT: Final = 10
SIGNIFICANCE: Final = 0.01
"""Of the tests for drift and for modes: each run makes many of them, and each false alarm costs trust."""
MOST_MODES: Final = 4
SMALLEST_MODE: Final = 0.1
"""Share of the samples below which a group apart counts as outliers and not as a mode."""
MOST_FOR_DRIFT: Final = 1000
MOST_FOR_MODES: Final = 400
"""Of longer series every n-th sample is looked at: the work grows with the square of their number."""
_GRID: Final = 512
_BISECTIONS: Final = 24
_RESAMPLES: Final = 200


class Drift(NamedTuple):
    """A trend over a series."""

    share: float
    """The change from the first to the last sample along the fitted line, as a share of the median."""
    probability: float
    """How probably a series without a trend has one at least as strong."""

    @property
    def is_shown(self) -> bool:
        """Whether the samples show it, and it is not negligible."""
        return self.probability < SIGNIFICANCE and abs(self.share) >= SMALLEST_DRIFT


class Mode(NamedTuple):
    """A value around which samples gather."""

    value: float
    share: float
    """Of the samples that lie nearer to it than to the next mode, parted at the lowest density between."""


def drift(numbers: Sequence[float] | Values) -> Drift | None:
    """The trend of a series in the order of measurement; None below ten samples.

    Whether there is one is told by the test of Mann ("Nonparametric Tests Against Trend", Econometrica 13,
    1945) and Kendall ("Rank Correlation Methods", 1955), with the normal approximation, corrected for
    continuity and for ties; how strong it is, by the slope of Theil and Sen (Sen, "Estimates of the
    Regression Coefficient Based on Kendall's Tau", Journal of the American Statistical Association 63,
    1968). Neither assumes a distribution.
    """
    values = _thinned(np.asarray(numbers, dtype=np.float64), MOST_FOR_DRIFT)
    n = len(values)
    if n < FEWEST_FOR_DRIFT:
        return None
    rows, columns = np.triu_indices(n, 1)
    differences = values[columns] - values[rows]
    score = float(np.sign(differences).sum())
    ties = np.unique(values, return_counts=True)[1].astype(np.float64)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    z = max(0.0, abs(score) - 1) / math.sqrt(variance) if variance > 0 else 0.0
    slope = float(np.median(differences / (columns - rows)))
    middle = float(np.median(values))
    share = slope * (n - 1) / abs(middle) if middle else 0.0
    return Drift(share, math.erfc(z / math.sqrt(2)))


def autocorrelation(numbers: Sequence[float] | Values) -> float | None:
    """How strongly each sample resembles the one before, from -1 to 1; None below ten samples.

    The coefficient of lag 1 (Box and Jenkins, "Time Series Analysis", 1976, section 2.1), of the samples'
    ranks, so that one outlier does not decide it. Without dependence it lies within ±1.96 / √n 95 times in
    100.
    """
    values = np.asarray(numbers, dtype=np.float64)
    if len(values) < FEWEST_FOR_DRIFT:
        return None
    ranks = np.searchsorted(np.sort(values), values) + 0.0
    centred = ranks - ranks.mean()
    total = float((centred**2).sum())
    return float((centred[1:] * centred[:-1]).sum()) / total if total else 0.0


def modes(numbers: Sequence[float] | Values, seed: int = 1) -> tuple[Mode, ...]:
    """The values around which samples gather, in ascending order; one of them unless more are shown.

    Silverman's test ("Using Kernel Density Estimates to Investigate Multimodality", Journal of the Royal
    Statistical Society B 43, 1981): the smallest bandwidth at which a Gaussian kernel estimate has no more
    than k modes is large if there are in truth more, which the smoothed bootstrap judges (200 samples,
    seeded). k grows until it is not rejected. The density is that of the logarithms where all values are
    positive, since starts are skewed. Modes with less than a tenth of the samples are outliers, and are
    merged into their neighbour.

    Below twenty samples, or with fewer than ten different values, such as small counts of pages, the only
    mode is the median.
    """
    values = _thinned(np.sort(np.asarray(numbers, dtype=np.float64)), MOST_FOR_MODES)
    if len(values) < FEWEST_FOR_MODES or len(np.unique(values)) < FEWEST_DIFFERENT:
        return (Mode(float(np.median(values)), 1.0),) if len(values) else ()
    is_positive = bool(values[0] > 0)
    scaled = np.log(values) if is_positive else values
    kept = _without_outliers(scaled)
    generator = np.random.default_rng(seed)
    for count in range(1, MOST_MODES + 1):
        bandwidth = _critical_bandwidth(kept, count)
        if count == MOST_MODES or not _is_rejected(kept, count, bandwidth, generator):
            break
    centres, borders = _peaks(kept, bandwidth)
    parts = np.histogram(scaled, bins=[-np.inf, *borders, np.inf])[0] / len(scaled)
    large = [
        Mode(float(np.exp(centre) if is_positive else centre), float(part))
        for centre, part in zip(centres, parts, strict=True)
    ]
    return _merged(large)


def _thinned(values: Values, most: int) -> Values:
    return values[:: -(-len(values) // most)] if len(values) > most else values


def _without_outliers(ordered: Values) -> Values:
    """Without what lies beyond Tukey's outer fences ("Exploratory Data Analysis", 1977).

    A far outlier has a mode of its own at any small bandwidth, and would always reject a single mode.
    """
    low, high = np.quantile(ordered, [0.25, 0.75])
    reach = 3 * (high - low)
    kept = ordered[(ordered >= low - reach) & (ordered <= high + reach)]
    # Where more than a tenth lies out there, it is no outlier but what is looked for.
    return kept if len(kept) > (1 - SMALLEST_MODE) * len(ordered) and kept[0] < kept[-1] else ordered


def _peaks(ordered: Values, bandwidth: float) -> tuple[Values, Values]:
    """Where a Gaussian kernel estimate has its maxima, and where it is lowest between two of them.

    The estimate is made on a grid, by Fourier transform (Silverman, "Kernel Density Estimation Using the Fast
    Fourier Transform", Applied Statistics 31, 1982): its cost does not depend on the number of samples.
    """
    margin = 3 * bandwidth
    low, high = float(ordered[0]) - margin, float(ordered[-1]) + margin
    counts, edges = np.histogram(ordered, bins=_GRID, range=(low, high))
    frequencies = np.fft.rfftfreq(_GRID, (high - low) / _GRID)
    kernel = np.exp(-2 * (np.pi * frequencies * bandwidth) ** 2)
    density = np.fft.irfft(np.fft.rfft(counts) * kernel, _GRID)
    rising = np.diff(density) > 0
    is_peak = np.append(False, rising) & np.append(~rising, False)
    # A single sample is a peak of at least 1/n of the highest; what is lower is rounding.
    peaks = np.flatnonzero(is_peak & (density > 0.1 * density.max() / len(ordered)))
    borders = [start + int(np.argmin(density[start:end])) for start, end in pairwise(peaks)]
    return edges[peaks] + (high - low) / _GRID / 2, edges[borders]


def _critical_bandwidth(ordered: Values, count: int) -> float:
    """The smallest bandwidth with at most `count` modes: their number falls as the bandwidth grows."""
    width = float(ordered[-1] - ordered[0])
    low, high = width / _GRID, width
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if len(_peaks(ordered, middle)[0]) <= count else (middle, high)
    return high


def _is_rejected(ordered: Values, count: int, bandwidth: float, generator: np.random.Generator) -> bool:
    """Whether samples of a density with `count` modes rarely need so large a bandwidth."""
    variance = float(ordered.var())
    # Silverman's equation 2: a smoothed bootstrap, shrunk to the variance of the samples.
    shrink = 1 / math.sqrt(1 + bandwidth**2 / variance)
    more = 0
    for _ in range(_RESAMPLES):
        drawn = generator.choice(ordered, len(ordered))
        noise = bandwidth * generator.standard_normal(len(ordered))
        drawn = drawn.mean() + shrink * (drawn - drawn.mean() + noise)
        more += len(_peaks(np.sort(drawn), bandwidth)[0]) > count
        if more >= SIGNIFICANCE * _RESAMPLES:
            return False
    return True


def _merged(found: list[Mode]) -> tuple[Mode, ...]:
    """Modes that are too small joined with the neighbour that has more samples."""
    merged = list(found)
    while len(merged) > 1:
        index, smallest = min(enumerate(merged), key=lambda entry: entry[1].share)
        if smallest.share >= SMALLEST_MODE:
            break
        neighbours = [place for place in (index - 1, index + 1) if 0 <= place < len(merged)]
        nearest = max(neighbours, key=lambda place: merged[place].share)
        joined = Mode(merged[nearest].value, merged[nearest].share + smallest.share)
        merged[nearest] = joined
        del merged[index]
    return tuple(merged)
