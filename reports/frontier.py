"""Isolation against cost: which targets nothing else beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pybench.harness.units import count
from pybench.reports.axes import plotly_text, scale_words, value_axis
from pybench.reports.colours import GREY, Ink
from pybench.reports.drawing import Drawing
from pybench.reports.figures import Figure
from pybench.reports.isolation import Isolation
from pybench.reports.numbers import one_line


def frontier_figure(
    costs: Sequence[tuple[str, float, str]],
    found: Isolation,
    inks: Mapping[str, Ink],
    *,
    title: str,
    unit: str,
) -> Figure | None:
    """The leak index of each target against what it costs, with the line of those that nothing else beats.

    Args:
        costs: target, cost in `unit`, and the cost in words; less is better.
        found: the audit.
        inks: of the targets.
        title: what the cost is.
        unit: of the cost.
    """
    points = [
        (target, cost, tally.index, words)
        for target, cost, words in costs
        if (tally := found.tally(target)) is not None and tally.index is not None and cost > 0
    ]
    if len(points) < 2:  # noqa: PLR2004 - one point has no frontier
        return None
    best = [each for each in points if not any(_beats(other, each) for other in points)]
    best.sort(key=lambda each: each[1])
    drawing = Drawing()
    drawing.scatter(
        x=[each[1] for each in best], y=[each[2] for each in best], mode="lines", hoverinfo="skip",
        line={"color": GREY.light, "width": 1.5, "shape": "hv", "dash": "dot"},
    )  # fmt: skip
    for target, cost, index, words in points:
        tally = found.tally(target)
        caveats = f"({'; '.join(tally.said.caveats)})" if tally and tally.said.caveats else ""
        label = plotly_text(f"{one_line(target, 22)} {one_line(caveats, 30)}".strip())
        drawing.scatter(
            x=[cost], y=[index], mode="markers+text", text=[label], textposition="top center",
            marker={"symbol": inks[target].marker, "size": 12, "color": inks[target].light},
            hovertemplate=f"{label}: {words}, leak index {index:.1f}<extra></extra>", cliponaxis=False,
        )  # fmt: skip
    values = [each[1] for each in points]
    highest = max(each[2] for each in points)
    drawing.x_axis(**value_axis(values, unit), title=plotly_text(title))
    drawing.y_axis(range=[-0.05 * (highest or 1), 1.2 * (highest or 1)], title="leak index", automargin=True)
    beaten = [one_line(each[0], 30) for each in points if each not in best]
    finding = "Every target trades cost for isolation: none is both dearer and worse isolated than another."
    if beaten:
        finding = (
            f"Both dearer and worse isolated than another, and so never the best choice: {', '.join(beaten)}."
        )
    return Figure(
        id="figure-frontier",
        workload="",
        title=finding,
        label=f"Leak index against {title.lower()} of {count(len(points), 'target')}",
        caption=f"Lower is better isolated, further left cheaper. Dotted: the frontier.{scale_words(values)}",
        headers=("Target", title, "Leak index"),
        rows=tuple((each[0], each[3], f"{each[2]:.1f}") for each in points),
        drawing=drawing.json(320, bottom=64),
        height=320,
    )


def _beats(one: tuple[str, float, float, str], other: tuple[str, float, float, str]) -> bool:
    """At least as good in both, and better in one."""
    return one[1] <= other[1] and one[2] <= other[2] and (one[1] < other[1] or one[2] < other[2])
