"""A static site of all runs, for any web server or artifact store; only what is new is drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pybench.harness.errors import InputError
from pybench.harness.gate.standing import NO_PAST, Standing
from pybench.harness.model import Run, Sample
from pybench.harness.store import Store
from pybench.reports.analysis import NO_TITLES
from pybench.reports.numbers import slug
from pybench.reports.page import plotly_library, write_whole
from pybench.reports.site_state import Entry, entry_of, key_of, read_state, write_state

WHOLE: Final = 10
"""Of the runs that are new to a site, so many, the newest, get all figures; older ones their tables alone."""
INDEX: Final = "index.html"
RUNS, SCENARIOS, ASSETS = "runs", "scenarios", "assets"

Judge = Callable[[Run, Sequence[Sample]], Standing]
Titles = Callable[[Sequence[Sample]], Mapping[str, str]]
"""Titles of the audit's probes by id, as far as they are known, for the samples that have verdicts."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was done to a site."""

    index: Path
    drawn: int
    """Runs whose pages were written."""
    kept: int
    """Runs whose pages were up to date."""
    removed: int
    """Runs that are in the record no more."""


def build_site(folder: Path, record: Store, judge: Judge, titles: Titles = lambda _: NO_TITLES) -> Built:
    """Make a folder show every run of a record.

    Args:
        folder: made if it does not exist; it must be empty or hold a site.
        record: the runs.
        judge: tells how a run stands against its past; it is asked for the newest run of each scenario.
        titles: of the audit's probes.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    known = read_state(folder)
    _make_folders(folder)
    if not known:
        write_state(folder, [])  # Marks the folder as ours, should this end half-way.
    plotly = _share_plotly(folder)
    runs = record.runs()
    facts = _facts(record, runs)
    fresh = [run for run in runs if run.id not in known or known[run.id].key != facts[run.id].key]
    newest = {run.scenario: run.id for run in runs}
    whole = {run.id for run in fresh[-WHOLE:]} | set(newest.values())
    entries = {run.id: known[run.id] for run in runs if run.id in known}
    for run in fresh:
        judged = judge if newest[run.scenario] == run.id else None
        entries[run.id] = _draw(
            folder, record, run, facts[run.id],
            judge=judged, plotly=plotly if run.id in whole else "", titles=titles,
        )  # fmt: skip
    gone = [entry for name, entry in known.items() if name not in entries]
    if known and not fresh and not gone and (folder / INDEX).exists():
        return Built(folder / INDEX, 0, len(entries), 0)
    for entry in gone:
        (folder / entry.page).unlink(missing_ok=True)
    ordered = [entries[run.id] for run in runs]
    changed = {run.scenario for run in fresh} | {entry.scenario for entry in gone}
    _draw_overviews(folder, ordered, changed, plotly)
    write_state(folder, ordered)
    return Built(folder / INDEX, len(fresh), len(ordered) - len(fresh), len(gone))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the record says about a run beside the run itself."""

    key: str
    tags: tuple[str, ...]
    notes: tuple[str, ...]


def _facts(record: Store, runs: Sequence[Run]) -> Mapping[str, _Facts]:
    ids = [run.id for run in runs]
    counts = record.sample_counts(ids)
    tags: dict[str, list[str]] = {}
    for name, run_id in record.tags.current().items():
        tags.setdefault(run_id, []).append(name)
    notes: dict[str, list[str]] = {}
    for note in record.tags.notes(ids):
        notes.setdefault(note.run, []).append(note.text)
    return {
        run.id: _Facts(
            key_of(run, counts.get(run.id, 0), tags.get(run.id, ()), notes.get(run.id, ())),
            tuple(sorted(tags.get(run.id, ()))),
            tuple(notes.get(run.id, ())),
        )
        for run in runs
    }


def _draw(
    folder: Path, record: Store, run: Run, facts: _Facts, *, judge: Judge | None, plotly: str,
    titles: Titles,
) -> Entry:  # fmt: skip
    """Write the page of one run; without `plotly` it has no figures."""
    from pybench.reports.html import Site, page_of  # noqa: PLC0415 - loads what draws, if anything is new

    samples = record.samples(run.id)
    standing = judge(run, samples) if judge else NO_PAST
    conditions = record.conditions(run.id) if plotly else ()
    site = Site(f"../{INDEX}", f"../{plotly}" if plotly else "")
    drawn = page_of(run, samples, conditions, standing, site=site, probes=titles(samples))
    # Two ids may have the same slug: what the slug leaves out is in the digest.
    page = f"{RUNS}/{slug(run.id)}-{hashlib.sha256(run.id.encode()).hexdigest()[:8]}.html"
    write_whole(folder / page, drawn.text)
    return entry_of(
        run, samples, drawn.indices, key=facts.key, page=page, answer=drawn.answer, headline=drawn.headline,
        outcome=standing.result.outcome if standing.result else "", tags=facts.tags, notes=facts.notes,
    )  # fmt: skip


def _draw_overviews(folder: Path, entries: Sequence[Entry], changed: Iterable[str], plotly: str) -> None:
    from pybench.reports.site_pages import index_page, scenario_page  # noqa: PLC0415 - as in `_draw`

    pages = {
        name: f"{SCENARIOS}/{slug(name)}.html" for name in dict.fromkeys(each.scenario for each in entries)
    }
    for name in changed:
        if name in pages:
            own = [entry for entry in entries if entry.scenario == name]
            write_whole(
                folder / pages[name], scenario_page(name, own, plotly=f"../{plotly}", home=f"../{INDEX}")
            )
        else:
            (folder / SCENARIOS / f"{slug(name)}.html").unlink(missing_ok=True)
    write_whole(folder / INDEX, index_page(entries, pages))


def _make_folders(folder: Path) -> None:
    try:
        for name in (RUNS, SCENARIOS, ASSETS):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot make the site: {error.strerror}", "name another folder"
        ) from error


def _share_plotly(folder: Path) -> str:
    """The library once for all pages; named by its content, so that no browser keeps an old one."""
    text = plotly_library()
    name = f"{ASSETS}/plotly-{hashlib.sha256(text.encode()).hexdigest()[:12]}.js"
    if not (folder / name).exists():
        write_whole(folder / name, text)
    return name
