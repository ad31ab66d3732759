"""Samples into the database: one statement for a step, the server's bulk protocol for whole runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final, Self

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from pybench.harness.model import Conditions, Sample
from pybench.harness.store import tables

MOST_KNOWN: Final = 10_000
"""Series of a run that a writer keeps in mind; most runs have some hundred. Others are stored again."""
_BULK_FROM: Final = 500
"""Rows from which PostgreSQL's COPY is worth its own round trips (its manual, section 14.4.2)."""
_PLACES: Final = {"qmark": "?", "format": "%s", "pyformat": "%s"}
"""How a driver spells the place of a value in a row (PEP 249)."""
_texts = attrgetter(*tables.TEXT_FIELDS)
_numbers = attrgetter(*tables.NUMBER_FIELDS)

Key = tuple[str, ...]
"""The texts of a series, and its mappings as JSON: in the order of the table's columns."""
Row = tuple[Any, ...]
"""Values in the order of the table's columns."""


@dataclass(slots=True)
class Stored:
    """What a run has in the record, as of the last commit."""

    samples: int = 0
    """They are numbered from 0 without gaps, as are the series."""
    series: int = 0
    known: dict[Key, int] = field(default_factory=dict)
    """Numbers of series, those that were stored last among them."""

    @classmethod
    def read(cls, connection: sql.Connection, run_id: str) -> Self:
        """What a run has of which this process has not stored everything itself."""
        table = tables.series
        newest = (
            sql.select(table.c.number, *series_fields())
            .where(table.c.run == run_id)
            .order_by(table.c.number.desc())
            .limit(MOST_KNOWN)
        )
        known = {tuple(key): number for number, *key in reversed(connection.execute(newest).all())}
        return cls(
            samples=_count(connection, run_id, tables.sample.c.sequence),
            series=_count(connection, run_id, table.c.number),
            known=known,
        )

    def add(self, added: Stored) -> None:
        """Take over what is committed by now."""
        self.samples += added.samples
        self.series += added.series
        self.known |= added.known
        if len(self.known) > MOST_KNOWN:
            # Half of them, so that not every step that follows has to do it again.
            self.known = dict([*self.known.items()][-MOST_KNOWN // 2 :])


def series_fields() -> list[sql.ColumnElement[Any]]:
    """What a series is told by, in the order of the table's columns, mappings as JSON text."""
    columns = tables.series.c
    return [
        *(columns[name] for name in tables.TEXT_FIELDS),
        *(sql.cast(columns[name], sql.Text) for name in tables.MAPPING_FIELDS),
    ]


def insert_samples(
    connection: sql.Connection, run_id: str, samples: Sequence[Sample], stored: Stored
) -> Stored:
    """Insert samples, and the series that are new with them, within the connection's transaction.

    Args:
        connection: within a transaction that writes.
        run_id: the run they belong to.
        samples: what follows on the samples that are stored.
        stored: what the run has; it is not changed, since the transaction may yet fail.

    Returns:
        What was added.
    """
    added = Stored(samples=len(samples))
    mappings = _Mappings()
    rows: list[Row] = []
    for sequence, sample in enumerate(map(_measured, samples), stored.samples):
        key = (*_texts(sample), mappings.text(sample.qualifiers), mappings.text(sample.parameters))
        number = stored.known.get(key)
        if number is None:
            number = added.known.setdefault(key, stored.series + len(added.known))
        rows.append((run_id, sequence, number, *_numbers(sample)))
    added.series = len(added.known)
    _insert(connection, tables.series, _series_rows(connection.dialect, run_id, added.known))
    _insert(connection, tables.sample, rows)
    return added


def insert_conditions(connection: sql.Connection, run_id: str, conditions: Sequence[Conditions]) -> None:
    """Insert the conditions of steps, within the connection's transaction."""
    if conditions:
        rows = [{"run": run_id, "order": each.order, "values": dict(each.values)} for each in conditions]
        connection.execute(tables.conditions.insert(), rows)


class _Mappings:
    """JSON of the mappings of samples, which share them by the thousand; they must live as long as this."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def text(self, mapping: Mapping[str, Any]) -> str:
        found = self._texts.get(id(mapping))
        if found is None:
            found = self._texts[id(mapping)] = json.dumps(dict(mapping))
        return found


def _measured(sample: Sample) -> Sample:
    if sample.value is None or math.isfinite(sample.value):
        return sample
    return replace(sample, value=None, status="failed", reason=f"measured as {sample.value}")


def _count(connection: sql.Connection, run_id: str, number: sql.Column[Any]) -> int:
    """How many rows of a table a run has, which numbers them from 0 without gaps."""
    last = connection.execute(sql.select(sql.func.max(number)).where(number.table.c.run == run_id)).scalar()
    return 0 if last is None else int(last) + 1


def _series_rows(dialect: sql.Dialect, run_id: str, numbers: Mapping[Key, int]) -> list[Row]:
    escaped = [
        (place, column.type.process_bind_param)
        for place, column in enumerate(tables.series.columns)
        if isinstance(column.type, tables.AnyText)
    ]
    rows: list[Row] = []
    for key, number in numbers.items():
        row: list[Any] = [run_id, number, *key]
        for place, escape in escaped:
            row[place] = escape(row[place], dialect)
        rows.append(tuple(row))
    return rows


def _insert(connection: sql.Connection, table: sql.Table, rows: list[Row]) -> None:
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote
    into = f"{quote(table.name)} ({', '.join(quote(column.name) for column in table.columns)})"
    if len(rows) >= _BULK_FROM and connection.dialect.driver == "psycopg":
        _copy(connection, f"COPY {into} FROM STDIN", rows)
    else:
        # SQLAlchemy would convert each value of each row, which takes as long as the database does.
        places = ", ".join([_PLACES[connection.dialect.paramstyle]] * len(rows[0]))
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({places})", rows)  # noqa: S608 - of constants


def _copy(connection: sql.Connection, command: str, rows: Iterable[Row]) -> None:
    # SQLAlchemy has no COPY; this is the driver's own connection, and it is in the same transaction.
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        # As SQLAlchemy would have wrapped it.
        raise DBAPIError(command, None, error, connection_invalidated=driver.closed) from error
