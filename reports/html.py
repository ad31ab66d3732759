"""One self-contained HTML file: it opens from a disk, a mail or an artefact store, and fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pybench.harness.model import Conditions, Run, Sample
from pybench.harness.standing import NO_PAST, Standing
from pybench.reports.analysis import analyse, labelled
from pybench.reports.colours import inks
from pybench.reports.embedding import embedded_samples, script_safe_json
from pybench.reports.figures import themes
from pybench.reports.numbers import one_line
from pybench.reports.page import policy, scripts, templates, write_whole
from pybench.reports.sections import Material, sections

SCRIPTS = ("theme", "plotly", "figures", "samples", "decision")


def write_report(
    path: Path,
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
) -> Path:
    """Write the report of one run; whoever opens `path` sees the old file or the whole new one.

    Args:
        path: where to write; its folder must exist.
        run: the run, in whatever state it ended.
        samples: all of its samples, in the order in which they were stored.
        conditions: those of its steps, if they are at hand.
        standing: how the run stands against its past, if that is known.

    Returns:
        `path`.

    Raises:
        InputError: the file cannot be written.
    """
    return write_whole(path, render(run, samples, conditions, standing))


def render(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
) -> str:
    """The whole page as text."""
    samples = labelled(samples)
    report = analyse(run, samples, conditions)
    ink = inks(report.targets)
    admitted = scripts(*SCRIPTS)
    return (
        templates()
        .get_template("report.html")
        .render(
            report=report,
            title=one_line(run.scenario, 80),
            sections=sections(Material(report, samples, ink, standing)),
            inks=ink,
            sample_count=len(samples),
            embedded=embedded_samples(samples),
            themes=script_safe_json(themes(ink)),
            scripts=admitted,
            policy=policy(admitted),
            home="",
            plotly_source="",
        )
    )
