"""Runs side by side as Markdown, for job pages and issues: every number of the page, without figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pybench.harness.comparison.pace import Pace
from pybench.harness.model import Run, Sample
from pybench.reports.analysis import NO_TITLES, Row
from pybench.reports.audits_together import Audits, leaks_told
from pybench.reports.comparison import Comparative, comparative
from pybench.reports.findings import finding
from pybench.reports.history import VerdictRow
from pybench.reports.markdown import VERDICT_HEADS, escaped, table_lines, verdict_cells
from pybench.reports.numbers import DASH, one_line
from pybench.reports.page import STATUSES


def render_comparison_markdown(
    measured: Sequence[tuple[Run, Sequence[Sample]]],
    *,
    paces: Sequence[Pace | None] = (),
    probes: Mapping[str, str] = NO_TITLES,
) -> str:
    """The whole comparison as text; foreign text can neither format nor embed anything.

    Args:
        measured: the runs with all of their samples; each is held against the first.
        paces: the host's pace in each of them; empty if it is known of none.
        probes: titles of the audit's probes by id, as far as they are known.

    Raises:
        ValueError: there are fewer than two runs.
    """
    found = comparative(measured, paces=paces, probes=probes, is_drawn=False)
    lines = [
        *_head(found), *_metrics(found), *_verdicts(found), *_audits(found, found.audits),
        *_environment(found),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _head(found: Comparative) -> Iterator[str]:
    yield from (f"# {escaped(found.title)}", "", f"{len(found.sides)} runs side by side", "")
    yield from (f"- **{escaped(each.sentence)}**" for each in found.others)
    rows = []
    for side in found.sides:
        headline = side.report.headline(side.report.workloads[0]) if side.report.workloads else None
        said = finding(headline) if headline else "Nothing was measured."
        rows.append(
            (side.label, one_line(side.run.id, 60), side.run.started, STATUSES[side.run.status], said)
        )
    yield from ("", *table_lines(("Called here", "Run", "Started", "State", "Its own answer"), rows))


def _metrics(found: Comparative) -> Iterator[str]:
    if found.metrics:
        yield from ("", "## Metric by metric")
    for each in found.metrics:
        yield from ("", f"### {escaped(f'{each.workload}: {each.finding}')}", "")
        rows = [(target, *map(_median, of_sides)) for target, of_sides in each.lines]
        yield from table_lines(("Target", *(side.label for side in found.sides)), rows)


def _median(row: Row | None) -> str:
    if row is None:
        return DASH
    caveats = f"; {'; '.join(row.said.caveats)}" if row.said.caveats else ""
    return f"{row.median} ({row.interval}, n = {row.n}{caveats})"


def _verdicts(found: Comparative) -> Iterator[str]:
    if any(each.rows for each in found.others):
        yield from ("", "## Verdicts")
    for each in found.others:
        if each.rows:
            yield from ("", f"### {escaped(f'{each.label} against {found.sides[0].label}')}", "")
            yield from _rows(each.rows)


def _rows(rows: Sequence[VerdictRow]) -> Iterator[str]:
    yield from table_lines(VERDICT_HEADS, [verdict_cells(row) for row in rows])


def _audits(found: Comparative, audits: Audits | None) -> Iterator[str]:
    if audits is None:
        return
    labels = [side.label for side in found.sides]
    yield from ("", "## What leaks", "")
    rows = [(target, *map(leaks_told, tallies)) for target, tallies in audits.tallies]
    yield from (*table_lines(("Target", *labels), rows), "", escaped(audits.agreement))
    if audits.differing:
        yield ""
        yield from table_lines(
            ("Probe", "Severity", "Target", *labels),
            [
                (
                    f"{line.probe} {line.title}".strip(), line.severity, line.target,
                    *(f"{cell.word}: {cell.reason}" if cell else DASH for cell in line.cells),
                )
                for line in audits.differing
            ],
        )  # fmt: skip


def _environment(found: Comparative) -> Iterator[str]:
    yield from ("", "## Environment", "")
    if not found.differences:
        yield "The environments are the same in every field."
        return
    rows = [(field, *values) for field, values in found.differences]
    yield from table_lines(("Field", *(side.label for side in found.sides)), rows)
