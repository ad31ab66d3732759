"""Samples into the database: one statement for a step, the server's bulk protocol for whole runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from pybench.harness.model import Conditions, Sample
from pybench.harness.store import tables

_BULK_FROM: Final = 500
"""Rows from which PostgreSQL's COPY is worth its own round trips (its manual, section 14.4.2)."""
_COLUMNS: Final = tuple(column.name for column in tables.sample.columns)


def insert_samples(connection: sql.Connection, run_id: str, samples: Sequence[Sample], first: int) -> None:
    """Insert samples, numbered from `first` on, within the connection's transaction."""
    rows = [_row(run_id, number, sample) for number, sample in enumerate(samples, first)]
    if len(rows) >= _BULK_FROM and connection.dialect.driver == "psycopg":
        _copy(connection, rows)
    elif rows:
        connection.execute(tables.sample.insert(), rows)


def insert_conditions(connection: sql.Connection, run_id: str, conditions: Sequence[Conditions]) -> None:
    """Insert the conditions of steps, within the connection's transaction."""
    if conditions:
        rows = [{"run": run_id, "order": each.order, "values": dict(each.values)} for each in conditions]
        connection.execute(tables.conditions.insert(), rows)


def _row(run_id: str, number: int, given: Sample) -> dict[str, Any]:
    sample = given
    if given.value is not None and not math.isfinite(given.value):
        sample = replace(given, value=None, status="failed", reason=f"measured as {given.value}")
    row = {name: getattr(sample, name) for name in tables.SAMPLE_FIELDS}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in row.items()}
    return {"run": run_id, "sequence": number, **plain}


def _copy(connection: sql.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    dialect = connection.dialect
    quote = dialect.identifier_preparer.quote
    names = ", ".join(quote(name) for name in _COLUMNS)
    prepared = [_bound(column, dialect) for column in tables.sample.columns]
    # SQLAlchemy has no COPY; this is the driver's own connection, and it is in the same transaction.
    driver: Any = connection.connection.driver_connection
    command = f"COPY {quote(tables.sample.name)} ({names}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            for row in rows:
                copy.write_row([bind(row[name]) for name, bind in zip(_COLUMNS, prepared, strict=True)])
    except dialect.loaded_dbapi.Error as error:
        # As SQLAlchemy would have wrapped it.
        raise DBAPIError(command, None, error, connection_invalidated=driver.closed) from error


def _bound(column: sql.Column[Any], dialect: sql.Dialect) -> Any:  # noqa: ANN401 - a function of any value
    """What an ordinary insertion would make of a value of this column."""
    if isinstance(column.type, sql.JSON):
        return json.dumps
    if isinstance(column.type, tables.AnyText):
        return lambda text: tables.AnyText().process_bind_param(text, dialect)
    return lambda value: value
