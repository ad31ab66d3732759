"""Rows of the database as samples, a million of them within seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, make_dataclass
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sql

from pybench.harness.model import Sample
from pybench.harness.store import tables
from pybench.harness.store.errors import DamagedValueError
from pybench.harness.store.validation import check_column, check_mapping, decode

_FIELDS: Final = tuple(field.name for field in fields(Sample))
_NUMBERS: Final = ("value", "repetition", "warmup", "order", "resolution", "error")
_MAPPINGS: Final = ("qualifiers", "parameters")
_Draft: Final[Any] = make_dataclass("_Draft", _FIELDS, slots=True)
"""A sample that is not frozen yet: it is laid out alike, and made in a quarter of the time."""


def columns() -> list[sql.ColumnElement[Any]]:
    """A sample's fields in their order, mappings as JSON text, and last its number within the run.

    Samples share their qualifiers by the thousand, so that their text is decoded here and not in every row.
    """
    table = tables.sample
    of_fields = [
        sql.cast(table.c[name], sql.Text) if name in _MAPPINGS else table.c[name] for name in _FIELDS
    ]
    return [*of_fields, table.c.sequence]


def as_samples(rows: Iterable[Sequence[Any]]) -> list[Sample]:
    """All samples of a run, which share their texts: of a million there are few different ones.

    Args:
        rows: with the columns that `columns` gives, in the order of their numbers.

    Raises:
        DamagedValueError: they are not what was stored.
    """
    names: dict[Any, Any] = {}
    statuses: dict[Any, Any] = {}
    shared, status_of = names.setdefault, statuses.setdefault
    decoded: dict[str, Any] = {}
    samples: list[Sample] = []
    for expected, (
        workload, target, metric, unit, value, repetition, warmup, order, channel, resolution, qualifiers,
        status, reason, parameters, error, number,
    ) in enumerate(rows):  # fmt: skip
        if number != expected:
            raise DamagedValueError(f"samples are missing after number {expected}")
        for text in (qualifiers, parameters):
            if text not in decoded:
                decoded[text] = check_mapping(decode(text))
        draft = _Draft(
            shared(workload, workload), shared(target, target), shared(metric, metric), shared(unit, unit),
            value, repetition, warmup, order, shared(channel, channel), resolution,
            decoded[qualifiers], status_of(status, status), shared(reason, reason), decoded[parameters],
            error,
        )  # fmt: skip
        draft.__class__ = Sample
        samples.append(draft)
    check_column("reason", [*names])
    check_column("status", [*statuses])
    # Whole columns at a time: what Python does for each of a million rows takes longer than reading them.
    for name in _NUMBERS:
        check_column(name, [*map(attrgetter(name), samples)])
    for sample in samples:
        if sample.value is None and sample.status != "failed":
            raise DamagedValueError("a sample that did not fail has no value")
    return samples
