"""Which metrics belong together in a report, and how their family is drawn.

A new family of metrics needs an entry here, and its words in `vocabulary.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Drawing = Literal["headline", "each", "overhead", "curve", "matrix"]
"""`headline`: a figure for the table that answers, tables for the rest. `each`: a figure for every table.
`overhead`: all metrics in one figure, as ratios to the bare process. `curve`: values over a parameter.
`matrix`: values over two things."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that begin alike, shown in one section."""

    id: str
    label: str
    """In the navigation."""
    title: str
    prefixes: tuple[str, ...]
    drawing: Drawing


FAMILIES = (
    Family("comparison", "Comparison", "Comparison", ("startup.", "teardown"), "headline"),
    Family("memory", "Memory", "Memory", ("memory.",), "each"),
    Family("density", "Density", "What one more instance costs", ("density.",), "curve"),
    Family("rate", "Rate", "How many starts a second", ("rate.",), "each"),
    Family(
        "throughput",
        "Throughput",
        "How fast work goes inside",
        ("throughput.", "network.", "latency."),
        "overhead",
    ),
    Family("interference", "Interference", "What neighbours do to each other", ("interference.",), "matrix"),
)
OTHERS = Family("others", "Others", "Other measurements", (), "each")
"""Whatever begins otherwise."""


def family_of(metric: str) -> Family:
    """The family of a metric."""
    for family in FAMILIES:
        if metric.startswith(family.prefixes):
            return family
    return OTHERS
