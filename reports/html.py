"""One self-contained HTML file: it opens from a disk, a mail or an artefact store, and fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pybench.harness.gate.standing import NO_PAST, Standing
from pybench.harness.model import Conditions, Run, Sample
from pybench.harness.units import SCALES
from pybench.reports.analysis import NO_TITLES, analyse, labelled
from pybench.reports.colours import inks
from pybench.reports.embedding import embedded_samples, script_safe_json
from pybench.reports.figures import themes
from pybench.reports.findings import finding
from pybench.reports.numbers import one_line
from pybench.reports.page import SITE_SOURCES, policy, scripts, templates, write_whole
from pybench.reports.sections import Material, sections
from pybench.reports.thinning import thinned

SCRIPTS = ("theme", "toggle", "scrolling", "plotly", "figures", "samples", "decision")
_LIBRARY = frozenset({"plotly", "figures"})


def write_report(
    path: Path,
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
    *,
    probes: Mapping[str, str] = NO_TITLES,
) -> Path:
    """Write the report of one run; whoever opens `path` sees the old file or the whole new one.

    Args:
        path: where to write; its folder must exist.
        run: the run, in whatever state it ended.
        samples: all of its samples, in the order in which they were stored.
        conditions: those of its steps, if they are at hand.
        standing: how the run stands against its past, if that is known.
        probes: titles of the audit's probes by id, as far as they are known.

    Returns:
        `path`.

    Raises:
        InputError: the file cannot be written.
    """
    return write_whole(path, render(run, samples, conditions, standing, probes=probes))


def render(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
    *,
    probes: Mapping[str, str] = NO_TITLES,
) -> str:
    """The whole page as text."""
    return page_of(run, samples, conditions, standing, probes=probes).text


@dataclass(frozen=True, slots=True)
class Page:
    """A page with the first thing it says, with and without the evidence."""

    text: str
    answer: str
    headline: str
    indices: Mapping[str, float]
    """The leak indices of an audit by target."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a page that is part of a site links to, relative to the page."""

    home: str
    plotly: str
    """Empty for a page without figures."""


def page_of(
    run: Run,
    samples: Sequence[Sample],
    conditions: Sequence[Conditions] = (),
    standing: Standing = NO_PAST,
    *,
    site: Site | None = None,
    probes: Mapping[str, str] = NO_TITLES,
) -> Page:
    """The report of a run; complete in itself unless it is part of a site."""
    is_drawn = site is None or bool(site.plotly)
    report = analyse(run, samples, conditions, with_series=is_drawn, probes=probes)
    ink = inks(report.targets)
    shown = labelled(samples)
    found = sections(Material(report, shown, ink, standing, is_drawn))
    held = thinned(shown, cells=report.cells)
    names = [
        name for name in SCRIPTS if name not in _LIBRARY or (is_drawn and (site is None or name != "plotly"))
    ]
    admitted = scripts(*names)
    text = (
        templates()
        .get_template("report.html")
        .render(
            report=report,
            title=one_line(run.scenario, 80),
            sections=found,
            inks=ink,
            sample_count=len(samples),
            held=len(held.samples),
            embedded=embedded_samples(held.samples),
            themes=script_safe_json(themes(ink)),
            scales=script_safe_json(SCALES),
            scripts=admitted,
            policy=policy(admitted, *(SITE_SOURCES if site and is_drawn else ())),
            home=site.home if site else "",
            plotly_source=site.plotly if site else "",
        )
    )
    answer = found[0].content["findings"][0].text
    table = report.headline(report.workloads[0]) if report.workloads else None
    tallies = report.isolation.tallies if report.isolation else ()
    indices = {each.target: each.index for each in tallies if each.index is not None}
    return Page(text, answer, finding(table) if table else answer, indices)
