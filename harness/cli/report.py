"""`pybench report`: a stored run, several side by side, or all of them, for people to read."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.probe_titles import titles_for
from pybench.harness.cli.record import ResultsOption, StoreOption, open_record
from pybench.harness.cli.sides import Sides, sides
from pybench.harness.errors import InputError
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.export.archive import ArchivedRun
    from pybench.harness.gate.standing import Standing
    from pybench.harness.model import Run, Sample

NAME: Final = "report"
LATEST: Final = "latest"
COLLECT_AFTER: Final = 100_000
"""Objects that a site's runs leave, instead of Python's 700: a tenth of the time would go to collections."""


class Format(StrEnum):
    """What the report is written as."""

    HTML = "html"
    MARKDOWN = "markdown"
    PDF = "pdf"


ENDINGS: Final = {Format.HTML: "html", Format.MARKDOWN: "md", Format.PDF: "pdf"}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench report latest --format pdf --output startup.pdf")
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, tags, branches, or exported files; several are set side by side.  [default: latest]",
            show_default=False,
            autocompletion=completers.runs,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, instead of beside the run."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="A page, Markdown, or the page on paper, which needs Chromium.")
    ] = Format.HTML,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            help="Hold it against this run, tag or branch.",
            autocompletion=completers.runs,
        ),
    ] = "",
    site: Annotated[
        Path | None,
        typer.Option("--site", metavar="DIR", help="Make this folder a web site of all runs instead."),
    ] = None,
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Write the report of a run: everything that is stored of it, complete in one file.

    Without --baseline it is held against what `main` means, or else the last finished run before it. Several
    runs are held against the first of them. A site is built once and then brought up to date.
    """
    if site is not None:
        if runs or output or format_ is not Format.HTML:
            raise InputError("--site is of all runs", "leave runs, --output and --format out")
        typer.echo(_site(site, store, results, baseline))
        return
    if format_ is Format.PDF:
        from pybench.reports.pdf import find_chromium  # noqa: PLC0415 - keeps `--help` quick

        find_chromium()  # Before the work, not after.
    # A million samples are a million objects that stay, and no cycles to look for among them.
    gc.disable()
    with sides(store, results) as found:
        chosen = [found.load_whole(name) for name in runs or [LATEST]]
        past = None if chosen[1:] else _past(found, chosen[0], baseline)
    if past is None:
        text = _comparison(chosen, format_, baseline)
        path = output or _comparison_path(results, chosen, ENDINGS[format_])
    else:
        text = _text(format_, chosen[0], past)
        path = output or _beside(results, chosen[0].run.id, ENDINGS[format_])
    typer.echo(_write(path, format_, text))


def _text(format_: Format, chosen: ArchivedRun, past: Standing) -> str:
    material = chosen.run, chosen.samples, chosen.conditions, past
    if format_ is Format.MARKDOWN:
        from pybench.reports.markdown import render_markdown  # noqa: PLC0415 - keeps `--help` quick

        return render_markdown(*material, probes=titles_for(chosen.samples))
    from pybench.reports.html import render  # noqa: PLC0415 - keeps `--help` quick

    return render(*material, probes=titles_for(chosen.samples))


def _comparison(chosen: Sequence[ArchivedRun], format_: Format, baseline: str) -> str:
    if baseline:
        raise InputError("several runs are held against the first of them", "leave --baseline out")
    from pybench.harness.comparison.pace import Pace  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.conditions import paces  # noqa: PLC0415

    measured = [(each.run, each.samples) for each in chosen]
    known = [Pace.of(paces(each.conditions)) for each in chosen]
    titles = titles_for([sample for _, samples in measured for sample in samples])
    if format_ is Format.MARKDOWN:
        from pybench.reports.comparison_markdown import render_comparison_markdown  # noqa: PLC0415

        return render_comparison_markdown(measured, paces=known, probes=titles)
    from pybench.reports.comparison import render_comparison  # noqa: PLC0415 - keeps `--help` quick

    return render_comparison(measured, paces=known, probes=titles)


def _write(path: Path, format_: Format, text: str) -> Path:
    if format_ is Format.PDF:
        from pybench.reports.pdf import write_pdf  # noqa: PLC0415 - keeps `--help` quick

        return write_pdf(path, text)
    from pybench.reports.page import write_whole  # noqa: PLC0415 - keeps `--help` quick

    return write_whole(path, text)


def _site(folder: Path, store: str, results: Path | None, baseline: str) -> str:
    from pybench.reports.site import build_site  # noqa: PLC0415 - keeps `--help` quick

    # Of thousands of runs, what one leaves must go before the next ones are drawn.
    gc.set_threshold(COLLECT_AFTER)
    gc.enable()
    with open_record(store, results) as record:

        def judge(run: Run, samples: Sequence[Sample]) -> Standing:
            from pybench.harness.gate.past import standing  # noqa: PLC0415 - needed only for what is new

            return standing(record, run, samples, baseline)

        built = build_site(folder, record, judge, titles_for)
    removed = f", {built.removed} removed" if built.removed else ""
    return f"{built.index}: {count(built.drawn, 'run')} drawn, {built.kept} up to date{removed}"


def _past(found: Sides, chosen: ArchivedRun, baseline: str) -> Standing:
    """From the record; a run that comes from a file alone has none unless it is asked for."""
    from pybench.harness.gate.past import standing  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate.standing import NO_PAST  # noqa: PLC0415

    if not found.opened and not baseline:
        return NO_PAST
    return standing(found.record, chosen.run, chosen.samples, baseline)


def _beside(results: Path | None, name: str, ending: str) -> Path:
    """Where `pybench run` writes the report of a run."""
    return _made((results or Path("results")) / name) / f"{NAME}.{ending}"


def _comparison_path(results: Path | None, chosen: Sequence[ArchivedRun], ending: str) -> Path:
    from pybench.reports.numbers import slug  # noqa: PLC0415 - keeps `--help` quick

    names = slug(*(each.run.id for each in chosen))[:120]
    return _made(results or Path("results")) / f"comparison-{names}.{ending}"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", "name a file with --output") from error
    return folder
