"""What verbs print: data in the format that was asked for, and as much beside it as was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH: Final = 200
"""Columns where no terminal says how wide it is; a log should not be folded at 80."""

Record = Mapping[str, object]
"""One row of a table, by the names of its columns."""


class Format(StrEnum):
    """How a verb prints data."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class Verbosity(IntEnum):
    """How much is told beside the results."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


FormatOption = Annotated[
    Format, typer.Option("--format", help="For people, for programs, for spreadsheets, for documents.")
]

_verbosity = Verbosity.NORMAL


def verbosity() -> Verbosity:
    """How much this command line wants to be told."""
    return _verbosity


def set_verbosity(wanted: Verbosity) -> None:
    """Decide it for everything that is said from now on."""
    global _verbosity  # noqa: PLW0603 - of the process, like the streams it is about
    _verbosity = wanted


def complain(text: str) -> None:
    """A line on standard error that is never left out: an error or a loss."""
    typer.echo(text, err=True)


def note(text: str) -> None:
    """A line on standard error about what goes on; `--quiet` leaves it out."""
    if _verbosity > Verbosity.QUIET:
        typer.echo(text, err=True)


def detail(text: str) -> None:
    """A line on standard error that only `--verbose` wants."""
    if _verbosity >= Verbosity.VERBOSE:
        typer.echo(text, err=True)


def progress(text: str) -> None:
    """That something which takes a while has begun."""
    note(f"{text} …")


def print_data(
    wanted: Format,
    *,
    document: object,
    records: Iterable[Record],
    lines: Callable[[], Iterable[str]],
) -> None:
    """Print data.

    Args:
        wanted: the format.
        document: everything, for JSON.
        records: the same as a table, for CSV and Markdown; what is nested there is written as JSON.
        lines: the same for people; only called if they are who wants it.
    """
    match wanted:
        case Format.TEXT:
            for line in lines():
                typer.echo(line)
        case Format.JSON:
            typer.echo(_json(document, indent=2))
        case Format.CSV:
            typer.echo(_csv(list(records)), nl=False)
        case Format.MARKDOWN:
            for line in markdown_table(list(records)):
                typer.echo(line)


def markdown_table(records: Sequence[Record], *, marked_up: bool = False) -> list[str]:
    """A table as GitHub, GitLab and MkDocs read it; nothing in a cell can end it.

    Nor can it become a tag or an entity, unless the cells are Markdown themselves: `marked_up`.
    """
    cell = _one_line if marked_up else _markdown_cell
    names = _column_names(records)
    if not names:
        return []
    lines = [f"| {' | '.join(map(cell, names))} |", f"|{'---|' * len(names)}"]
    for record in records:
        lines.append(f"| {' | '.join(cell(_text(record.get(name))) for name in names)} |")
    return lines


def console(*, errors: bool = False) -> Console:
    """A console of rich, as wide as the terminal, and plain where there is none."""
    from rich.console import Console  # noqa: PLC0415 - slow to import

    made = Console(stderr=errors)
    if not made.is_terminal:
        made.width = _PIPED_WIDTH
    return made


def styled(text: str, colour: str) -> str:
    """In a colour of the terminal; plain in a pipe or where `NO_COLOR` is set, as no-color.org asks."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return typer.style(text, fg=colour)


def _json(value: object, indent: int | None = None) -> str:
    import json  # noqa: PLC0415 - keeps `--help` quick

    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def _csv(records: Sequence[Record]) -> str:
    import csv  # noqa: PLC0415 - keeps `--help` quick
    import io  # noqa: PLC0415

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = _column_names(records)
    if names:
        writer.writerow(names)
    writer.writerows([_text(record.get(name)) for name in names] for record in records)
    return text.getvalue()


def _column_names(records: Sequence[Record]) -> list[str]:
    """Of all records, in the order in which they first appear."""
    return list(dict.fromkeys(name for record in records for name in record))


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case [*items] if all(isinstance(item, str) for item in items):
            return ", ".join(map(str, items))
        case _:
            return _json(value)


def _markdown_cell(text: str) -> str:
    return _one_line(text.replace("&", "&amp;").replace("<", "&lt;"))


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """A record whose mappings are columns of their own, named `outer.inner`."""
    columns: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            columns.update(flat(value, f"{prefix}{name}."))
        else:
            columns[f"{prefix}{name}"] = value
    return columns
