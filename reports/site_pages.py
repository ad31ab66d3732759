"""The pages of a site that are about many runs: the index, and one page for each scenario."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pybench.harness.stats import CellKey
from pybench.reports.colours import inks
from pybench.reports.embedding import script_safe_json
from pybench.reports.families import family_of
from pybench.reports.figures import Figure, themes
from pybench.reports.numbers import one_line
from pybench.reports.page import SITE_SOURCES, policy, scripts, templates
from pybench.reports.site_state import Entry
from pybench.reports.trends import FEWEST, trend_figure, trends
from pybench.reports.vocabulary import metric_order, target_order


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one scenario on one host and branch: one series."""

    host: str
    branch: str
    entries: tuple[Entry, ...]
    """The oldest first."""
    figures: tuple[Figure, ...]
    """One for each metric, those whose level changed first among their family."""

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return ", branch ".join(each for each in (self.host or "unnamed host", self.branch) if each)


@dataclass(frozen=True, slots=True)
class Summary:
    """One scenario in the index."""

    name: str
    page: str
    runs: int
    newest: Entry


def index_page(entries: Sequence[Entry], pages: Mapping[str, str]) -> str:
    """The first page: every scenario with the newest verdict, then every run, the newest first.

    Args:
        entries: of all runs, the oldest first.
        pages: of the scenarios by name, relative to the index.
    """
    summaries = []
    for name, page in pages.items():
        own = [entry for entry in entries if entry.scenario == name]
        summaries.append(Summary(one_line(name, 80), page, len(own), own[-1]))
    admitted = scripts("theme", "toggle", "scrolling")
    return (
        templates()
        .get_template("index.html")
        .render(
            title="All runs",
            home="",
            plotly_source="",
            summaries=summaries,
            entries=entries[::-1],
            scripts=admitted,
            policy=policy(admitted),
        )
    )


def scenario_page(name: str, entries: Sequence[Entry], *, plotly: str, home: str) -> str:
    """The trends of every cell of a scenario, by host and branch.

    Args:
        name: of the scenario.
        entries: of its runs, the oldest first.
        plotly: where the library is, relative to the page.
        home: where the index is, relative to the page.
    """
    admitted = scripts("theme", "toggle", "scrolling", "figures")
    targets = {cell[1] for entry in entries for cell, _ in entry.medians}
    groups = list(_groups(entries))
    return (
        templates()
        .get_template("scenario.html")
        .render(
            title=one_line(name, 80),
            groups=groups,
            newest=entries[-1],
            home=home,
            plotly_source=plotly,
            themes=script_safe_json(themes(inks(targets))),
            scripts=admitted,
            policy=policy(admitted, *SITE_SOURCES),
        )
    )


def _groups(entries: Sequence[Entry]) -> Iterator[Group]:
    """Those with the newest run first."""
    by_group: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries[::-1]:
        by_group.setdefault(entry.group, []).insert(0, entry)
    for (host, branch), own in by_group.items():
        yield Group(host, branch, tuple(own), tuple(_figures(own)))


def _figures(entries: Sequence[Entry]) -> Iterator[Figure]:
    series: dict[CellKey, list[tuple[str, float]]] = {}
    for entry in entries:
        if entry.status == "done":
            for cell, median in entry.medians:
                series.setdefault(cell, []).append((entry.id, median))
    started = {entry.id: entry.started for entry in entries}
    ink = inks({cell[1] for cell in series})
    found = trends({cell: medians for cell, medians in series.items() if len(medians) >= FEWEST})
    found.sort(key=lambda trend: (metric_order(trend.cell[2]), trend.cell[0], trend.cell[4],
                                  target_order(trend.cell[1])))  # fmt: skip
    for metric, shown in groupby(found, key=lambda trend: trend.cell[2]):
        name = f"{entries[-1].host}-{entries[-1].branch}-{family_of(metric).id}-{metric}"
        yield trend_figure(list(shown), ink, started, name)
