"""The tables of the record, as the newest migration leaves them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class AnyText(TypeDecorator[str]):
    """Text that may contain NUL, which PostgreSQL cannot store (its manual, section 8.3).

    There, NUL is written as a backslash and a zero, and a backslash as two. SQLite keeps the text as it is.
    """

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape on the way in."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace("\\", "\\\\").replace("\0", "\\0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Restore on the way out."""
        if value is None or dialect.name != "postgresql" or "\\" not in value:
            return value
        return "\\".join(part.replace("\\0", "\0") for part in value.split("\\\\"))


metadata: Final = sql.MetaData()

run: Final = sql.Table(
    "run",
    metadata,
    sql.Column("id", sql.String(128), primary_key=True),
    sql.Column("scenario", sql.String(64), nullable=False, index=True),
    sql.Column("source", AnyText, nullable=False),
    sql.Column("started", sql.String(40), nullable=False, index=True),
    sql.Column("finished", sql.String(40)),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("command", AnyText, nullable=False),
    sql.Column("environment", sql.JSON, nullable=False),
    sql.Column("definition", AnyText, nullable=False),
    # Who carries it out: host, boot and process, to tell a run that goes on from one whose process died.
    sql.Column("owner", sql.JSON, nullable=False),
)

# What is common to many samples of a run: all their texts, which are stored once.
series: Final = sql.Table(
    "series",
    metadata,
    sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
    # Its place among the series of the run, from 0, in the order of their first samples.
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("workload", sql.String(64), nullable=False),
    sql.Column("target", sql.String(64), nullable=False),
    sql.Column("metric", sql.String(128), nullable=False),
    sql.Column("unit", sql.String(16), nullable=False),
    sql.Column("channel", sql.String(64), nullable=False),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("reason", AnyText, nullable=False),
    sql.Column("qualifiers", sql.JSON, nullable=False),
    sql.Column("parameters", sql.JSON, nullable=False),
    sqlite_with_rowid=False,
)

sample: Final = sql.Table(
    "sample",
    metadata,
    sql.Column("run", sql.String(128), primary_key=True),
    # Its place among the samples of the run, from 0: a delivery that is repeated cannot store it twice.
    sql.Column("sequence", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("series", sql.Integer, nullable=False),
    sql.Column("value", sql.Double),
    sql.Column("repetition", sql.Integer, nullable=False),
    sql.Column("warmup", sql.Boolean, nullable=False),
    sql.Column("order", sql.Integer, nullable=False),
    sql.Column("resolution", sql.Double, nullable=False),
    sql.Column("error", sql.Double, nullable=False),
    sql.ForeignKeyConstraint(["run", "series"], ["series.run", "series.number"]),
    # Trends read a few series of many runs.
    sql.Index("ix_sample_run_series", "run", "series"),
    # A run's samples lie together on the disk.
    sqlite_with_rowid=False,
)

conditions: Final = sql.Table(
    "conditions",
    metadata,
    sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
    sql.Column("order", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("values", sql.JSON, nullable=False),
)

tag: Final = sql.Table(
    "tag",
    metadata,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), nullable=False, index=True),
    sql.Column("since", sql.String(40), nullable=False),
    # Null while the tag names this run; rows that ended are the older baselines.
    sql.Column("until", sql.String(40)),
    # Of the rows without an end alone. Only the migration says so: said here, it would have every command
    # import the dialects of both databases.
    sql.Index("ix_tag_current", "name", unique=True),
)

note: Final = sql.Table(
    "note",
    metadata,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), nullable=False, index=True),
    sql.Column("written", sql.String(40), nullable=False),
    sql.Column("text", AnyText, nullable=False),
)

RUN_FIELDS: Final = tuple(
    column.name for column in run.columns if column.name not in {"environment", "owner"}
)
MAPPING_FIELDS: Final = ("qualifiers", "parameters")
"""Of a series: those that are stored as JSON."""
TEXT_FIELDS: Final = tuple(
    column.name for column in series.columns if column.name not in {"run", "number", *MAPPING_FIELDS}
)
"""Of a series: the others."""
NUMBER_FIELDS: Final = tuple(
    column.name for column in sample.columns if column.name not in {"run", "sequence", "series"}
)
"""Of a sample: what is not in its series."""
