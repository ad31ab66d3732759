"""Figures of what was measured over a parameter, and of many metrics against the bare process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from pybench.harness.comparison.direction import worse_direction
from pybench.harness.stats import Ratio, ratio
from pybench.harness.units import count
from pybench.reports.analysis import MetricTable, Row
from pybench.reports.axes import plotly_text, scale_words, text_position, value_axis
from pybench.reports.colours import GREY, VEIL, Ink
from pybench.reports.curves import Curve, CurveLine, curve_finding
from pybench.reports.drawing import Drawing
from pybench.reports.figures import Figure, target_words
from pybench.reports.numbers import TIMES, one_line, single, slug
from pybench.reports.vocabulary import BASELINE

HEIGHT = 340
DRAWN_HEIGHT = HEIGHT - 74
"""Of a curve between the margins, in CSS pixels."""
NAME_HEIGHT, NAME_ABOVE = 18, 7
MARK_HEIGHT, BETWEEN_METRICS = 26, 0.6
"""Of one mark with its label, in CSS pixels, and the room between two metrics in such marks."""
METRIC_LETTERS = 20
"""In a line of a metric's name beside the axis: a phone has no room for more."""


def curve_figure(curve: Curve, inks: Mapping[str, Ink]) -> Figure:
    """A line for each target over the parameter, with the interval of every median."""
    drawing = Drawing()
    values = [end for line in curve.lines for point in line.measured for end in (point.low, point.high)]
    for line in curve.lines:
        _draw_line(drawing, line, inks[line.target])
    name, axis = curve.family.parameter, value_axis(values, curve.unit, from_zero=True)
    _name_lines(drawing, curve.lines, axis)
    drawing.x_axis(title=plotly_text(name), tickvals=list(curve.values)[:24], showgrid=False)
    drawing.y_axis(**axis, showgrid=True, automargin=True)
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
        drawing=drawing.json(HEIGHT, bottom=64),
        height=HEIGHT,
    )


def _draw_line(drawing: Drawing, line: CurveLine, ink: Ink) -> None:
    points = line.measured
    if not points:
        return
    name = plotly_text(one_line(_words(line), 34))
    drawing.scatter(
        x=[point.at for point in points], y=[point.median for point in points],
        mode="lines+markers", cliponaxis=False, line={"color": ink.light, "width": 2},
        marker={"symbol": ink.marker, "size": 8, "color": ink.light},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": ink.light,
            "array": [max(0.0, point.high - point.median) for point in points],
            "arrayminus": [max(0.0, point.median - point.low) for point in points],
        },
        customdata=[plotly_text(f"{point.text} ({point.interval}), n = {point.n}") for point in points],
        hovertemplate=f"{name}, %{{x}}: %{{customdata}}<extra></extra>",
    )  # fmt: skip


def _name_lines(drawing: Drawing, lines: Sequence[CurveLine], axis: Mapping[str, Any]) -> None:
    """Each line's name above its last point, moved up where it would stand on another name."""
    low, high = axis.get("range", (0.0, 1.0))
    ends = sorted(
        ((line.measured[-1], line) for line in lines if line.measured), key=lambda end: end[0].median
    )
    taken = -math.inf
    for point, line in ends:
        place = math.log10(point.median) if axis.get("type") == "log" else point.median
        height = (place - low) / (high - low) * DRAWN_HEIGHT
        taken = max(height + NAME_ABOVE, taken + NAME_HEIGHT)
        drawing.note(
            x=point.at, y=place, text=plotly_text(one_line(_words(line), 34)), showarrow=False,
            xanchor="right", yanchor="bottom", yshift=taken - height, borderpad=0, bgcolor=VEIL.light,
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
    found, middles, bottom = _placed(lines)
    if not found:
        return None
    drawing = Drawing()
    extent = [1.0, *(end for _, _, value, _ in found for end in value)]
    named: set[str] = set()
    for _, row, value, height in found:
        label, near = single(value.value, TIMES, 2), 0.12
        if row.target not in named:
            # Named where it stands first; colour and mark tell it from then on, with no name upon another.
            label, near = f"{label} {one_line(target_words(row), 34)}", 0.5
            named.add(row.target)
        position = text_position(value.value, extent, near)
        _draw_ratio(drawing, row, value, height, inks[row.target], label, position)
    drawing.vertical_line(1, color=GREY.light, width=1.5, dash="dot")
    drawing.y_axis(
        tickvals=middles, ticktext=[_wrapped(table.text.title) for table, _ in lines],
        range=[bottom + BETWEEN_METRICS + 0.5, 1], automargin=True, showgrid=False,
    )  # fmt: skip
    drawing.x_axis(**value_axis(extent, TIMES), title="as a multiple of the bare process")
    height = 90 + round(MARK_HEIGHT * -bottom)
    return Figure(
        id=slug("overhead", tables[0].metric, tables[0].workload),
        workload=tables[0].workload,
        title=_overhead_finding([(table, row, value) for table, row, value, _ in found]),
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
        drawing=drawing.json(height, bottom=64),
        height=height,
    )  # fmt: skip


def _placed(
    lines: Sequence[tuple[MetricTable, Sequence[Row]]],
) -> tuple[list[tuple[MetricTable, Row, Ratio, float]], list[float], float]:
    """Each ratio with its height, the middle of each metric, and the lower end; the top is 0."""
    found, middles, y = [], [], 0.0
    for table, rows in lines:
        reference = table.row(BASELINE)
        middles.append(y - (len(rows) - 1) / 2)
        for row in rows:
            if reference and reference.values.min() > 0 and row.values.min() > 0:
                found.append((table, row, ratio(row.values, reference.values), y))
            y -= 1
        y -= BETWEEN_METRICS
    return found, middles, y


def _overhead_finding(found: Sequence[tuple[MetricTable, Row, Ratio]]) -> str:
    """What costs most: the lowest of rates and the highest of times, whichever is further from 1."""

    def behind(each: tuple[MetricTable, Row, Ratio]) -> float:
        table, row, value = each
        is_rate = worse_direction((row.workload, row.target, table.metric, table.unit, "")) < 0
        return 1 / value.value if is_rate else value.value

    worst = max(found, key=behind)
    table, row, value = worst
    where = f"{table.text.title} of {row.noun}, {single(value.value, TIMES, 2)} of it."
    if behind(worst) <= 1:
        return f"Nothing is behind the bare process; nearest is {where}"
    return f"Furthest behind the bare process: {where}"


def _draw_ratio(  # noqa: PLR0917 - what is drawn, where, and how
    drawing: Drawing, row: Row, value: Ratio, y: float, ink: Ink, label: str, position: str
) -> None:
    middle, low, high = value
    drawing.scatter(
        x=[middle], y=[y], mode="markers+text", textposition=position, cliponaxis=False,
        text=[plotly_text(label)],
        textfont={"size": 11},
        marker={"symbol": ink.marker, "size": 10, "color": ink.light},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 4, "color": ink.light,
            "array": [max(0.0, high - middle)], "arrayminus": [max(0.0, middle - low)],
        },
        hovertemplate=f"{plotly_text(row.noun)}: {single(middle, TIMES)}<extra></extra>",
    )  # fmt: skip


def _wrapped(title: str) -> str:
    return "<br>".join(plotly_text(line) for line in wrap(one_line(title, 44), METRIC_LETTERS))


def _words(line: CurveLine) -> str:
    label = one_line(line.target, 40)
    return f"{label} ({'; '.join(line.said.caveats)})" if line.said.caveats else label
