"""The console's tables: the answer, then a table per metric; readable at 80 columns and when piped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pybench.harness.model import Conditions, Estimate, Run, Sample
from pybench.reports.analysis import MetricTable, Report, Row, analyse
from pybench.reports.claims import claims_table, judged_claims
from pybench.reports.findings import findings
from pybench.reports.numbers import DASH, TIMES, estimated, one_line, single
from pybench.reports.sweeps import Sweep, split, sweeps
from pybench.reports.vocabulary import (
    BASELINE,
    PHASE_PREFIX,
    Said,
    companion_of,
    metric_order,
    said,
    target_order,
)

NAME_LIMIT = 24
"""Longer names are cut in the middle, so that the numbers beside them stay whole at 80 columns."""


def summary(run: Run, samples: Sequence[Sample], conditions: Sequence[Conditions] = ()) -> RenderableType:
    """The answer in words, a table for each metric, under which circumstances, and what limits them."""
    plain, swept = split(samples)
    report = analyse(run, plain, conditions)
    found = findings(report)
    answers = [Text(each.text, "bold") for each in found if each.kind == "answer"]
    cautions = [Text(f"! {each.text}", "yellow") for each in found if each.kind == "caution"]
    tables: list[RenderableType] = [part for table in _tables(report) for part in (Text(), table)]
    tables += [part for sweep in sweeps(swept) for part in (Text(), _sweep_table(sweep))]
    judged = judged_claims(run, samples)
    claims: list[RenderableType] = [Text(), claims_table(judged)] if judged else []
    return Group(*answers, *tables, *claims, *_validity(report), *cautions)


def summary_tables(run: Run, samples: Sequence[Sample]) -> list[Table]:
    """A table for each workload and metric: median, interval, p95, n, ratio to `process` with interval."""
    return list(_tables(analyse(run, samples)))


def summary_table(run: Run, estimates: Sequence[Estimate]) -> Table:
    """One table of estimates for where the samples are not at hand: its ratios have no interval."""
    cells = [each for each in estimates if not each.metric.startswith(PHASE_PREFIX)]
    cells.sort(key=lambda each: (each.workload, metric_order(each.metric), target_order(each.target)))
    table = _new_table(f"{one_line(run.scenario, 60)}: {one_line(run.id, 60)}")
    baseline = {
        (each.workload, each.metric): each.median for each in cells if each.target == BASELINE and each.n
    }
    workloads = {each.workload for each in cells}
    previous = None
    for each in cells:
        if (each.workload, each.metric) != previous:
            previous = (each.workload, each.metric)
            table.add_section()
            heading = each.metric if len(workloads) == 1 else f"{each.metric}, {each.workload}"
            table.add_row(Text(one_line(heading, 40), "bold"))
        reference = baseline.get(previous, 0.0)
        ratio = single(each.median / reference, TIMES) if each.n and reference > 0 else DASH
        words = said([each.qualifiers])
        if not each.n:
            table.add_row(_name(each.target, words, each.failed), DASH, DASH, DASH, "0", DASH)
            continue
        rounded = estimated(each)
        table.add_row(
            _name(each.target, words, each.failed),
            rounded.text,
            rounded.interval if each.n > 1 else DASH,
            DASH if each.p95 is None else rounded.alike(each.p95),
            str(each.n),
            ratio,
        )
    return table


def _tables(report: Report) -> Iterator[Table]:
    completed = {(table.workload, table.metric): table for table in report.tables}
    for metric in report.tables:
        if (metric.workload, companion_of(metric.metric)) in completed or (
            (metric.workload, metric.metric.removesuffix(".fit") + ".each") in completed
        ):
            continue
        title = metric.text.title
        if len(report.workloads) > 1:
            title += f", workload {one_line(metric.workload, NAME_LIMIT)}"
        table = _new_table(f"{title} ({one_line(metric.metric)})")
        for row in metric.rows:
            table.add_row(
                _name(row.target, row.said, row.failed, row.rejected), row.median, _interval(row), row.p95,
                str(row.n), _ratio(metric, row),
            )  # fmt: skip
        if any(row.interval_is_range for row in metric.rows):
            table.caption = "* too few samples for 95 %: minimum to maximum"
        if fitted := _fitted(metric, completed):
            table.caption = "\n".join(filter(None, (str(table.caption or ""), *fitted)))
        yield table


def _fitted(metric: MetricTable, tables: Mapping[tuple[str, str], MetricTable]) -> Iterator[str]:
    """For each target the interval of a fitted figure, and how well the line fits; medians of its steps."""
    low, high = (tables.get((metric.workload, metric.metric + end)) for end in (".low", ".high"))
    fit = tables.get((metric.workload, metric.metric.removesuffix(".each") + ".fit"))
    for row in metric.measured:
        ends = [table.row(row.target) if table else None for table in (low, high)]
        parts = [f"95 % of the line {ends[0].median} to {ends[1].median}"] if ends[0] and ends[1] else []
        if fit is not None and fit is not metric and (found := fit.row(row.target)):
            parts.append(f"R² {found.median}")
        if parts:
            yield f"{one_line(row.target, NAME_LIMIT)}: {', '.join(parts)}"


def _sweep_table(sweep: Sweep) -> Table:
    title = f"{sweep.text.title}, workload {one_line(sweep.workload, NAME_LIMIT)} ({one_line(sweep.metric)})"
    table = Table(
        title=Text(title, "bold"), title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    table.add_column(sweep.parameter, justify="right")
    for target in sweep.targets:
        table.add_column(one_line(target, NAME_LIMIT), justify="right", no_wrap=True)
    for value, cells in sweep.lines:
        table.add_row(value, *cells)
    if sweep.left_out:
        table.caption = f"medians; {sweep.left_out} values between these are left out"
    return table


def _validity(report: Report) -> Iterator[RenderableType]:
    if not report.circumstances:
        return
    table = Table(
        title=Text("Validity", "bold"), title_justify="left", box=None, show_header=False, pad_edge=False,
        padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in report.circumstances:
        mark = "! " if each.is_concern else "  "
        style = "yellow" if each.is_concern else ""
        table.add_row(Text(mark + each.subject, style), Text(each.finding, style))
    yield Text()
    yield table


def _new_table(title: str) -> Table:
    table = Table(
        title=Text(title, "bold"), title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    table.add_column("target", overflow="fold", min_width=8)
    for header in ("median", "95 % interval", "p95", "n", f"{TIMES} {BASELINE}"):
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _name(target: str, words: Said, failed: int, rejected: int = 0) -> Text:
    """The target, and under it what must be said beside its numbers."""
    counted = ((failed, "failed"), (rejected, "rejected"))
    lines: Iterable[str] = (*words.caveats, *(f"{number} {what}" for number, what in counted if number))
    name = Text(one_line(target, NAME_LIMIT))
    for line in lines:
        name.append(f"\n  {line}", style="yellow")
    return name


def _interval(row: Row) -> str:
    return f"{row.interval}*" if row.interval_is_range else row.interval


def _ratio(table: MetricTable, row: Row) -> str:
    if row.target == BASELINE and row.n:
        return f"1{TIMES}"
    if row.ratio is None or not table.has_baseline:
        return DASH
    return f"{row.ratio.text} ({row.ratio.interval.removesuffix(TIMES)})" if row.n > 1 else row.ratio.text
