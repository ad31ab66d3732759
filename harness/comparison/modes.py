"""Whether values gather around more than one centre, as starts do that take one of two paths."""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

import numpy as np

from pybench.harness.comparison.ranks import Values

FEWEST: Final = 20
"""Samples below which nothing is said about modes."""
_SMALLEST_SHARE: Final = 0.1
"""Of all samples, for a centre to count as a mode rather than as a few outliers."""
_DEEPEST_VALLEY: Final = 0.5
"""Density between two modes, as a share of the smaller one's peak, above which they count as one."""
_WIDENING: Final = 1.4
"""The densest half is narrower than the middle one; this makes up for it (found by simulation)."""
_GRID: Final = 512
_MOST_SAMPLES: Final = 20_000
"""Evenly spaced order statistics stand for more samples than this."""


class Mode(NamedTuple):
    """One centre and the share of the samples that belong to it."""

    center: float
    share: float


def modes(values: Values) -> list[Mode]:
    """The modes in ascending order; empty where there are too few samples to tell.

    They are the peaks of a Gaussian kernel density estimate with Silverman's bandwidth ("Density Estimation
    for Statistics and Data Analysis", 1986, equation 3.31), except that it takes the spread of the densest
    half, which two centres that lie far apart do not widen. Peaks count if a valley of half their
    height separates them and a tenth of the samples gathers around each.
    """
    n = len(values)
    if n < FEWEST:
        return []
    ordered = np.sort(values)
    if n > _MOST_SAMPLES:
        ordered = ordered[np.linspace(0, n - 1, _MOST_SAMPLES).astype(np.int64)]
    width = _bandwidth(ordered)
    if width <= 0:
        return [Mode(float(np.median(ordered)), 1.0)]
    grid = np.linspace(ordered[0] - 3 * width, ordered[-1] + 3 * width, _GRID)
    # No finer than the grid: beyond it, far outliers would make every sample a peak of its own.
    density = _density(ordered, grid, max(width, float(grid[1] - grid[0])))
    return _gathered(ordered, grid, density)


def _bandwidth(ordered: Values) -> float:
    n = len(ordered)
    half = n // 2
    # Half of a normal distribution's mass lies within 1.349 standard deviations.
    densest = float((ordered[half:] - ordered[: n - half]).min()) / 1.349
    return float(0.9 * min(float(ordered.std()), densest) * n**-0.2 * _WIDENING)


def _density(ordered: Values, grid: Values, width: float) -> Values:
    step = float(grid[1] - grid[0])
    counts = np.histogram(ordered, bins=len(grid), range=(grid[0] - step / 2, grid[-1] + step / 2))[0]
    reach = min(len(grid) - 1, int(4 * width / step) + 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    smooth = np.convolve(counts.astype(np.float64), kernel, mode="full")
    return np.asarray(smooth[reach : reach + len(grid)], dtype=np.float64)


def _gathered(ordered: Values, grid: Values, density: Values) -> list[Mode]:
    """Merge peaks, the shallowest valley first, until every valley and every share is large enough."""
    rising = np.diff(density) > 0
    peaks = [int(at) for at in np.flatnonzero(rising[:-1] & ~rising[1:]) + 1] or [int(density.argmax())]
    valleys = [left + int(density[left : right + 1].argmin()) for left, right in itertools.pairwise(peaks)]
    while valleys:
        depths = [
            density[valley] / min(density[peaks[at]], density[peaks[at + 1]])
            for at, valley in enumerate(valleys)
        ]
        shallowest = int(np.argmax(depths))
        shares = _shares(ordered, grid, valleys)
        smallest = int(np.argmin(shares))
        if depths[shallowest] > _DEEPEST_VALLEY:
            at = shallowest
        elif shares[smallest] < _SMALLEST_SHARE:
            at = min(smallest, len(valleys) - 1)
        else:
            break
        lower = at if density[peaks[at]] < density[peaks[at + 1]] else at + 1
        del peaks[lower], valleys[at]
    return [
        Mode(float(grid[peak]), float(share))
        for peak, share in zip(peaks, _shares(ordered, grid, valleys), strict=True)
    ]


def _shares(ordered: Values, grid: Values, valleys: list[int]) -> Values:
    edges = np.searchsorted(ordered, grid[valleys]) if valleys else np.array([], dtype=np.int64)
    counts = np.diff(np.concatenate([[0], edges, [len(ordered)]]))
    return np.asarray(counts / len(ordered), dtype=np.float64)
