"""What reports draw is what plotly's schema allows."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from audit_samples import audit_samples
from load_runs import load_samples
from report_runs import make_run, make_samples

from pybench.harness.model import Sample
from pybench.reports.colours import GREY
from pybench.reports.comparison import render_comparison
from pybench.reports.drawing import Drawing
from pybench.reports.html import render
from pybench.reports.trends import trend_figure, trends

DRAWING = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
LAUNCHED = make_samples({"process": 30, "container": 30, "vm": 30})


def parsed(drawing: Drawing) -> dict[str, Any]:
    """A drawing of 300 pixels as a page reads it."""
    found: dict[str, Any] = json.loads(drawing.json(300))
    return found


def drawings(page: str) -> list[str]:
    """All that stand in a page."""
    return DRAWING.findall(page)


@pytest.mark.parametrize("samples", [LAUNCHED, load_samples(), [*LAUNCHED, *audit_samples()]])
def test_figures_of_a_run_keep_to_the_schema(samples: Sequence[Sample]) -> None:
    """Plotly's own library for Python, which knows every property, takes each figure of a report."""
    found = drawings(render(make_run(), samples))
    assert found
    for each in found:
        go.Figure(json.loads(each))


def test_figures_of_many_runs_keep_to_the_schema() -> None:
    """As do those of runs side by side, and of medians over runs."""
    pages = render_comparison([(make_run(id="one"), LAUNCHED), (make_run(id="two"), LAUNCHED)])
    cells = [("hello", target, "startup.ready", "s", "") for target in ("process", "vm")]
    series = {cell: [(f"run-{n}", 1.0 + n // 10) for n in range(20)] for cell in cells}
    trend = trend_figure(trends(series, {cells[0]: 2.5}), {"vm": GREY}, {}, "ready")
    found = [*drawings(pages), str(trend.drawing)]
    assert len(found) > 1
    for each in found:
        go.Figure(json.loads(each))


def test_panels_stand_above_each_other() -> None:
    """The first panel is on top, heights are in proportion, and a shared axis is the lowest one's."""
    drawing = Drawing((1, 3), gap=0.2, shared=True)
    drawing.scatter(x=[1], y=[2])
    drawing.scatter(2, x=[1], y=[2])
    drawing.x_axis(2, title="time")
    drawing.name_panels(["above", "below"])
    found = parsed(drawing)
    layout = found["layout"]
    assert layout["yaxis"]["domain"] == pytest.approx([0.8, 1.0])
    assert layout["yaxis2"]["domain"] == pytest.approx([0.0, 0.6])
    assert layout["xaxis"]["matches"] == "x2"
    assert layout["xaxis2"]["title"] == {"text": "time"}
    assert [each["y"] for each in layout["annotations"]] == pytest.approx([1.0, 0.6])
    assert [trace.get("yaxis", "y") for trace in found["data"]] == ["y", "y2"]
    assert go.Figure(found).data[1].xaxis == "x2"


def test_arrays_keep_every_bit() -> None:
    """Columns of numbers are packed, and come out as they went in."""
    values = np.array([0.1, 1e-300, 2.0**53 + 2])
    drawing = Drawing()
    drawing.scatter(x=values)
    (trace,) = parsed(drawing)["data"]
    assert trace["x"]["dtype"] == "f8"
    assert np.frombuffer(base64.b64decode(trace["x"]["bdata"]), "<f8").tolist() == values.tolist()
