"""Rows of the database as samples, a million of them within seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, make_dataclass
from typing import Any, Final

import sqlalchemy as sql

from pybench.harness.model import Sample
from pybench.harness.store import tables
from pybench.harness.store.validation import check_mapping, decode

FIELDS: Final = tuple(field.name for field in fields(Sample))
_MAPPINGS: Final = ("qualifiers", "parameters")
_Draft: Final[Any] = make_dataclass("_Draft", FIELDS, slots=True)
"""A sample that is not frozen yet: it is laid out alike, and made in a quarter of the time."""


def columns() -> list[sql.ColumnElement[Any]]:
    """What a row of a sample has, in the order of its fields; mappings as JSON text.

    Samples share their qualifiers by the thousand, so that their text is decoded here and not in every row.
    """
    table = tables.sample
    return [sql.cast(table.c[name], sql.Text) if name in _MAPPINGS else table.c[name] for name in FIELDS]


def as_samples(rows: Iterable[Sequence[Any]]) -> list[Sample]:
    """Samples that share their texts: of a million there are few different ones.

    Args:
        rows: with the columns that `columns` gives.

    Raises:
        DamagedValueError: a mapping is no JSON, or something else.
    """
    names: dict[Any, Any] = {}
    shared = names.setdefault
    decoded: dict[str, Any] = {}
    samples: list[Sample] = []
    for (
        workload, target, metric, unit, value, repetition, warmup, order, channel, resolution, qualifiers,
        status, reason, parameters, error,
    ) in rows:  # fmt: skip
        for text in (qualifiers, parameters):
            if text not in decoded:
                decoded[text] = check_mapping(decode(text))
        draft = _Draft(
            shared(workload, workload), shared(target, target), shared(metric, metric), shared(unit, unit),
            value, repetition, warmup, order, shared(channel, channel), resolution,
            decoded[qualifiers], shared(status, status), shared(reason, reason), decoded[parameters], error,
        )  # fmt: skip
        draft.__class__ = Sample
        samples.append(draft)
    return samples
