"""The sections of a report in the order in which a decision needs them; one without data is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from pybench.harness.audit.model import SEVERITIES, Outcome
from pybench.harness.audit.results import FORMULA
from pybench.harness.gate.standing import Standing
from pybench.harness.model import Sample
from pybench.reports.analysis import MetricTable, Report, shown_field
from pybench.reports.claims import judged_claims, lines_of, tally
from pybench.reports.colours import Ink
from pybench.reports.curve_figures import curve_figure, overhead_figure
from pybench.reports.curves import Curve
from pybench.reports.decision import FORMULA as DECISION_FORMULA
from pybench.reports.decision import decision, ranking
from pybench.reports.embedding import script_safe_json
from pybench.reports.families import FAMILIES, OTHERS, SUPPORTING, Family, family_of
from pybench.reports.figures import Figure, comparison_figure, distribution_figure, phase_figure
from pybench.reports.findings import FEWEST_FOR_INTERVAL, Finding, findings
from pybench.reports.frontier import frontier_figure
from pybench.reports.history import history
from pybench.reports.isolation import isolation_sentence
from pybench.reports.numbers import one_line, visible
from pybench.reports.predictions import predictions
from pybench.reports.vocabulary import (
    MARK_MEANINGS,
    PHASE_PREFIX,
    TARGET_MEANINGS,
    metric_text,
    phase_name,
)

MOST_DEFINITION = 40_000
FEWEST_POINTS = 2
OUTCOMES = (Outcome.LEAK, Outcome.ISOLATED, Outcome.SHARED, Outcome.NOT_APPLICABLE, Outcome.ERROR)
"""In the order of the columns."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where it is, what the navigation calls it, its heading, its template and its data."""

    id: str
    label: str
    title: str
    content: Mapping[str, Any]
    name: str = ""
    """Of the template; without it, the section's id."""

    @property
    def template(self) -> str:
        """The file among the templates."""
        return f"sections/{self.name or self.id}.html"


@dataclass(frozen=True, slots=True)
class Material:
    """All that sections are made of."""

    report: Report
    samples: Sequence[Sample]
    """With their parameters in the names of their workloads, as `analysis.labelled` gives them."""
    inks: Mapping[str, Ink]
    standing: Standing
    is_drawn: bool = True
    """Whether there are figures; their tables are there in any case."""


def sections(material: Material) -> list[Section]:
    """All sections of the report of one run."""
    return [section for make in _MAKERS for section in make(material)]


def _answer(material: Material) -> Iterator[Section]:
    judged = judged_claims(material.report.run, material.samples)
    told = [Finding("answer", f"{tally(judged)}.", "claims")] if judged else []
    content = {"findings": [*told, *findings(material.report)]}
    yield Section("answer", "Answer", "The answer", content)


def _claims(material: Material) -> Iterator[Section]:
    judged = judged_claims(material.report.run, material.samples)
    if judged:
        content = {"claims": judged, "tally": tally(judged), "lines_of": lines_of}
        yield Section("claims", "Claims", "What people are told", content)


def _decision(material: Material) -> Iterator[Section]:
    decided = decision(material.report)
    if decided is None:
        return
    data = {
        "criteria": [line.criterion.id for line in decided.lines],
        "targets": [one_line(target, 40) for target in decided.targets],
        "scores": [[each.score for each in line.judgements] for line in decided.lines],
    }
    content = {
        "decision": decided,
        "places": ranking(decided, decided.weights),
        "formula": DECISION_FORMULA,
        "data": script_safe_json(data),
    }
    yield Section("decision", "Decision", "Which one serves you best", content)


def _frontier(material: Material) -> Iterator[Section]:
    """Of the first workload whose starts were measured."""
    found = material.report.isolation
    tables = [
        table for table in map(material.report.headline, material.report.workloads) if table is not None
    ]
    if found is None or not tables or not material.is_drawn:
        return
    table = tables[0]
    costs = [(row.target, row.estimate.median, row.median) for row in table.measured if row.estimate]
    figure = frontier_figure(costs, found, material.inks, title=table.text.title, unit=table.unit)
    if figure is not None:
        yield Section("frontier", "Frontier", "Isolation against cost", {"figure": figure})


def _isolation(material: Material) -> Iterator[Section]:
    found = material.report.isolation
    if found is None:
        return
    content = {
        "isolation": found,
        "sentence": isolation_sentence(found),
        "formula": FORMULA,
        "severities": SEVERITIES,
        "outcomes": OUTCOMES,
    }
    yield Section("isolation", "Isolation", "What leaks", content)


def _families(material: Material) -> Iterator[Section]:
    for family in (*FAMILIES, OTHERS):
        tables = [
            table
            for table in material.report.tables
            if family_of(table.metric) is family and not table.metric.endswith(SUPPORTING)
        ]
        over = [curve for curve in material.report.curves if curve.family is family]
        if tables or over:
            yield _family(material, family, tables, over)
        if family.id == "comparison":
            yield from _phases(material)
            yield from _distributions(material)


