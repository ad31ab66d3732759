"""`pybench export`: runs with all their samples as Parquet, CSV or JSON lines, or for pytest-benchmark."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.record import ResultsOption, StoreOption, open_record
from pybench.harness.errors import InputError
from pybench.harness.units import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybench.harness.export.archive import ArchivedRun


class Format(StrEnum):
    """How they are written."""

    ENDING = "by-ending"
    PYTEST_BENCHMARK = "pytest-benchmark"


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench export latest --output startup.parquet")
def export(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs: ids, tags, branches, or `latest`.", autocompletion=completers.runs),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Its ending says how: .parquet, .csv, .jsonl."),
    ],
    format_: Annotated[
        Format, typer.Option("--format", help="As the file's ending says, or as JSON of pytest-benchmark.")
    ] = Format.ENDING,
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Write runs to a file that other tools read and `pybench history import` reads back without loss."""
    from pybench.harness.export.archive import ArchivedRun, write_archive  # noqa: PLC0415

    with open_record(store, results) as record:
        chosen = {run.id: run for run in map(record.run, runs)}
        archived = [
            ArchivedRun(
                run,
                record.samples(name),
                record.conditions(name),
                record.tags.of_run(name),
                record.tags.notes([name]),
            )
            for name, run in chosen.items()
        ]
    if format_ is Format.PYTEST_BENCHMARK:
        _write_for_pytest(output, archived)
    else:
        write_archive(output, archived)
    samples = sum(len(each.samples) for each in archived)
    typer.echo(f"{count(len(archived), 'run')} with {count(samples, 'sample')} in {output}")


def _write_for_pytest(path: Path, archived: Sequence[ArchivedRun]) -> None:
    from pybench.harness.export.json import write  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.export.pytest_benchmark import document  # noqa: PLC0415

    if len(archived) != 1:
        raise InputError(f"{path}: a document of pytest-benchmark is of one run, not of {len(archived)}")
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: its ending must be .json", "so that it can be read back")
    write(path, document(archived[0].run, archived[0].samples))
