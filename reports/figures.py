"""The figures, as plotly draws them: quiet, labelled where the eye is, on a log axis only where needed.

A figure's title, caption and table are HTML around it, so that they wrap, can be read aloud and need
no script. Colours are those for light paper; the page exchanges them for the dark ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pybench.harness.model import Estimate
from pybench.harness.stats import Values
from pybench.harness.units import SCALES, count, plain_name
from pybench.reports.analysis import MetricTable, Row
from pybench.reports.axes import percent_ticks, plotly_text, scale_words, text_position, value_axis
from pybench.reports.colours import BLACK, VEIL, Ink
from pybench.reports.drawing import Drawing
from pybench.reports.findings import finding, phase_finding, spread_finding
from pybench.reports.numbers import one_line, single, slug
from pybench.reports.phases import PhaseBar
from pybench.reports.thinning import order_statistics
from pybench.reports.vocabulary import Said

ROW_HEIGHT = 64
AXIS_HEIGHT = 60
STRIP_HEIGHT = 54
"""Of one target's samples: a label of three lines needs as much."""
DRAWN_AT_ONCE = 2000
"""Samples of one target that a figure shows one by one; of more, evenly spaced order statistics."""
TAIL_KEPT = 200
TEXT = BLACK
"""The ink of letters."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with all that belongs to it.

    `headers` and `rows` are the table behind it, the first cell of a row names the row; both are
    empty where the page shows the figure's table anyway. `label` is what a screen reader says.
    `drawing` is plotly's own JSON; `height` is in CSS pixels.
    """

    id: str
    workload: str
    title: str
    label: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    drawing: Markup
    height: int


def themes(inks: Mapping[str, Ink]) -> dict[str, Any]:
    """Layout templates for light and dark paper, and which colour becomes which on dark paper."""
    return {
        "light": _template(text=TEXT.light, muted="#5c6066", grid="#e6e7e9", line="#b9bdc2"),
        "dark": _template(text=TEXT.dark, muted="#a3a7ad", grid="#2c3036", line="#4d535b"),
        "colours": {ink.light: ink.dark for ink in (*inks.values(), TEXT, VEIL)},
    }


def comparison_figure(table: MetricTable, inks: Mapping[str, Ink]) -> Figure:
    """Median and interval of each target; the 95th percentile as a ring where there are enough samples."""
    rows = table.measured
    values = [number for row in rows for number in _extent(row)]
    drawing = Drawing()
    positions = _positions(rows)
    for row, y in zip(rows, positions, strict=True):
        if row.estimate:
            _dot(drawing, row, row.estimate, y, inks[row.target], values)
    _target_axis(drawing, rows)
    drawing.x_axis(**value_axis(values, table.unit, from_zero=True))
    height = AXIS_HEIGHT + ROW_HEIGHT * len(rows)
    return Figure(
        id=slug("figure", table.metric, table.workload),
        workload=table.workload,
        title=finding(table),
        label=f"{table.text.title}: median and interval of {count(len(rows), 'target')}",
        caption=(
            f"Mark: median. Bar: its 95 % interval, often narrower than the mark. Ring: 95th percentile, "
            f"from 20 samples on.{scale_words(values)}"
        ),
        headers=(),
        rows=(),
        drawing=drawing.json(height),
        height=height,
    )


def _dot(  # noqa: PLR0917 - what is drawn, where, and how
    drawing: Drawing, row: Row, estimate: Estimate, y: int, ink: Ink, values: Sequence[float]
) -> None:
    """One target of a comparison: median, interval and 95th percentile, with the median in words."""
    if estimate.p95 is not None:
        drawing.scatter(
            x=[estimate.p95],
            y=[y],
            mode="markers",
            hoverinfo="skip",
            marker={"symbol": f"{ink.marker}-open", "size": 9, "color": ink.light, "opacity": 0.75},
        )
    drawing.scatter(
        x=[estimate.median],
        y=[y],
        mode="markers+text",
        text=[row.median],
        textposition=text_position(estimate.median, values),
        cliponaxis=False,
        marker={"symbol": ink.marker, "size": 12, "color": ink.light},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, estimate.ci_high - estimate.median)],
            "arrayminus": [max(0.0, estimate.median - estimate.ci_low)],
            "color": ink.light,
            "thickness": 2.5,
            "width": 5,
        },
        hovertemplate=f"{plotly_text(row.label)}: {row.median} ({row.interval}), n = {row.n}<extra></extra>",
    )


