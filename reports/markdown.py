"""A report as Markdown, for job pages and issues: every number of the page, without figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pybench.harness.audit.model import SEVERITIES, Outcome
from pybench.harness.audit.results import FORMULA as LEAK_FORMULA
from pybench.harness.gate.standing import NO_PAST, Standing
from pybench.harness.model import Conditions, Run, Sample
from pybench.harness.units import count
from pybench.reports.analysis import NO_TITLES, MetricTable, Report, analyse
from pybench.reports.claims import judged_claims, lines_of, tally
from pybench.reports.colours import inks
from pybench.reports.curves import Curve, curve_finding
from pybench.reports.decision import FORMULA, decision, ranking, score_text
from pybench.reports.families import FAMILIES, OTHERS, SUPPORTING, family_of
from pybench.reports.findings import finding, findings
from pybench.reports.history import History, VerdictRow, history
from pybench.reports.isolation import isolation_sentence
from pybench.reports.numbers import DASH, one_line, visible
from pybench.reports.page import STATUSES
from pybench.reports.vocabulary import BASELINE

VERDICT_HEADS = ("Target", "Cell", "Before", "Now", "Shift", "Limit", "p", "Verdict")
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$^@]|^[-+=])")
_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_FENCE = re.compile(r"`{3,}|~{3,}")


def render_markdown(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
    *,
    probes: Mapping[str, str] = NO_TITLES,
) -> str:
    """The whole report as text; foreign text can neither format nor embed anything."""
    report = analyse(run, samples, conditions, probes=probes)
    lines = [
        *_head(report, len(samples)), *_answer(report), *_claims(report.run, samples), *_decision(report),
        *_tables(report), *_isolation(report), *_history(history(standing, inks(report.targets))),
        *_failures(report), *_validity(report), *_environment(report), *_command(report),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text of whatever origin as itself: CommonMark takes a backslash before any ASCII punctuation."""
    return _SPECIAL.sub(r"\\\1", one_line(text, 4000).translate(_REFERENCES))


def _head(report: Report, samples: int) -> Iterator[str]:
    run = report.run
    yield f"# {escaped(one_line(run.scenario, 80))}"
    yield ""
    facts = (run.id, run.started, STATUSES[run.status], count(samples, "sample"))
    yield f"Run {' · '.join(escaped(one_line(fact, 80)) for fact in facts)}"


def _answer(report: Report) -> Iterator[str]:
    found = findings(report)
    for each in found:
        if each.kind == "answer":
            yield from ("", f"**{escaped(each.text)}**")
    yield ""
    yield from (f"- {escaped(each.text)}" for each in found if each.kind == "finding")
    cautions = [f"> - {escaped(each.text)}" for each in found if each.kind == "caution"]
    if cautions:
        yield from ("", "> What limits it:", ">", *cautions)


def _decision(report: Report) -> Iterator[str]:
    decided = decision(report)
    if decided is None:
        return
    yield from ("", "## Which one serves you best", "")
    for number, place in enumerate(ranking(decided, decided.weights), 1):
        yield f"{number}. {escaped(place.target)}: {escaped(score_text(place.total.value))}"
    heads = [
        f"{target} ({caveat})" if caveat else target
        for target, caveat in zip(decided.targets, decided.caveats, strict=True)
    ]
    rows = [
        (
            line.criterion.title,
            str(line.criterion.weight),
            *(
                f"{each.text} ({score_text(each.score.value)})" if each.score else each.text or DASH
                for each in line.judgements
            ),
        )
        for line in decided.lines
    ]
    yield from ("", *table_lines(("Criterion", "Weight", *heads), rows), "", escaped(FORMULA))


def _tables(report: Report) -> Iterator[str]:
    for family in (*FAMILIES, OTHERS):
        tables = [
            table
            for table in report.tables
            if family_of(table.metric) is family and not table.metric.endswith(SUPPORTING)
        ]
        curves = [curve for curve in report.curves if curve.family is family]
        if tables or curves:
            yield from ("", f"## {family.title}")
        for curve in curves:
            yield from _curve(report, curve)
        for table in tables:
            yield from _metric(report, table)


def _claims(run: Run, samples: Sequence[Sample]) -> Iterator[str]:
    judged = judged_claims(run, samples)
    if judged:
        yield from ("", "## Claims", "", escaped(tally(judged)), "")
    for each in judged:
        yield f"- **{each.verdict.value}**: {escaped(each.sentence)}"
        yield from (f"  - {escaped(line)}" for line in lines_of(each))


def _curve(report: Report, curve: Curve) -> Iterator[str]:
    title = curve.text.title if len(report.workloads) == 1 else f"{curve.workload}: {curve.text.title}"
    yield from ("", f"### {escaped(title)}", "", escaped(curve_finding(curve)), "")
    heads = [f"{curve.family.parameter} {one_line(str(value), 20)}" for value in curve.values]
    rows = [
        (
            f"{line.target} ({'; '.join(line.said.caveats)})" if line.said.caveats else line.target,
            *(point.text if (point := line.at(value)) else DASH for value in curve.values),
        )
        for line in curve.lines
    ]
    yield from table_lines(("Target", *heads), rows)