def _family(
    material: Material, family: Family, tables: Sequence[MetricTable], over: Sequence[Curve]
) -> Section:
    headlines = [material.report.headline(workload) for workload in material.report.workloads]
    tables = sorted(tables, key=lambda table: (table.workload, table not in headlines))
    overviews: list[Figure] = []
    if material.is_drawn and family.drawing == "overhead":
        for _, own in groupby(tables, key=lambda table: table.workload):
            figure = overhead_figure(list(own), material.inks)
            overviews += [figure] if figure else []
    content = {
        "predictions": predictions(material.report) if family.id == "density" else [],
        "overviews": overviews,
        "curves": [(curve, _drawn_curve(material, curve)) for curve in over],
        "tables": [(table, _drawn_table(material, family, table, headlines)) for table in tables],
        "with_details": family.drawing == "headline",
    }
    return Section(family.id, family.label, family.title, content, "tables")


def _drawn_curve(material: Material, curve: Curve) -> Figure | None:
    if not material.is_drawn or not curve.is_numeric or len(curve.values) < FEWEST_POINTS:
        return None
    return curve_figure(curve, material.inks)


def _drawn_table(
    material: Material, family: Family, table: MetricTable, headlines: Sequence[MetricTable | None]
) -> Figure | None:
    # One target alone has nothing to stand beside, and zeros no place on an axis: the table says it all.
    compares = len(table.measured) > 1 and any(value for row in table.measured for value in row.values)
    wanted = table in headlines or (family.drawing == "each" and compares)
    wanted = wanted and family.drawing != "overhead"
    return (
        comparison_figure(table, material.inks) if material.is_drawn and table.measured and wanted else None
    )


def _phases(material: Material) -> Iterator[Section]:
    if not material.is_drawn:
        return
    by_workload = groupby(material.report.phases, key=lambda bar: bar.workload)
    figures = [phase_figure(list(bars), material.inks) for _, bars in by_workload]
    yield from _of_figures("phases", "Phases", "Where the time of a start goes", figures)


def _distributions(material: Material) -> Iterator[Section]:
    tables = [table for table in material.report.tables if material.is_drawn and _is_spread(table)]
    figures = [distribution_figure(table, material.inks) for table in tables]
    yield from _of_figures("distributions", "Distributions", "Every sample", figures)


def _of_figures(name: str, label: str, title: str, figures: Sequence[Figure]) -> Iterator[Section]:
    if figures:
        yield Section(name, label, title, {"figures": figures}, "figures")


def _is_spread(table: MetricTable) -> bool:
    """Whether there is a distribution to show: only times scatter, and one sample does not."""
    of_starts = family_of(table.metric).drawing == "headline"
    return of_starts and table.unit == "s" and any(row.n > 1 for row in table.rows)


def _history(material: Material) -> Iterator[Section]:
    past = history(material.standing, material.inks) if material.is_drawn else None
    if past is not None:
        yield Section("history", "History", "Against its past", {"past": past})


def _failures(material: Material) -> Iterator[Section]:
    if material.report.failures:
        yield Section("failures", "Failures", "Failures", {})


def _validity(_: Material) -> Iterator[Section]:
    yield Section("validity", "Validity", "Validity", {"fewest": FEWEST_FOR_INTERVAL})


def _environment(material: Material) -> Iterator[Section]:
    baseline = material.standing.baseline
    ours, theirs = material.report.run.environment.fields, baseline.environment.fields if baseline else {}
    differences = [
        (
            one_line(name),
            visible(shown_field(name, theirs.get(name, "")), 600) or "not told",
            visible(shown_field(name, ours.get(name, "")), 600) or "not told",
            name in material.standing.forbidding,
        )
        for name in sorted({*ours, *theirs})
        if baseline and ours.get(name) != theirs.get(name)
    ]
    content = {"baseline": one_line(baseline.id, 80) if baseline else "", "differences": differences}
    yield Section("environment", "Environment", "Environment", content)


def _method(material: Material) -> Iterator[Section]:
    report = material.report
    metrics = [*(table.metric for table in report.tables), *(curve.metric for curve in report.curves)]
    content = {
        "targets": {each: TARGET_MEANINGS[each] for each in report.targets if each in TARGET_MEANINGS},
        "metrics": [metric_text(metric) for metric in dict.fromkeys(metrics)],
        "marks": _marks(material.samples),
    }
    yield Section("method", "Method", "Method", content)


def _marks(samples: Sequence[Sample]) -> dict[str, str]:
    """The marks that this run's phases end with, and those that every run has, with their meaning."""
    seen = dict.fromkeys(
        phase_name(metric)
        for metric in dict.fromkeys(map(attrgetter("metric"), samples))
        if metric.startswith(PHASE_PREFIX)
    )
    names = dict.fromkeys(["request", *(name for name in MARK_MEANINGS if name in seen), *seen])
    names |= dict.fromkeys(["ready", "stopping", "stopped"])
    return {one_line(name): MARK_MEANINGS.get(name, "A mark of this target’s own.") for name in names}


def _samples(_: Material) -> Iterator[Section]:
    yield Section("samples", "Samples", "All samples", {})


def _reproduce(material: Material) -> Iterator[Section]:
    run = material.report.run
    content = {"command": visible(run.command), "definition": visible(run.definition, MOST_DEFINITION)}
    yield Section("reproduce", "Reproduce", "Reproduce it", content)


_MAKERS: tuple[Callable[[Material], Iterator[Section]], ...] = (
    _answer,
    _claims,
    _decision,
    _frontier,
    _families,
    _isolation,
    _history,
    _failures,
    _validity,
    _environment,
    _method,
    _samples,
    _reproduce,
)
