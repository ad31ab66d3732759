"""Medians over runs: where their level changed, and the figure that shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pybench.harness.comparison.changepoints import ChangePoint, change_points
from pybench.harness.comparison.direction import worse_direction
from pybench.harness.stats import CellKey
from pybench.harness.units import count
from pybench.reports.axes import plotly_text, value_axis
from pybench.reports.colours import BLACK, GREY, Ink
from pybench.reports.drawing import Drawing
from pybench.reports.figures import Figure
from pybench.reports.numbers import one_line, percent_change, single, slug, tied
from pybench.reports.vocabulary import metric_text, noun

PANEL_HEIGHT = 132
MOST_DATES = 5
MOST_LEVELS = 3
"""Ticks of one panel's axis of values."""
DATE = len("2026-01-31")
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Trend:
    """One cell over runs, the oldest first."""

    cell: CellKey
    runs: tuple[str, ...]
    medians: tuple[float, ...]
    points: tuple[ChangePoint, ...]
    limit: float | None = None
    """What the last median may not exceed, in the cell's unit; for rates, what it may not fall below."""

    @property
    def label(self) -> str:
        """Its target and metric."""
        workload, target, metric, _, parameters = self.cell
        of = one_line(", ".join(each for each in (workload, parameters) if each), 40)
        return f"{one_line(target, 30)}: {metric_text(metric).title} ({of})"

    @property
    def cell_of(self) -> str:
        """Its target with workload and parameters, for where the metric is said elsewhere."""
        workload, target, _, _, parameters = self.cell
        of = one_line(", ".join(each for each in (workload, parameters) if each), 30)
        return f"{one_line(target, 30)} ({of})" if of else one_line(target, 30)

    @property
    def change(self) -> str:
        """The last change of its level in words, or that none is shown."""
        if not self.points:
            return "no change of level is shown"
        point = self.points[-1]
        share = percent_change(point.after / point.before - 1) if point.before > 0 else "changed"
        worse = (point.after - point.before) * worse_direction(self.cell) > 0
        run = one_line(self.runs[point.position], 60)
        unit = self.cell[3]
        numbers = f"{single(point.before, unit)} → {single(point.after, unit)}"
        return tied(f"{'worse' if worse else 'better'} since {run}: {share}, {numbers} (p = {point.p:.1g})")


def trends(
    series: Mapping[CellKey, Sequence[tuple[str, float]]], limits: Mapping[CellKey, float] | None = None
) -> list[Trend]:
    """The trend of each cell that at least two runs have."""
    return [
        Trend(
            cell,
            tuple(run for run, _ in medians),
            tuple(median for _, median in medians),
            tuple(change_points([median for _, median in medians])),
            (limits or {}).get(cell),
        )
        for cell, medians in series.items()
        if len(medians) >= FEWEST
    ]


def trend_finding(shown: Sequence[Trend]) -> str:
    """Which level changed last and how, or that none did."""
    runs = max(len(trend.runs) for trend in shown)
    changed = [trend for trend in shown if trend.points]
    if not changed:
        metrics = {trend.cell[2] for trend in shown}
        of = f" of {metric_text(metrics.pop()).title}" if len(metrics) == 1 else ""
        return f"Over {count(runs, 'run')} no cell{of} shows a change of its level."
    latest = max(changed, key=lambda trend: trend.points[-1].position - len(trend.runs))
    _, target, metric, _, _ = latest.cell
    return f"{metric_text(metric).title} of {noun(target)}: {latest.change}."


