"""Two or more runs side by side: hosts, kernels, revisions; each is held against the first."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from pybench.harness.audit.results import FORMULA
from pybench.harness.comparison.pace import UNKNOWN, Pace, Slowdown
from pybench.harness.comparison.runs import Comparison, Judged, compare
from pybench.harness.gate.verdicts import UNIT
from pybench.harness.model import Run, Sample
from pybench.harness.units import count
from pybench.reports.analysis import NO_TITLES, MetricTable, Report, Row, analyse, shown_field
from pybench.reports.audits_together import Audits, audits_together, changes_told, leaks_told
from pybench.reports.axes import plotly_text, scale_words, text_position, value_axis
from pybench.reports.colours import Ink, inks
from pybench.reports.drawing import Drawing
from pybench.reports.embedding import script_safe_json
from pybench.reports.figures import Figure, themes
from pybench.reports.history import VerdictRow, verdict_rows
from pybench.reports.numbers import DASH, one_line, slug, tied, visible
from pybench.reports.page import policy, scripts, templates
from pybench.reports.slowdown import slowdown_told
from pybench.reports.vocabulary import PHASE_PREFIX, metric_order, target_order

SCRIPTS = ("theme", "toggle", "scrolling", "plotly", "figures")
ROW_HEIGHT = 42
FEWEST = 2
SHORT_ID = 12
"""Longer ids leave no room for what stands beside them."""
_LABEL_FIELDS = ("host.name", "host.kernel", "source.branch")
"""What tells runs apart better than their ids do, where it differs."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run with what tells it from the others."""

    run: Run
    report: Report
    label: str


@dataclass(frozen=True, slots=True)
class Against:
    """A run held against the first one."""

    label: str
    sentence: str
    rows: tuple[VerdictRow, ...]
    verdicts: Mapping[tuple[str, str], Mapping[str, str]]
    """Of each workload and metric, the verdict on every target."""


@dataclass(frozen=True, slots=True)
class Together:
    """One metric of one workload on all sides."""

    workload: str
    title: str
    definition: str
    lines: tuple[tuple[str, tuple[Row | None, ...]], ...]
    """Target, and its row on each side."""
    figure: Figure | None
    finding: str
    """What became of the metric, in a sentence."""


@dataclass(frozen=True, slots=True)
class Comparative:
    """Everything that a comparison says; page and text render the same."""

    title: str
    sides: tuple[Side, ...]
    others: tuple[Against, ...]
    """All sides but the first."""
    metrics: tuple[Together, ...]
    audits: Audits | None
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    """Fields of the environments that are not the same everywhere, with every side's value."""
    inks: Mapping[str, Ink]


def comparative(
    measured: Sequence[tuple[Run, Sequence[Sample]]],
    *,
    paces: Sequence[Pace | None] = (),
    probes: Mapping[str, str] = NO_TITLES,
    is_drawn: bool = True,
) -> Comparative:
    """What there is to say of runs side by side.

    Args:
        measured: the runs with all of their samples; each is held against the first.
        paces: the host's pace in each of them; empty if it is known of none.
        probes: titles of the audit's probes by id, as far as they are known.
        is_drawn: whether figures are wanted.

    Raises:
        ValueError: there are fewer than two runs.
    """
    if len(measured) < FEWEST:
        raise ValueError("a comparison needs two runs")
    labels = _labels([run for run, _ in measured])
    sides = [
        Side(run, analyse(run, samples, with_series=False, probes=probes), label)
        for (run, samples), label in zip(measured, labels, strict=True)
    ]
    first, slowdowns = measured[0][1], [Slowdown.between(paces[0], pace) for pace in paces[1:]]
    others = [
        _against(side, sides[0], compare(first, samples, slowdown=slowdown))
        for side, (_, samples), slowdown in zip(
            sides[1:], measured[1:], slowdowns or repeat(UNKNOWN), strict=False
        )
    ]
    ink = inks({target for side in sides for target in side.report.targets})
    return Comparative(
        title="; ".join(dict.fromkeys(one_line(side.run.scenario, 60) for side in sides)),
        sides=tuple(sides),
        others=tuple(others),
        metrics=tuple(_together(sides, others, ink, is_drawn=is_drawn)),
        audits=audits_together([side.report.isolation for side in sides]),
        differences=tuple(_differences([side.run for side in sides])),
        inks=ink,
    )


