"""Where the record is: the options that every verb which reads or writes it has in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.results import DATABASE

if TYPE_CHECKING:
    from pybench.harness.store import Store

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="PYBENCH_STORE",
        help="The record: a database URL such as postgresql+psycopg://user@host/pybench, or a file.",
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option("--results", metavar="DIR", help="The results folder, when it is not ./results."),
]


def results_folder(results: Path | None) -> Path:
    """The folder of results that an option names, or the usual one."""
    return results or Path("results")


def open_record(store: str, results: Path | None) -> Store:
    """The record that is there, to read from or to change.

    Raises:
        InputError: there is none.
    """
    from pybench.harness.store import Store  # noqa: PLC0415 - keeps `--help` quick

    return Store.open(store or results_folder(results) / DATABASE, create=False)


def open_or_make_record(store: str, results: Path | None) -> Store:
    """The record, made if it is not there."""
    from pybench.harness.store import Store  # noqa: PLC0415 - keeps `--help` quick

    folder = results_folder(results)
    if not store:
        folder.mkdir(parents=True, exist_ok=True)
    return Store.open(store or folder / DATABASE)
