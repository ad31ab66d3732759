"""Names that people give to runs, and what they write about them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sql

from pybench.harness.errors import InputError
from pybench.harness.model import Note, Tagging
from pybench.harness.store import tables
from pybench.harness.store.names import timestamp

LONGEST_NOTE: Final = 10_000
_RESERVED: Final = "latest"
_COLUMNS: Final = tables.tag.c["run", "name", "since", "until"]

_Result = TypeVar("_Result")


class _Writer(Protocol):
    def __call__(self, action: str, work: Callable[[sql.Connection], _Result]) -> _Result: ...


class TagsAndNotes:
    """Tags and notes of one store. A tag that moves leaves its earlier runs known as older baselines."""

    def __init__(self, read: Callable[[sql.Select[Any]], list[dict[str, Any]]], write: _Writer) -> None:
        self._read = read
        self._write = write

    def set(self, name: str, run_id: str) -> None:
        """Let a tag name a run from now on; the run must exist.

        Raises:
            InputError: the name is no label, or it is reserved.
        """
        if not is_tag(name):
            raise InputError(
                f"{name!r} cannot be a tag",
                "use up to 63 lower-case letters, digits, '.', '_' and '-'; `latest` is taken",
            )
        now = timestamp(datetime.now(UTC))

        def move(connection: sql.Connection) -> None:
            current = sql.and_(tables.tag.c.name == name, tables.tag.c.until.is_(None))
            if connection.execute(sql.select(tables.tag.c.run).where(current)).scalar() == run_id:
                return
            connection.execute(tables.tag.update().where(current).values(until=now))
            connection.execute(tables.tag.insert().values(name=name, run=run_id, since=now))

        self._write("tag a run in", move)

    def end(self, name: str) -> None:
        """Let a tag name no run any more.

        Raises:
            InputError: there is no such tag.
        """
        now = timestamp(datetime.now(UTC))
        statement = (
            tables.tag.update()
            .where(tables.tag.c.name == name, tables.tag.c.until.is_(None))
            .values(until=now)
        )
        self.named(name)
        self._write("untag a run in", lambda connection: connection.execute(statement))

    def named(self, name: str) -> str:
        """The run that a tag names.

        Raises:
            InputError: there is no such tag; the nearest ones are offered.
        """
        known = self.current()
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or sorted(known)[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "`pybench history tag RUN NAME` makes one"
        raise InputError(f"there is no tag {name!r}", hint)

    def current(self) -> dict[str, str]:
        """Each tag with the run that it names."""
        statement = sql.select(tables.tag.c.name, tables.tag.c.run).where(tables.tag.c.until.is_(None))
        return {row["name"]: row["run"] for row in self._read(statement.order_by(tables.tag.c.name))}

    def earlier(self, name: str) -> list[str]:
        """The runs that a tag has named before, the latest first, each once."""
        statement = (
            sql.select(tables.tag.c.run)
            .where(tables.tag.c.name == name, tables.tag.c.until.is_not(None))
            # Those that came with an imported run are as old as they were.
            .order_by(tables.tag.c.since.desc(), tables.tag.c.id.desc())
        )
        return list(dict.fromkeys(row["run"] for row in self._read(statement)))

    def of_run(self, run_id: str) -> list[Tagging]:
        """Every tag that a run has or had, in the order in which it got them."""
        statement = sql.select(*_COLUMNS).where(tables.tag.c.run == run_id)
        rows = self._read(statement.order_by(tables.tag.c.since, tables.tag.c.id))
        return [Tagging(**row) for row in rows]

    def take_over(self, tags: Iterable[Tagging], notes: Iterable[Note]) -> dict[str, str]:
        """Add what other records say of runs that are here; what is here already is not added twice.

        A tag that names another run here goes on to do so, and the tagging from elsewhere is left out.

        Returns:
            Each of those tags with the run that it names here.
        """

        def take(connection: sql.Connection) -> dict[str, str]:
            table = tables.tag
            current = sql.select(table.c.name, table.c.run).where(table.c.until.is_(None))
            named = {row.name: row.run for row in connection.execute(current)}
            elsewhere = {}
            for each in tags:
                if each.until is None and named.setdefault(each.name, each.run) != each.run:
                    elsewhere[each.name] = named[each.name]
                else:
                    _add_missing(connection, table, asdict(each), ("run", "name", "since"))
            for note in notes:
                _add_missing(connection, tables.note, asdict(note), ("run", "written", "text"))
            return elsewhere

        return self._write("tag runs in", take)

    def ever_tagged(self) -> frozenset[str]:
        """Every run that has or had a tag."""
        return frozenset(row["run"] for row in self._read(sql.select(tables.tag.c.run).distinct()))

    def write_note(self, run_id: str, text: str) -> None:
        """Add a note to a run.

        Raises:
            InputError: it is empty or longer than 10,000 characters.
        """
        if not is_note(text):
            raise InputError("a note has between 1 and 10,000 characters", "keep the rest in a file")
        values = {"run": run_id, "written": timestamp(datetime.now(UTC)), "text": text.strip()}
        self._write(
            "write a note in", lambda connection: connection.execute(tables.note.insert().values(**values))
        )

    def notes(self, run_ids: Iterable[str]) -> list[Note]:
        """The notes on runs, the oldest first."""
        wanted = set(run_ids)
        statement = sql.select(tables.note.c.run, tables.note.c.written, tables.note.c.text)
        rows = self._read(statement.order_by(tables.note.c.id))
        return [Note(**row) for row in rows if row["run"] in wanted]


def is_tag(name: str) -> bool:
    """Whether a run can be called this."""
    from pybench.harness.fields import LABEL_PATTERN  # noqa: PLC0415 - pydantic is slow to import

    return name != _RESERVED and re.fullmatch(LABEL_PATTERN, name) is not None


def is_note(text: str) -> bool:
    """Whether this can be written about a run."""
    return bool(text.strip()) and len(text) <= LONGEST_NOTE


def _add_missing(
    connection: sql.Connection, table: sql.Table, row: Mapping[str, str | None], key: Sequence[str]
) -> None:
    same = [table.c[name] == row[name] for name in key]
    if connection.execute(sql.select(table.c.id).where(*same)).first() is None:
        connection.execute(table.insert().values(**row))
