"""By what targets are chosen: criteria, the metrics that speak for each, and their first weights.

A new metric that matters to a decision needs an entry here, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pybench.reports.vocabulary import BASELINE, LIMIT

REFERENCES = frozenset({BASELINE, "chroot"})
"""Nobody chooses them for their isolation: they are ranked only on the reader's request."""
NEVER_RANKED = frozenset({LIMIT})
"""Limits to hold others against: nobody can choose them at all."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing to decide by."""

    id: str
    title: str
    question: str
    metrics: tuple[str, ...]
    """Alternatives, the most telling first; one that ends with a dot stands for all metrics that begin so."""
    weight: int
    better: Literal["less", "more"] = "less"


ISOLATION = "isolation"
"""The criterion that rests on the leak index of the audit, not on a metric."""

CRITERIA = (
    Criterion(
        "start",
        "Start",
        "How long until it is ready?",
        ("startup.ready", "startup.exec"),
        3,
    ),
    Criterion(
        "memory",
        "Memory",
        "What does one instance cost the host?",
        ("memory.host.pss", "memory.host.cgroup", "memory.host.rss"),
        2,
    ),
    Criterion(
        "density",
        "Density",
        "What does one more instance cost beside many?",
        ("density.memory.each",),
        2,
    ),
    Criterion(
        "rate", "Rate", "How many can be started in a second?", ("rate.best", "rate.cycles"), 1, better="more"
    ),
    Criterion(
        "throughput",
        "Throughput",
        "How fast does work go inside?",
        ("throughput.", "network.throughput."),
        2,
        better="more",
    ),
    Criterion(
        ISOLATION,
        "Isolation",
        "How much does it leak?",
        (),
        3,
    ),
)
