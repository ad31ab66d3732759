"""`pybench export`: runs with all their samples as Parquet, CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pybench.harness.cli.record import ResultsOption, StoreOption, open_record

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench export latest --output startup.parquet")
def export(
    runs: Annotated[list[str], typer.Argument(help="Runs: ids, tags, branches, or `latest`.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Its ending says how: .parquet, .csv, .jsonl."),
    ],
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Write runs to a file that other tools read and `pybench history import` reads back without loss."""
    from pybench.harness.export.archive import ArchivedRun, write_archive  # noqa: PLC0415

    with open_record(store, results) as record:
        chosen = {run.id: run for run in map(record.run, runs)}
        archived = [
            ArchivedRun(run, record.samples(name), record.conditions(name)) for name, run in chosen.items()
        ]
    write_archive(output, archived)
    count = sum(len(each.samples) for each in archived)
    typer.echo(f"{len(archived)} runs with {count:,} samples in {output}")