def distribution_figure(table: MetricTable, inks: Mapping[str, Ink]) -> Figure:
    """Every sample as a mark, above the cumulative share of samples (ECDF) on the same axis."""
    rows = table.measured
    strip_height, curve_height = 40 + STRIP_HEIGHT * len(rows), 220
    height = strip_height + curve_height
    drawing = Drawing((strip_height, curve_height), shared=True)
    for row, y in zip(rows, _positions(rows), strict=True):
        _strip_and_curve(drawing, row, y, table.unit, inks[row.target])
    extent = [float(end) for row in rows for end in (row.values.min(), row.values.max())]
    _target_axis(drawing, rows)
    for panel in (1, 2):
        drawing.x_axis(panel, **value_axis(extent, table.unit))
    drawing.y_axis(2, range=[-0.03, 1.05], showgrid=True, **percent_ticks())
    caption = (
        "Above: one mark per sample; its height within the row means nothing. Below: the share of samples "
        f"that took at most so long. Warm-ups and failed launches are left out.{scale_words(extent)}"
    )
    shown, total = sum(min(row.n, DRAWN_AT_ONCE) for row in rows), sum(row.n for row in rows)
    if shown < total:
        caption += f" {shown} of {total} samples are drawn, all of both tails."
    return Figure(
        id=slug("distribution", table.metric, table.workload),
        workload=table.workload,
        title=spread_finding(table),
        label=f"{table.text.title}: every sample of {count(len(rows), 'target')}, and their cumulative share",
        caption=caption,
        headers=("Target", "Minimum", "25 %", "Median", "75 %", "Maximum", "n"),
        rows=tuple((target_words(row), *_quartiles(row.values, table.unit), str(row.n)) for row in rows),
        drawing=drawing.json(height + AXIS_HEIGHT),
        height=height + AXIS_HEIGHT,
    )


def _strip_and_curve(drawing: Drawing, row: Row, y: int, unit: str, ink: Ink) -> None:
    """One target of a distribution: its samples in the upper panel, their share in the lower one."""
    values = _drawn(row.values)
    label = plotly_text(row.label)
    shown = f"%{{x:.4s}}{plain_name(unit)}" if unit in SCALES else f"%{{x:.4g}} {plotly_text(unit)}"
    drawing.scatter(
        x=values,
        y=y + _jitter(len(values)),
        mode="markers",
        marker={"symbol": ink.marker, "size": 6, "color": ink.light, "opacity": 0.55},
        hovertemplate=f"{label}: {shown}<extra></extra>",
    )
    ordered, drawn = np.sort(row.values), np.sort(values)
    shares = np.searchsorted(ordered, drawn, side="right") / len(ordered)
    drawing.scatter(
        x=np.concatenate([ordered[:1], drawn]),
        y=np.concatenate([[0.0], shares]),
        mode="lines",
        line={"color": ink.light, "width": 2, "shape": "hv"},
        hovertemplate=f"{label}: %{{y:.0%}} ≤ {shown}<extra></extra>",
        panel=2,
    )


