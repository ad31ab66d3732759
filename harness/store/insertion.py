"""Samples into the database: one statement for a step, the server's bulk protocol for whole runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from pybench.harness.model import Conditions, Sample
from pybench.harness.store import tables

_BULK_FROM: Final = 500
"""Rows from which PostgreSQL's COPY is worth its own round trips (its manual, section 14.4.2)."""
_PLACES: Final = {"qmark": "?", "format": "%s", "pyformat": "%s"}
"""How a driver spells the place of a value in a row (PEP 249)."""
_fields = attrgetter(*tables.SAMPLE_FIELDS)

Row = tuple[Any, ...]
"""Values in the order of the table's columns."""


def insert_samples(connection: sql.Connection, run_id: str, samples: Sequence[Sample], first: int) -> None:
    """Insert samples, numbered from `first` on, within the connection's transaction."""
    if not samples:
        return
    rows = list(_rows(connection.dialect, run_id, samples, first))
    table, columns = _names(connection.dialect)
    if len(rows) >= _BULK_FROM and connection.dialect.driver == "psycopg":
        _copy(connection, f"COPY {table} ({columns}) FROM STDIN", rows)
    else:
        # SQLAlchemy would convert each value of each row, which takes as long as the database does.
        places = ", ".join([_PLACES[connection.dialect.paramstyle]] * len(rows[0]))
        command = f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - of constants
        connection.exec_driver_sql(command, rows)


def insert_conditions(connection: sql.Connection, run_id: str, conditions: Sequence[Conditions]) -> None:
    """Insert the conditions of steps, within the connection's transaction."""
    if conditions:
        rows = [{"run": run_id, "order": each.order, "values": dict(each.values)} for each in conditions]
        connection.execute(tables.conditions.insert(), rows)


def _rows(dialect: sql.Dialect, run_id: str, samples: Sequence[Sample], first: int) -> Iterator[Row]:
    bound = [
        (place, bind)
        for place, column in enumerate(tables.sample.columns)
        if (bind := _binding(column, dialect)) is not None
    ]
    for number, sample in enumerate(samples, first):
        row = [run_id, number, *_fields(_measured(sample))]
        for place, bind in bound:
            row[place] = bind(row[place])
        yield tuple(row)


def _measured(sample: Sample) -> Sample:
    if sample.value is None or math.isfinite(sample.value):
        return sample
    return replace(sample, value=None, status="failed", reason=f"measured as {sample.value}")


def _names(dialect: sql.Dialect) -> tuple[str, str]:
    """The table of samples and its columns, as a statement has them."""
    quote = dialect.identifier_preparer.quote
    return quote(tables.sample.name), ", ".join(quote(column.name) for column in tables.sample.columns)


def _copy(connection: sql.Connection, command: str, rows: Sequence[Row]) -> None:
    # SQLAlchemy has no COPY; this is the driver's own connection, and it is in the same transaction.
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        # As SQLAlchemy would have wrapped it.
        raise DBAPIError(command, None, error, connection_invalidated=driver.closed) from error


def _binding(column: sql.Column[Any], dialect: sql.Dialect) -> Callable[[Any], Any] | None:
    """What SQLAlchemy would make of a value of this column; None where that is the value itself."""
    if isinstance(column.type, sql.JSON):
        return _json
    if isinstance(column.type, tables.AnyText) and dialect.name == "postgresql":
        return partial(column.type.process_bind_param, dialect=dialect)
    return None


def _json(value: Any) -> str:  # noqa: ANN401 - what is JSON
    return json.dumps(dict(value))
