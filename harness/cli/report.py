"""`pybench report`: the report of a stored run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.record import ResultsOption, StoreOption, open_record
from pybench.harness.cli.sides import Sides, sides
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.export.archive import ArchivedRun
    from pybench.harness.standing import Standing

NAME: Final = "report"
LATEST: Final = "latest"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench report latest --output startup.html")
def report(
    run: Annotated[
        str,
        typer.Argument(
            help="A run, tag or branch, or a file that was exported.  [default: latest]",
            autocompletion=completers.runs,
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, instead of beside the run."),
    ] = None,
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

    Without --baseline it is held against what `main` means, or else the last finished run before it.
    A site is built once and then brought up to date: of every run its page, of every scenario its trends.
    """
    if site is not None:
        if run or output:
            raise InputError("--site is of all runs", "leave RUN and --output out")
        typer.echo(_site(site, store, results, baseline))
        return
    from pybench.reports.html import write_report  # noqa: PLC0415 - keeps `--help` quick

    # A million samples are a million objects that stay, and no cycles to look for among them.
    gc.disable()
    with sides(store, results) as found:
        chosen = found.load_whole(run or LATEST)
        past = _past(found, chosen, baseline)
    path = output or _beside(results, chosen.run.id)
    typer.echo(write_report(path, chosen.run, chosen.samples, chosen.conditions, past))


def _site(folder: Path, store: str, results: Path | None, baseline: str) -> str:
    from pybench.harness.past import standing  # noqa: PLC0415 - keeps `--help` quick
    from pybench.reports.site import build_site  # noqa: PLC0415

    with open_record(store, results) as record:
        built = build_site(folder, record, lambda run, samples: standing(record, run, samples, baseline))
    removed = f", {built.removed} removed" if built.removed else ""
    return f"{built.index}: {built.drawn} runs drawn, {built.kept} up to date{removed}"


def _past(found: Sides, chosen: ArchivedRun, baseline: str) -> Standing:
    """From the record; a run that comes from a file alone has none unless it is asked for."""
    from pybench.harness.past import standing  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.standing import NO_PAST  # noqa: PLC0415

    if not found.opened and not baseline:
        return NO_PAST
    return standing(found.record, chosen.run, chosen.samples, baseline)


def _beside(results: Path | None, name: str) -> Path:
    """Where `pybench run` writes it.

    Raises:
        InputError: the folder cannot be made.
    """
    folder = (results or Path("results")) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", "name a file with --output") from error
    return folder / f"{NAME}.html"