def phase_figure(bars: Sequence[PhaseBar], inks: Mapping[str, Ink]) -> Figure:
    """The phases of each target's start, each bar stretched to its own total."""
    drawing = Drawing()
    positions = list(range(len(bars), 0, -1))
    for bar, y in zip(bars, positions, strict=True):
        ink = inks[bar.target]
        for index, span in enumerate(bar.spans):
            name = plotly_text(one_line(span.name, 24))
            drawing.bar(
                x=[span.width / (bar.total or 1.0)], y=[y], orientation="h", width=0.52,
                marker={"color": ink.light, "opacity": 0.22 if index % 2 else 0.38, "line": {"width": 0}},
                text=f"{name}<br>{span.quantity.text}", textposition="inside", insidetextanchor="middle",
                textangle=0, constraintext="inside", insidetextfont={"color": TEXT.light},
                hovertemplate=f"{name}: {span.quantity.text} ({span.quantity.interval})<extra></extra>",
            )  # fmt: skip
    labels = [
        _axis_label(bar.target, bar.said, single(bar.total, bar.spans[0].estimate.unit), f"n = {bar.n}")
        for bar in bars
    ]
    drawing.layout |= {"barmode": "stack", "uniformtext": {"minsize": 11, "mode": "hide"}}
    drawing.y_axis(
        tickvals=positions, ticktext=labels, range=[0.5, len(bars) + 0.5], showgrid=False, automargin=True
    )
    drawing.x_axis(range=[0, 1], title="share of the target’s own start", showgrid=False, **percent_ticks())
    height = AXIS_HEIGHT + 20 + ROW_HEIGHT * len(bars)
    return Figure(
        id=slug("phases", bars[0].workload),
        workload=bars[0].workload,
        title=phase_finding(bars),
        label=f"Phases of the start on {count(len(bars), 'target')}",
        caption=(
            "Every bar is one whole start, stretched to the same length; its median time stands beside the "
            "target. A phase ends at the median instant of its mark, so the phases add up to the whole. "
            "Phases too short for a label are in the table."
        ),
        headers=("Target", "Phase", "Ends after", "Share", "Median", "95 % interval", "n"),
        rows=tuple(_phase_row(bar, index) for bar in bars for index in range(len(bar.spans))),
        drawing=drawing.json(height, bottom=64),
        height=height,
    )


def target_words(row: Row) -> str:
    """The target with its caveats, as a table's first cell."""
    return _with_caveats(row.target, row.said)


def _with_caveats(target: str, said: Said) -> str:
    label = one_line(target, 40)
    return f"{label} ({'; '.join(said.caveats)})" if said.caveats else label


def _phase_row(bar: PhaseBar, index: int) -> tuple[str, ...]:
    span = bar.spans[index]
    unit = span.estimate.unit
    return (
        _with_caveats(bar.target, bar.said), one_line(span.name), single(span.end, unit),
        f"{span.share * 100:.0f} %", span.quantity.text, span.quantity.interval, str(span.estimate.n),
    )  # fmt: skip


def _quartiles(values: Values, unit: str) -> tuple[str, ...]:
    return tuple(single(float(value), unit) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))


def _extent(row: Row) -> tuple[float, ...]:
    estimate = row.estimate
    if estimate is None:
        return ()
    return (estimate.ci_low, estimate.median, estimate.ci_high, *((estimate.p95,) if estimate.p95 else ()))


def _positions(rows: Sequence[Row]) -> list[int]:
    """The first row on top; plotly counts from below."""
    return list(range(len(rows), 0, -1))


def _drawn(values: Values) -> Values:
    """All values, or of very many both tails whole and between them every k-th in order of size."""
    if len(values) <= DRAWN_AT_ONCE:
        return values
    return np.sort(values)[order_statistics(len(values), DRAWN_AT_ONCE, TAIL_KEPT)]


def _jitter(n: int) -> Values:
    """Heights that spread neighbours evenly: multiples of the golden ratio, modulo 1, within ±0.3."""
    return (np.arange(n, dtype=np.float64) * 0.6180339887 % 1.0 - 0.5) * 0.6


def _axis_label(target: str, words: Said, *remarks: str) -> str:
    caveats = [plotly_text(one_line("; ".join(words.caveats), 26))] if words.caveats else []
    return "<br>".join(
        [f"<b>{plotly_text(one_line(target, 22))}</b>", *caveats, plotly_text(", ".join(remarks))]
    )


def _target_axis(drawing: Drawing, rows: Sequence[Row]) -> None:
    labels = [_axis_label(row.target, row.said, f"n = {row.n}") for row in rows]
    drawing.y_axis(
        tickvals=_positions(rows), ticktext=labels, range=[0.4, len(rows) + 0.65], automargin=True,
        showgrid=False, zeroline=False,
    )  # fmt: skip


def _template(*, text: str, muted: str, grid: str, line: str) -> dict[str, Any]:
    axis = {
        "gridcolor": grid, "linecolor": line, "zeroline": False, "ticks": "",
        "tickfont": {"color": text, "size": 12.5},
        "title": {"font": {"color": muted, "size": 12.5}, "standoff": 8}, "fixedrange": True,
    }  # fmt: skip
    return {
        "layout": {
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": text, "family": "system-ui, sans-serif", "size": 13},
            "xaxis": {**axis, "showline": True, "tickangle": 0}, "yaxis": axis,
            "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
        }
    }  # fmt: skip
