"""Rows of the database as samples, a million of them within seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, make_dataclass
from typing import Any, Final

import sqlalchemy as sql

from pybench.harness.model import Sample, parameter_label
from pybench.harness.store import tables
from pybench.harness.store.errors import DamagedValueError
from pybench.harness.store.insertion import series_fields
from pybench.harness.store.validation import check_column, check_mapping, decode

CellName = tuple[str, str, str, str]
"""Of the cells of one metric: workload, target, unit, label of the parameters."""
_ROWS_AT_ONCE: Final = 1000
_Draft: Final[Any] = make_dataclass("_Draft", [field.name for field in fields(Sample)], slots=True)
"""A sample that is not frozen yet: it is laid out alike, and made in a quarter of the time."""
_NO_VALUE: Final = "a sample that did not fail has no value"
_SeriesName = tuple[str, int]
"""Run and number."""
_Series = tuple[Any, ...]
"""Fields in the order of the table's columns, mappings decoded."""


def read_samples(connection: sql.Connection, run_id: str) -> list[Sample]:
    """All samples of a run in the order of their numbers; those of one series share its texts.

    Args:
        connection: within a transaction that sees the database as it was at one moment.
        run_id: the run.

    Raises:
        DamagedValueError: they are not what was stored.
    """
    _check_series(connection, [run_id])
    known = _read_series(connection, tables.series.c.run == run_id)
    series = {number: texts for (_, number), texts in known.items()}
    table = tables.sample
    columns = [table.c[name] for name in ("sequence", "series", *tables.NUMBER_FIELDS)]
    statement = sql.select(*columns).where(table.c.run == run_id).order_by(table.c.sequence)
    samples: list[Sample] = []
    found: Counter[int] = Counter()
    for rows in connection.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE)).partitions():
        # Whole columns at a time: what Python does for each of a million rows takes longer than reading them.
        sequences, numbers, *figures = zip(*rows, strict=True)
        if sequences != tuple(range(len(samples), len(samples) + len(rows))):
            raise DamagedValueError(f"samples are missing after number {len(samples)}")
        if not series.keys() >= set(numbers):
            raise DamagedValueError("a sample's series is missing")
        found.update(numbers)
        for name, column in zip(tables.NUMBER_FIELDS, figures, strict=True):
            check_column(name, column)
        samples += _as_samples(rows, series)
    counted = sql.select(table.c.run, table.c.series, sql.func.count()).where(table.c.run == run_id)
    _check_index(connection, counted, {(run_id, number): count for number, count in found.items()})
    return samples


def read_values(
    connection: sql.Connection, run_ids: Sequence[str], metric: str
) -> Iterator[tuple[str, CellName, float]]:
    """The values that count of one metric with their run and cell, each run's in the order of storing.

    Args:
        connection: within a transaction that sees the database as it was at one moment.
        run_ids: as many as one statement can name.
        metric: of the samples.

    Raises:
        DamagedValueError: they are not what was stored.
    """
    _check_series(connection, run_ids)
    table = tables.sample
    chosen = sql.and_(tables.series.c.run.in_(run_ids), tables.series.c.metric == metric)
    series = _read_series(connection, chosen)
    of_series = tables.series.join(table)
    statement = (
        sql.select(table.c.run, table.c.series, table.c.warmup, table.c.value)
        .select_from(of_series)
        .where(chosen)
        .order_by(table.c.run, table.c.sequence)
    )
    rows = connection.execute(statement).all()
    for name, column in zip(("warmup", "value"), [*zip(*rows, strict=True)][2:], strict=False):
        check_column(name, column)
    counted = sql.select(table.c.run, table.c.series, sql.func.count()).select_from(of_series).where(chosen)
    _check_index(connection, counted, Counter((run_id, number) for run_id, number, _, _ in rows))
    cells: dict[_SeriesName, CellName] = {}
    for series_name, (workload, target, _, unit, _, status, _, _, parameters) in series.items():
        if status == "ok":
            cells[series_name] = (workload, target, unit, parameter_label(parameters))
    for run_id, number, warmup, value in rows:
        cell = cells.get((run_id, number))
        if cell and not warmup:
            if value is None:
                raise DamagedValueError(_NO_VALUE)
            yield run_id, cell, value


def _as_samples(rows: Sequence[Sequence[Any]], series: Mapping[int, _Series]) -> Iterator[Sample]:
    for _, number, value, repetition, warmup, order, resolution, error in rows:
        workload, target, metric, unit, channel, status, reason, qualifiers, parameters = series[number]
        if value is None and status != "failed":
            raise DamagedValueError(_NO_VALUE)
        draft = _Draft(
            workload, target, metric, unit, value, repetition, warmup, order, channel, resolution,
            qualifiers, status, reason, parameters, error,
        )  # fmt: skip
        draft.__class__ = Sample
        yield draft


def _read_series(connection: sql.Connection, chosen: sql.ColumnElement[bool]) -> dict[_SeriesName, _Series]:
    """Series by run and number, checked; those that have a text in common share it."""
    table = tables.series
    rows = connection.execute(sql.select(table.c.run, table.c.number, *series_fields()).where(chosen)).all()
    shared: dict[Any, Any] = {}
    decoded: dict[Any, Any] = {}
    series = {}
    texts = len(tables.TEXT_FIELDS)
    for name, column in zip(tables.TEXT_FIELDS, [*zip(*rows, strict=True)][2:], strict=False):
        check_column(name, column)
    for run_id, number, *values in rows:
        for text in values[texts:]:
            if text not in decoded:
                decoded[text] = check_mapping(decode(text))
        series[run_id, number] = (
            *(shared.setdefault(text, text) for text in values[:texts]),
            *(decoded[text] for text in values[texts:]),
        )
    return series


def _check_series(connection: sql.Connection, run_ids: Sequence[str]) -> None:
    """Check that the series of runs are numbered without gaps, and that samples name these and no others."""

    def of_run(table: sql.Table, figure: sql.ColumnElement[Any]) -> sql.ScalarSelect[Any]:
        return sql.select(figure).where(table.c.run == tables.run.c.id).scalar_subquery()

    numbers = [(tables.series, tables.series.c.number), (tables.sample, tables.sample.c.series)]
    statement = sql.select(
        tables.run.c.id,
        of_run(tables.series, sql.func.count()),
        # Each of them is found at an end of an index.
        *(of_run(table, end(number)) for table, number in numbers for end in (sql.func.min, sql.func.max)),
    )
    for run_id, count, *ends in connection.execute(statement.where(tables.run.c.id.in_(run_ids))):
        if ends != ([0, count - 1] * 2 if count else [None] * 4):
            raise DamagedValueError(f"series of {run_id} are missing")


def _check_index(
    connection: sql.Connection, counted: sql.Select[Any], found: Mapping[_SeriesName, int]
) -> None:
    """Check that the index knows as many samples of each series as were found in the table.

    A server keeps its own house.

    Args:
        connection: within the transaction in which they were found.
        counted: run, number of a series and how many samples of it there are.
        found: the same as it was found.
    """
    if connection.dialect.name == "sqlite":
        table = tables.sample
        rows = connection.execute(counted.group_by(table.c.run, table.c.series))
        if {(run_id, number): count for run_id, number, count in rows} != found:
            raise DamagedValueError("samples are missing, or their index is wrong")
