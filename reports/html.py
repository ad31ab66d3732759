"""One self-contained HTML file: it opens from a disk, a mail or an artefact store, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pybench.harness.errors import InputError
from pybench.harness.model import Conditions, Run, Sample
from pybench.reports.analysis import MetricTable, Report, analyse, labelled
from pybench.reports.colours import Ink, inks
from pybench.reports.embedding import embedded_samples, script_safe_json
from pybench.reports.figures import (
    Figure,
    comparison_figure,
    distribution_figure,
    phase_figure,
    themes,
)
from pybench.reports.findings import FEWEST_FOR_INTERVAL, finding, findings
from pybench.reports.numbers import count, one_line, slug, visible
from pybench.reports.vocabulary import (
    MARK_MEANINGS,
    MEMORY_PREFIX,
    PHASE_PREFIX,
    TARGET_MEANINGS,
    metric_text,
    phase_name,
)


def write_report(
    path: Path, run: Run, samples: Sequence[Sample], conditions: Sequence[Conditions] = ()
) -> Path:
    """Write the report of one run; whoever opens `path` sees the old file or the whole new one.

    Args:
        path: where to write; its folder must exist.
        run: the run, in whatever state it ended.
        samples: all of its samples, in the order in which they were stored.
        conditions: those of its steps, if they are at hand.

    Returns:
        `path`.

    Raises:
        InputError: the file cannot be written.
    """
    page = render(run, samples, conditions)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            unfinished.write_text(page, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write the report {path}: {os.strerror(error.errno or 0)}",
            "choose a folder that exists and that you may write to",
        ) from error
    return path


def render(run: Run, samples: Sequence[Sample], conditions: Sequence[Conditions] = ()) -> str:
    """The whole page as text."""
    samples = labelled(samples)
    report = analyse(run, samples, conditions)
    found = findings(report)
    ink = inks(report.targets)
    scripts = _scripts()
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            title=one_line(run.scenario, 80),
            command=visible(run.command),
            definition=visible(run.definition, 40_000),
            findings=found,
            inks=ink,
            comparisons=_comparisons(report, ink),
            phases=_phases(report, ink),
            distributions=[distribution_figure(table, ink) for table in report.tables if _is_spread(table)],
            memory=_memory(report, ink),
            fewest=FEWEST_FOR_INTERVAL,
            marks=_marks(samples),
            metrics=[
                metric_text(metric) for metric in dict.fromkeys(table.metric for table in report.tables)
            ],
            target_meanings={
                each: TARGET_MEANINGS[each] for each in report.targets if each in TARGET_MEANINGS
            },
            sample_count=len(samples),
            embedded=embedded_samples(samples),
            themes=script_safe_json(themes(ink)),
            scripts=scripts,
            policy=_policy(scripts),
        )
    )


Comparison = tuple[MetricTable, Figure | None]


def _comparisons(report: Report, ink: Mapping[str, Ink]) -> list[Comparison]:
    """Every table but those of memory; the one that gives the answer comes first and with a figure."""
    headlines = [report.headline(workload) for workload in report.workloads]
    tables = [table for table in report.tables if not table.metric.startswith(MEMORY_PREFIX)]
    tables.sort(key=lambda table: (table.workload, table not in headlines))
    return [(table, comparison_figure(table, ink) if table in headlines else None) for table in tables]


def _memory(report: Report, ink: Mapping[str, Ink]) -> list[Comparison]:
    return [
        (table, comparison_figure(table, ink) if table.measured else None)
        for table in report.tables
        if table.metric.startswith(MEMORY_PREFIX)
    ]


def _phases(report: Report, ink: Mapping[str, Ink]) -> list[Figure]:
    by_workload = groupby(report.phases, key=lambda bar: bar.workload)
    return [phase_figure(list(bars), ink) for _, bars in by_workload]


def _is_spread(table: MetricTable) -> bool:
    """Whether there is a distribution to show: memory is shown by its medians, one sample has none."""
    return not table.metric.startswith(MEMORY_PREFIX) and any(row.n > 1 for row in table.rows)


def _marks(samples: Sequence[Sample]) -> dict[str, str]:
    """The marks that this run's phases end with, and those that every run has, with their meaning."""
    seen = dict.fromkeys(
        phase_name(sample.metric) for sample in samples if sample.metric.startswith(PHASE_PREFIX)
    )
    names = dict.fromkeys(["request", *(name for name in MARK_MEANINGS if name in seen), *seen])
    names |= dict.fromkeys(["ready", "stopping", "stopped"])
    return {one_line(name): MARK_MEANINGS.get(name, "A mark of this target’s own.") for name in names}


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("pybench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slug"] = lambda parts: slug(*parts)
    environment.filters["one_line"] = one_line
    environment.globals["count"] = count
    environment.globals["finding"] = finding
    return environment


@cache
def _scripts() -> dict[str, Markup]:
    """The page's scripts by name, exactly as they stand in it: their hashes admit them."""
    loader = _templates().loader
    texts = {"plotly": get_plotlyjs()}
    for name in ("theme", "report"):
        texts[name] = loader.get_source(_templates(), f"{name}.js")[0] if loader else ""
    # HTML turns CR LF into LF before it hashes; a script that closed its own element would end there.
    return {
        name: Markup(text.replace("\r\n", "\n").replace("</script", "<\\/script"))  # noqa: S704 - our own code
        for name, text in texts.items()
    }


def _policy(scripts: Mapping[str, str]) -> str:
    """A content security policy: no request of any kind, and no script but ours, whatever got in.

    Plotly sets styles as it draws, hence `unsafe-inline` for these.
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts.values())
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    rules = ("default-src 'none'", f"script-src {sources}", "style-src 'unsafe-inline'", "img-src data:")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))
