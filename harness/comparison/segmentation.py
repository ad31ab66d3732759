"""The best partition of a series into segments, each described by its median."""

from __future__ import annotations

import numpy as np

from pybench.harness.comparison.ranks import Values

_ENDS_AT_ONCE = 64
"""Bounds the memory: so many rows, as long as the series, are held at a time."""


def segment_ends(values: Values, penalty: float, shortest: int) -> list[int]:
    """Where the segments of the best partition end (exclusive); the last is the length of the series.

    The best partition has the least sum, over its segments, of the absolute deviations from each segment's
    median, plus a penalty for each segment. It is found exactly, by optimal partitioning (Jackson et al., "An
    Algorithm for Optimal Partitioning of Data on an Interval", IEEE Signal Processing Letters 12, 2005), in
    n² log n steps of numpy.

    Args:
        values: at least `shortest`, finite.
        penalty: what a further segment must save.
        shortest: the fewest values of a segment.
    """
    costs = _Deviations(values)
    n = len(values)
    total = np.full(n + 1, np.inf)
    total[0] = 0.0
    begins = np.zeros(n + 1, dtype=np.int64)
    for first in range(shortest, n + 1, _ENDS_AT_ONCE):
        ends = np.arange(first, min(first + _ENDS_AT_ONCE, n + 1))
        of_block = costs.until(ends)
        for end, of_segment in zip(ends.tolist(), of_block, strict=True):
            last = end - shortest + 1
            candidates = total[:last] + of_segment[:last]
            begin = int(candidates.argmin())
            total[end], begins[end] = candidates[begin] + penalty, begin
    found = [n]
    while begins[found[-1]]:
        found.append(int(begins[found[-1]]))
    return found[::-1]


class _Deviations:
    """The sum of the absolute deviations from its median, of any segment of a series.

    A wavelet matrix (Claude, Navarro and Ordóñez, "The Wavelet Matrix", Information Systems 47, 2015) of the
    values' ranks, with running sums beside its running counts: one step down for each bit of a rank parts the
    smaller half of any segment from the larger one.
    """

    def __init__(self, values: Values) -> None:
        n = len(values)
        order = np.argsort(values, kind="stable")
        ranks = np.empty(n, dtype=np.int64)
        ranks[order] = np.arange(n)
        self._ordered = values[order]
        self._sums = np.concatenate(([0.0], np.cumsum(values)))
        self._levels = []
        row = ranks
        for bit in range(max(1, (n - 1).bit_length()) - 1, -1, -1):
            is_low = (row >> bit) & 1 == 0
            counts = np.concatenate(([0], np.cumsum(is_low)))
            sums = np.concatenate(([0.0], np.cumsum(np.where(is_low, self._ordered[row], 0.0))))
            self._levels.append((1 << bit, counts, sums))
            row = np.concatenate((row[is_low], row[~is_low]))

    def until(self, ends: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Values:
        """Of the segments that end (exclusive) there: a row for each end, a column for each beginning.

        A column at or beyond the end means nothing.
        """
        begins = np.arange(ends[-1])
        high = np.repeat(ends[:, None], len(begins), axis=1)
        low = np.minimum(begins, high)
        length = high - low
        all_sum = self._sums[high] - self._sums[low]
        left = length // 2  # The smaller half; of an odd number the median comes next.
        below = np.zeros(length.shape)
        rank = np.zeros(length.shape, dtype=np.int64)
        for weight, counts, sums in self._levels:
            low_before, high_before = counts[low], counts[high]
            inside = high_before - low_before
            goes_up = left >= inside
            below += np.where(goes_up, sums[high] - sums[low], 0.0)
            left = np.where(goes_up, left - inside, left)
            rank += np.where(goes_up, weight, 0)
            zeros = counts[-1]
            low = np.where(goes_up, zeros + low - low_before, low_before)
            high = np.where(goes_up, zeros + high - high_before, high_before)
        median = np.where(length % 2, self._ordered[np.minimum(rank, len(self._ordered) - 1)], 0.0)
        return all_sum - 2 * below - median