def trend_figure(
    shown: Sequence[Trend], inks: Mapping[str, Ink], started: Mapping[str, str], name: str
) -> Figure:
    """One panel for each cell, with the level before and after each change, and the limit."""
    titles = ", ".join(dict.fromkeys(metric_text(trend.cell[2]).title for trend in shown))
    of_one_metric = len({trend.cell[2] for trend in shown}) == 1
    drawing = Drawing([1.0] * len(shown), gap=min(0.42 / max(1, len(shown) - 1), 0.3))
    drawing.name_panels([plotly_text(trend.cell_of if of_one_metric else trend.label) for trend in shown])
    for panel, trend in enumerate(shown, 1):
        _panel(drawing, panel, trend, inks, started)
    height = 60 + PANEL_HEIGHT * len(shown)
    return Figure(
        id=slug("trend", name),
        workload="",
        title=trend_finding(shown),
        label=f"{titles}: medians of {count(len(shown), 'cell')} over runs",
        caption=(
            "One mark per run: its median. A line steps where the level of the runs changed (least absolute "
            "deviation, then Mann–Whitney at 1 %). Dotted: what the last run may not exceed. Every panel has "
            "its own scale."
        ),
        headers=("Cell", "Runs", "First", "Last", "Change of level"),
        rows=tuple(_row(trend) for trend in shown),
        drawing=drawing.json(height, top=30, bottom=34),
        height=height,
    )


def _panel(
    drawing: Drawing, panel: int, trend: Trend, inks: Mapping[str, Ink], started: Mapping[str, str]
) -> None:
    ink = inks.get(trend.cell[1], GREY)
    unit = trend.cell[3]
    x = list(range(len(trend.runs)))
    drawing.scatter(
        panel, x=x, y=list(trend.medians), mode="markers", cliponaxis=False,
        marker={"symbol": ink.marker, "size": 6, "color": ink.light, "opacity": 0.75},
        text=[plotly_text(one_line(run, 60)) for run in trend.runs],
        customdata=[plotly_text(single(each, unit)) for each in trend.medians],
        hovertemplate="%{text}: %{customdata}<extra></extra>",
    )  # fmt: skip
    for begin, end, level in _levels(trend):
        drawing.scatter(
            panel, x=[begin - 0.4, end - 0.6], y=[level, level], mode="lines", hoverinfo="skip",
            line={"color": BLACK.light, "width": 2},
        )  # fmt: skip
    values = [*trend.medians]
    if trend.limit is not None:
        values.append(trend.limit)
        drawing.scatter(
            panel, x=[-0.4, len(x) - 0.6], y=[trend.limit, trend.limit], mode="lines", hoverinfo="skip",
            line={"color": GREY.light, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    axis = value_axis(values, unit)
    every = -(-len(axis["tickvals"]) // MOST_LEVELS)
    axis |= {name: axis[name][::every] for name in ("tickvals", "ticktext")}
    drawing.y_axis(panel, **axis, automargin=True, showgrid=True)
    step = max(1, -(-len(x) // MOST_DATES))
    shown = x[::step]
    drawing.x_axis(
        panel, range=[-0.7, len(x) - 0.3], tickvals=shown, showgrid=False,
        ticktext=_dates([one_line(started.get(trend.runs[each], "")) for each in shown]),
    )  # fmt: skip


def _dates(instants: Sequence[str]) -> list[str]:
    """The day of each, or where two have the same one, day and time without the year."""
    days = [plotly_text(each[:DATE]) for each in instants]
    if len(set(days)) == len(days):
        return days
    return [plotly_text(f"{each[DATE - 5 : DATE]} {each[DATE + 1 : DATE + 6]}") for each in instants]


def _levels(trend: Trend) -> Iterator[tuple[int, int, float]]:
    """From run to run (exclusive) with the median of the level; nothing where there was no change."""
    if not trend.points:
        return
    yield 0, trend.points[0].position, trend.points[0].before
    for point in trend.points:
        yield point.position, point.position + point.length, point.after


def _row(trend: Trend) -> tuple[str, ...]:
    unit = trend.cell[3]
    return (
        trend.label, str(len(trend.runs)), single(trend.medians[0], unit), single(trend.medians[-1], unit),
        trend.change,
    )  # fmt: skip
