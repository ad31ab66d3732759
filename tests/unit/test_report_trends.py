"""Trends over runs as a figure shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pybench.harness.stats import CellKey
from pybench.reports.colours import inks
from pybench.reports.trends import trend_figure, trends

CELL: CellKey = ("ready", "container", "startup.ready", "s", "")


def layout(started: Mapping[str, str]) -> Mapping[str, Any]:
    """The layout of the figure of one cell over these runs."""
    medians = [(run, 1e-3 + 1e-5 * number) for number, run in enumerate(started)]
    figure = trend_figure(trends({CELL: medians}), inks(["container"]), started, "startup")
    found: Mapping[str, Any] = json.loads(figure.drawing)["layout"]
    return found


def test_runs_of_one_day_are_told_apart() -> None:
    """Days name the runs of a trend, and of two runs on one day the time, too."""
    nights = {"a": "2026-01-30T22:00:00Z", "b": "2026-01-31T22:00:00Z"}
    assert layout(nights)["xaxis"]["ticktext"] == ["2026-01-30", "2026-01-31"]
    hours = {"a": "2026-01-31T09:15:00Z", "b": "2026-01-31T22:00:00Z"}
    assert layout(hours)["xaxis"]["ticktext"] == ["01-31 09:15", "01-31 22:00"]


def test_ticks_span_the_panel() -> None:
    """At most three ticks stand in a panel, from its lower part to its upper one."""
    started = {f"run-{number}": f"2026-01-{number + 1:02}T22:00:00Z" for number in range(9)}
    axis = layout(started)["yaxis"]
    low, high = axis["range"]
    places = [(tick - low) / (high - low) for tick in axis["tickvals"]]
    assert 2 <= len(places) <= 3
    assert places[0] < 0.4
    assert places[-1] > 0.6