def render_comparison(
    measured: Sequence[tuple[Run, Sequence[Sample]]],
    *,
    paces: Sequence[Pace | None] = (),
    probes: Mapping[str, str] = NO_TITLES,
) -> str:
    """The whole page as text.

    Raises:
        ValueError: there are fewer than two runs.
    """
    found = comparative(measured, paces=paces, probes=probes)
    admitted = scripts(*SCRIPTS)
    return (
        templates()
        .get_template("comparison.html")
        .render(
            title=found.title,
            home="",
            plotly_source="",
            sides=found.sides,
            others=found.others,
            metrics=found.metrics,
            several=len({each.workload for each in found.metrics}) > 1,
            audits=found.audits,
            leaks_told=leaks_told,
            formula=FORMULA,
            differences=found.differences,
            inks=found.inks,
            themes=script_safe_json(themes(found.inks)),
            scripts=admitted,
            policy=policy(admitted),
        )
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    """By host, kernel and branch where these differ, else by a short id, else by number; always different."""
    fields = [
        name for name in _LABEL_FIELDS if len({run.environment.fields.get(name, "") for run in runs}) > 1
    ]
    labels = [
        ", ".join(one_line(run.environment.fields.get(name, "unnamed"), 24) for name in fields)
        for run in runs
    ]
    ids = [run.id for run in runs]
    for named in (labels, ids):
        if len(set(named)) == len(runs) and (named is labels or max(map(len, ids)) <= SHORT_ID):
            return [one_line(each) for each in named]
    return [f"run {number}{f' ({text})' if text else ''}" for number, text in enumerate(labels, 1)]


def _against(side: Side, first: Side, found: Comparison) -> Against:
    cells = [
        each
        for each in found.cells
        if not each.change.cell[2].startswith(PHASE_PREFIX) and each.change.cell[3] != UNIT
    ]
    told = [_cells_told(cells)] if cells else []
    if first.report.isolation and side.report.isolation:
        told.append(changes_told(first.report.isolation, side.report.isolation))
    listed = "; ".join(told) or "nothing that both measured"
    label = side.label[0].upper() + side.label[1:] if side.label.startswith("run ") else side.label
    verdicts: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for each in cells:
        if not math.isfinite(each.change.baseline.median + each.change.candidate.median):
            continue  # One side alone measured it.
        workload, target, metric, _, parameters = each.change.cell
        verdicts[f"{workload} ({parameters})" if parameters else workload, metric][target] = each.verdict
    sentence = tied(f"{label} against {first.label}: {listed}. {slowdown_told(found.slowdown)}".rstrip())
    return Against(side.label, sentence, tuple(verdict_rows(cells)), verdicts)


def _finding(title: str, key: tuple[str, str], others: Sequence[Against]) -> str:
    """What became of a metric on every target, told for each of the other sides."""
    told = []
    for side in others:
        by_verdict: defaultdict[str, list[str]] = defaultdict(list)
        for target, verdict in side.verdicts.get(key, {}).items():
            by_verdict["the same" if verdict == "same" else verdict].append(one_line(target, 24))
        words = "; ".join(f"{word} on {', '.join(targets)}" for word, targets in by_verdict.items())
        if words:
            told.append(f"{side.label}: {words}" if len(others) > 1 else words)
    return f"{title}: {' — '.join(told) or 'nothing that both measured'}."


def _cells_told(cells: Sequence[Judged]) -> str:
    numbers = Counter("worse" if each.worse else each.verdict for each in cells)
    better = sum(numbers[name] for name in ("faster", "slower", "smaller", "larger"))
    parts = [
        f"{number} {word}"
        for number, word in (
            (numbers["worse"], "worse"), (better, "better"), (numbers["same"], "the same"),
            (numbers["inconclusive"], "inconclusive"),
        )
        if number
    ]  # fmt: skip
    return f"of {count(len(cells), 'cell')} {', '.join(parts) or 'nothing that both measured'}"


def _together(
    sides: Sequence[Side], others: Sequence[Against], ink: Mapping[str, Ink], *, is_drawn: bool
) -> Iterator[Together]:
    tables: dict[tuple[str, str], list[MetricTable | None]] = {}
    for position, side in enumerate(sides):
        for table in side.report.tables:
            tables.setdefault((table.workload, table.metric), [None] * len(sides))[position] = table
    for (workload, metric), of_sides in sorted(
        tables.items(), key=lambda item: (item[0][0], metric_order(item[0][1]))
    ):
        known = next(table for table in of_sides if table is not None)
        targets = sorted({row.target for table in of_sides if table for row in table.rows}, key=target_order)
        lines = tuple(
            (target, tuple(table.row(target) if table else None for table in of_sides)) for target in targets
        )
        figure = _figure(sides, known, lines, ink) if is_drawn else None
        finding = _finding(known.text.title, (workload, metric), others)
        yield Together(one_line(workload), known.text.title, known.text.definition, lines, figure, finding)


def _figure(
    sides: Sequence[Side],
    table: MetricTable,
    lines: Sequence[tuple[str, Sequence[Row | None]]],
    ink: Mapping[str, Ink],
) -> Figure | None:
    """A row for each target and side: median and interval."""
    drawn = [
        (target, side, row)
        for target, rows in lines
        for side, row in zip(sides, rows, strict=True)
        if row is not None and row.estimate is not None
    ]
    if not drawn:
        return None
    values = [
        end
        for _, _, row in drawn
        if row.estimate
        for end in (row.estimate.ci_low, row.estimate.median, row.estimate.ci_high)
    ]
    drawing = Drawing()
    heights = list(range(len(drawn), 0, -1))
    for (target, side, row), y in zip(drawn, heights, strict=True):
        if row.estimate is None:
            continue
        middle = row.estimate.median
        drawing.scatter(
            x=[middle], y=[y], mode="markers+text", text=[row.median], cliponaxis=False,
            textposition=text_position(middle, values),
            marker={
                "symbol": ink[target].marker if side is sides[0] else f"{ink[target].marker}-open",
                "size": 11, "color": ink[target].light, "line": {"width": 2, "color": ink[target].light},
            },
            error_x={
                "type": "data", "symmetric": False, "thickness": 2.5, "width": 5, "color": ink[target].light,
                "array": [max(0.0, row.estimate.ci_high - middle)],
                "arrayminus": [max(0.0, middle - row.estimate.ci_low)],
            },
            hovertemplate=f"{plotly_text(row.label)}, {plotly_text(side.label)}: {row.median}<extra></extra>",
        )  # fmt: skip
    texts = [_axis_text(target, side, row) for target, side, row in drawn]
    drawing.y_axis(
        tickvals=heights, ticktext=texts, range=[0.3, len(drawn) + 0.75], automargin=True, showgrid=False
    )
    drawing.x_axis(**value_axis(values, table.unit, from_zero=True))
    height = 70 + ROW_HEIGHT * len(drawn)
    return Figure(
        id=slug("together", table.metric, table.workload),
        workload=table.workload,
        title=table.text.title,
        label=f"{table.text.title}: median and interval of {count(len(drawn), 'cell')}",
        caption=f"Filled: {sides[0].label}. Mark: median. Bar: its 95 % interval.{scale_words(values)}",
        headers=(),
        rows=(),
        drawing=drawing.json(height),
        height=height,
    )


def _axis_text(target: str, side: Side, row: Row) -> str:
    caveats = plotly_text(f" ({one_line('; '.join(row.said.caveats), 18)})") if row.said.caveats else ""
    return "<br>".join(
        (f"<b>{plotly_text(one_line(target, 22))}</b>{caveats}", plotly_text(one_line(side.label, 26)))
    )


def _differences(runs: Sequence[Run]) -> list[tuple[str, tuple[str, ...]]]:
    """The fields of the environments that are not the same everywhere, with every run's value."""
    names = sorted({name for run in runs for name in run.environment.fields})
    found = []
    for name in names:
        values = [run.environment.fields.get(name) for run in runs]
        if len(set(values)) > 1:
            texts = tuple(
                DASH if value is None else visible(shown_field(name, value), 400) for value in values
            )
            found.append((one_line(name), texts))
    return found