def _metric(report: Report, table: MetricTable) -> Iterator[str]:
    title = table.text.title if len(report.workloads) == 1 else f"{table.workload}: {table.text.title}"
    yield from ("", f"### {escaped(title)}", "")
    if table.measured:
        yield from (escaped(finding(table)), "")
    heads = ["Target", "Median", "95 % interval", "95th percentile", "n"]
    if table.has_baseline:
        heads.append("Ratio to process")
    rows = []
    for row in table.rows:
        name = f"{row.label} ({'; '.join(row.said.caveats)})" if row.said.caveats else row.label
        interval = f"{row.interval} (range)" if row.interval_is_range else row.interval
        ratio = [f"{row.ratio.text} ({row.ratio.interval})" if row.ratio else DASH]
        rows.append((name, row.median, interval, row.p95, str(row.n), *(ratio if table.has_baseline else [])))
    yield from table_lines(heads, rows)


def _isolation(report: Report) -> Iterator[str]:
    """Leaks by severity, then every leak with its reason; the page has the other verdicts too."""
    found = report.isolation
    if found is None:
        return
    yield from ("", "## What leaks", "", escaped(isolation_sentence(found)), "")
    rows = [
        (
            f"{each.target} ({'; '.join(each.said.caveats)})" if each.said.caveats else each.target,
            *(str(each.leaks.get(severity, 0)) for severity in SEVERITIES),
            each.index_text,
        )
        for each in found.tallies
    ]
    yield from table_lines(("Target", *(each.capitalize() for each in SEVERITIES), "Leak index"), rows)
    yield from ("", escaped(LEAK_FORMULA), "")
    for _, probes in found.groups:
        for row in probes:
            for target, cell in zip(found.targets, row.cells, strict=True):
                if cell is not None and cell.outcome is Outcome.LEAK and target != BASELINE:
                    said = f"{row.id} {row.title} ({row.severity}) on {target}: {cell.reason}"
                    yield f"- {escaped(said)}"


def _history(past: History | None) -> Iterator[str]:
    if past is None:
        return
    yield from ("", "## Against its past", "", escaped(past.outcome))
    if past.baseline:
        yield from ("", f"Baseline: {escaped(past.baseline)}")
    if past.forbidding:
        yield from ("", f"They differ in what must be equal: {escaped(', '.join(past.forbidding))}")
    if past.host:
        yield from ("", escaped(past.host))
    if past.findings:
        yield from ("", *(f"- {escaped(each)}" for each in past.findings))
    if past.rows:
        yield from ("", *table_lines(VERDICT_HEADS, [verdict_cells(row) for row in past.rows]))


def verdict_cells(row: VerdictRow) -> tuple[str, ...]:
    """One cell beside its limit, below `VERDICT_HEADS`."""
    verdict = f"{row.verdict} (worse)" if row.worse else row.verdict
    shift = ", ".join(each for each in (row.shift, row.told_by) if each)
    return row.target, row.cell, row.baseline, row.candidate, shift, row.limit, row.p, verdict


def _failures(report: Report) -> Iterator[str]:
    if report.failures:
        yield from ("", "## Failures")
    for group in report.failures:
        yield from ("", f"### {escaped(group.target)}: {count(group.launches, 'launch', 'launches')}", "")
        yield from _fenced(group.reason)


def _validity(report: Report) -> Iterator[str]:
    yield from ("", "## Validity", "")
    rows = [
        (each.workload, each.target, *map(str, (each.launches, each.counted, each.warmups, each.failed,
                                               each.rejected)))
        for each in report.counts
    ]  # fmt: skip
    heads = ("Workload", "Target", "Launches", "Counted", "Warm-ups", "Failed", "Rejected")
    yield from table_lines(heads, rows)
    yield ""
    for each in report.circumstances:
        yield f"- {'! ' if each.is_concern else ''}{escaped(each.subject)}: {escaped(each.finding)}"


def _environment(report: Report) -> Iterator[str]:
    rows = [
        (f"{group}.{field}", value) for group, fields in report.environment.items() for field, value in fields
    ]
    if rows:
        yield from ("", "## Environment", "", *table_lines(("Field", "Value"), rows))


def _command(report: Report) -> Iterator[str]:
    yield from ("", "## Reproduce it", "", *_fenced(visible(report.run.command)))


def table_lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose cells are texts of whatever origin."""
    yield f"| {' | '.join(map(escaped, heads))} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(escaped, row))} |"


def _fenced(text: str) -> Iterator[str]:
    """As code, in a fence longer than any in it."""
    longest = max((len(found) for found in _FENCE.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (fence, text, fence)
