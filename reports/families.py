"""Which metrics belong together in a report, and how their family is drawn.

A new family of metrics needs an entry here, and its words in `vocabulary.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Drawing = Literal["headline", "each", "overhead"]
"""`headline`: a figure for the table that answers, tables for the rest. `each`: a figure for every table.
`overhead`: all metrics in one figure, as multiples of the bare process's."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that begin alike, shown in one section."""

    id: str
    label: str
    """In the navigation."""
    title: str
    prefixes: tuple[str, ...]
    drawing: Drawing = "each"
    parameter: str = ""
    """What its measurement goes through by itself: metrics that have it are drawn over it."""


FAMILIES = (
    Family("comparison", "Comparison", "Comparison", ("startup.", "teardown", "restart"), "headline"),
    Family("memory", "Memory", "Memory", ("memory.",)),
    Family("density", "Density", "What one more instance costs", ("density.",), parameter="instances"),
    Family("rate", "Rate", "How many starts a second", ("rate.",), parameter="concurrency"),
    Family(
        "throughput", "Throughput", "How fast work goes inside", ("throughput.", "latency.", "tools."),
        "overhead",
    ),
    Family("network", "Network", "What a network path costs", ("network.",), "overhead"),
    Family(
        "interference", "Interference", "What neighbours do to each other", ("interference.",),
        parameter="neighbour",
    ),
    Family("limits", "Limits", "How exactly limits hold", ("limits.",), "headline"),
    Family("ports", "Ports", "Many instances on one port", ("ports.", "coexistence."), "headline"),
    Family("layers", "Layers", "What instances of one image share", ("layers.",)),
)  # fmt: skip
OTHERS = Family("others", "Others", "Other measurements", ())
"""Whatever begins otherwise."""
SUPPORTING = (".low", ".high", ".fit", ".leak-index")
"""Endings of metrics that only say how sure another one is, or that another section shows."""


@lru_cache(maxsize=1024)
def family_of(metric: str) -> Family:
    """The family of a metric."""
    for family in FAMILIES:
        if metric.startswith(family.prefixes):
            return family
    return OTHERS
