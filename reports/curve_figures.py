"""Figures of what was measured over a parameter, and of many metrics against the bare process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from pybench.harness.stats import Ratio, ratio
from pybench.reports.analysis import MetricTable, Row
from pybench.reports.axes import plotly_text, scale_words, text_position, value_axis
from pybench.reports.colours import GREY, Ink
from pybench.reports.curves import Curve, CurveLine, curve_finding
from pybench.reports.figures import Figure, drawing_of
from pybench.reports.numbers import TIMES, count, one_line, single, slug
from pybench.reports.vocabulary import BASELINE

HEIGHT = 340
ROW_HEIGHT = 52


def curve_figure(curve: Curve, inks: Mapping[str, Ink]) -> Figure:
    """A line for each target over the parameter, with the interval of every median."""
    figure = go.Figure()
    values = [end for line in curve.lines for point in line.measured for end in (point.low, point.high)]
    for line in curve.lines:
        _draw_line(figure, line, inks[line.target])
    name = curve.family.parameter
    figure.update_xaxes(title=plotly_text(name), tickvals=list(curve.values)[:24], showgrid=False)
    figure.update_yaxes(**value_axis(values, curve.unit, from_zero=True), showgrid=True, automargin=True)
    figure.update_layout(margin={"b": 64})
    return Figure(
        id=slug("curve", curve.metric, curve.workload),
        workload=curve.workload,
        title=curve_finding(curve),
        label=f"{curve.text.title} over {name} on {count(len(curve.lines), 'target')}",
        caption=f"Mark: median. Bar: its 95 % interval, or minimum to maximum below six samples."
        f"{scale_words(values)}",
        headers=("Target", name.capitalize(), "Median", "Interval", "n"),
        rows=tuple(
            (_words(line), one_line(str(point.at)), point.text, point.interval, str(point.n))
            for line in curve.lines
            for point in line.points
        ),
        drawing=drawing_of(figure, HEIGHT),
        height=HEIGHT,
    )


def _draw_line(figure: go.Figure, line: CurveLine, ink: Ink) -> None:
    points = line.measured
    if not points:
        return
    name = plotly_text(one_line(_words(line), 34))
    figure.add_scatter(
        x=[point.at for point in points], y=[point.median for point in points],
        mode="lines+markers+text", text=[*[""] * (len(points) - 1), name], textposition="top left",
        cliponaxis=False, line={"color": ink.light, "width": 2},
        marker={"symbol": ink.marker, "size": 8, "color": ink.light},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": ink.light,
            "array": [max(0.0, point.high - point.median) for point in points],
            "arrayminus": [max(0.0, point.median - point.low) for point in points],
        },
        customdata=[plotly_text(f"{point.text} ({point.interval}), n = {point.n}") for point in points],
        hovertemplate=f"{name}, %{{x}}: %{{customdata}}<extra></extra>",
    )  # fmt: skip


def overhead_figure(tables: Sequence[MetricTable], inks: Mapping[str, Ink]) -> Figure | None:
    """Every metric as a multiple of the bare process's, with its interval; None without such a reference."""
    lines = [
        (table, [row for row in table.measured if row.target != BASELINE])
        for table in tables
        if table.row(BASELINE) is not None
    ]
    lines = [(table, rows) for table, rows in lines if rows]
    if not lines:
        return None
    figure = go.Figure()
    heights = list(range(len(lines), 0, -1))
    extent, found = [1.0], []
    for (table, rows), y in zip(lines, heights, strict=True):
        reference = table.row(BASELINE)
        for place, row in enumerate(rows):
            if reference is None or reference.values.min() <= 0 or row.values.min() <= 0:
                continue
            value = ratio(row.values, reference.values)
            extent += [value.low, value.value, value.high]
            height = y + 0.2 * (len(rows) - 1 - 2 * place)
            found.append((table, row, value, height))
    if not found:
        return None
    for _, row, value, height in found:
        _draw_ratio(figure, row, value, height, inks[row.target], text_position(value.value, extent))
    figure.add_vline(x=1, line={"color": GREY.light, "width": 1.5, "dash": "dot"})
    labels = [plotly_text(one_line(table.text.title, 44)) for table, _ in lines]
    figure.update_yaxes(
        tickvals=heights, ticktext=labels, range=[0.4, len(lines) + 0.6], automargin=True, showgrid=False
    )
    figure.update_xaxes(**value_axis(extent, TIMES), title="as a multiple of the bare process")
    figure.update_layout(margin={"b": 64})
    height = 90 + ROW_HEIGHT * len(lines)
    table, row, value, _ = min(found, key=lambda each: each[2].value)
    return Figure(
        id=slug("overhead", tables[0].metric, tables[0].workload),
        workload=tables[0].workload,
        title=f"Furthest below the bare process: {table.text.title} of {row.noun}, "
        f"{single(value.value, TIMES)} of it.",
        label=f"{count(len(lines), 'metric')} as multiples of the bare process",
        caption="Mark: ratio of medians to the bare process, dotted at 1. Bar: its 95 % interval. Of rates, "
        f"more is better; of times, less.{scale_words(extent)}",
        headers=("Metric", "Target", "Ratio", "95 % interval"),
        rows=tuple(
            (
                table.text.title, row.noun, single(value.value, TIMES),
                f"{single(value.low, TIMES)}–{single(value.high, TIMES)}",
            )
            for table, row, value, _ in found
        ),
        drawing=drawing_of(figure, height),
        height=height,
    )  # fmt: skip


def _draw_ratio(  # noqa: PLR0917 - what is drawn, where, and how
    figure: go.Figure, row: Row, value: Ratio, y: float, ink: Ink, position: str
) -> None:
    middle, low, high = value
    figure.add_scatter(
        x=[middle], y=[y], mode="markers+text", textposition=position, cliponaxis=False,
        text=[plotly_text(f"{one_line(row.noun, 26)} {single(middle, TIMES, 2)}")],
        textfont={"size": 11},
        marker={"symbol": ink.marker, "size": 10, "color": ink.light},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 4, "color": ink.light,
            "array": [max(0.0, high - middle)], "arrayminus": [max(0.0, middle - low)],
        },
        hovertemplate=f"{plotly_text(row.noun)}: {single(middle, TIMES)}<extra></extra>",
    )  # fmt: skip


def _words(line: CurveLine) -> str:
    label = one_line(line.target, 40)
    return f"{label} ({'; '.join(line.said.caveats)})" if line.said.caveats else label
