"""Many tests at once: how small their p-values must be together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Tests(NamedTuple):
    """The p-values of one cell; None for a test that could not have found anything."""

    shift: float | None
    """Of the Mann–Whitney test."""
    tail: float | None = None
    """Of the quantile test of the worst tenth, with the shift taken out."""
    base: float | None = None
    """Of the test in which the best values weigh most."""
    phase: float | None = None
    """Of the tests of a start's phases, each against the others."""


class Adjusted(NamedTuple):
    """The same after all tests that are judged together; 1 for one that was not made."""

    shift: float = 1.0
    tail: float = 1.0
    base: float = 1.0
    phase: float = 1.0


def alone(tests: Tests) -> Adjusted:
    """The tests of one cell as they are."""
    return Adjusted(*(1.0 if p is None else p for p in tests))


def adjusted(tests: Sequence[Tests]) -> list[Adjusted]:
    """Judge the tests of all cells together, by the procedure of Benjamini and Hochberg."""
    made = [p for each in tests for p in each if p is not None]
    found = iter(benjamini_hochberg(made))
    return [Adjusted(*(1.0 if p is None else next(found) for p in each)) for each in tests]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: those at most q are the discoveries at a false discovery rate of q.

    Benjamini and Hochberg, "Controlling the False Discovery Rate", Journal of the Royal Statistical Society B
    57(1), 1995; valid for positively dependent tests too, such as those of one launch's instants (Benjamini
    and Yekutieli, Annals of Statistics 29(4), 2001). Where nothing changed at all, q also bounds the
    probability of any discovery.

    Raises:
        ValueError: a p-value is not between 0 and 1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not len(given):
        return []
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("a p-value lies between 0 and 1")
    order = np.argsort(given, kind="stable")
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    smallest_from_here = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(smallest_from_here, 1.0)
    return [float(value) for value in adjusted]
