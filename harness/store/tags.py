"""Names that people give to runs, and what they write about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sql

from pybench.harness.errors import InputError
from pybench.harness.store import tables
from pybench.harness.store.names import timestamp

LONGEST_NOTE: Final = 10_000
_RESERVED: Final = "latest"

_Result = TypeVar("_Result")


class _Writer(Protocol):
    def __call__(self, action: str, work: Callable[[sql.Connection], _Result]) -> _Result: ...


@dataclass(frozen=True, slots=True)
class Note:
    """What someone wrote about a run."""

    run: str
    written: str
    text: str


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
        from pybench.harness.fields import LABEL_PATTERN  # noqa: PLC0415 - pydantic is slow to import

        if name == _RESERVED or not re.fullmatch(LABEL_PATTERN, name):
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
        if not self._write("untag a run in", lambda connection: connection.execute(statement).rowcount):
            known = ", ".join(sorted(self.current()))
            raise InputError(f"there is no tag {name!r}", f"there are {known}" if known else "there are none")

    def current(self) -> dict[str, str]:
        """Each tag with the run that it names."""
        statement = sql.select(tables.tag.c.name, tables.tag.c.run).where(tables.tag.c.until.is_(None))
        return {row["name"]: row["run"] for row in self._read(statement.order_by(tables.tag.c.name))}

    def earlier(self, name: str) -> list[str]:
        """The runs that a tag has named before, the latest first, each once."""
        statement = (
            sql.select(tables.tag.c.run)
            .where(tables.tag.c.name == name, tables.tag.c.until.is_not(None))
            .order_by(tables.tag.c.id.desc())
        )
        return list(dict.fromkeys(row["run"] for row in self._read(statement)))

    def ever_tagged(self) -> frozenset[str]:
        """Every run that has or had a tag."""
        return frozenset(row["run"] for row in self._read(sql.select(tables.tag.c.run).distinct()))

    def write_note(self, run_id: str, text: str) -> None:
        """Add a note to a run.

        Raises:
            InputError: it is empty or longer than 10,000 characters.
        """
        if not text.strip() or len(text) > LONGEST_NOTE:
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
