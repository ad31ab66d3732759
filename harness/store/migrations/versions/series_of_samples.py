"""What is common to many samples of a run, stored once: its series."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

from pybench.harness.store.errors import DamagedValueError

revision = "0003"
down_revision: str | None = "0002"

_TEXTS = ("workload", "target", "metric", "unit", "channel", "status", "reason", "qualifiers", "parameters")
_NUMBERS = ("value", "repetition", "warmup", "order", "resolution", "error")


def upgrade() -> None:
    """Make the series of every run, numbered in the order of their first samples, which name them then."""
    series, sample = _create_tables()
    connection = op.get_bind()
    old = sql.table("sample", *map(sql.column, ("run", "sequence", *_TEXTS, *_NUMBERS)))
    # One run at a time: that is sorted sooner, and a server is not silent for long.
    for run_id in connection.execute(sql.select(old.c.run).distinct().order_by(old.c.run)).scalars().all():
        same = [sql.cast(old.c[name], sql.Text) for name in _TEXTS]
        first = sql.func.min(old.c.sequence).over(partition_by=same).label("first")
        of_run = sql.select(old, first).where(old.c.run == run_id).subquery()
        connection.execute(
            series.insert().from_select(
                ["run", "number", *_TEXTS],
                sql.select(
                    of_run.c.run,
                    sql.func.row_number().over(order_by=of_run.c.sequence) - 1,
                    *(of_run.c[name] for name in _TEXTS),
                ).where(of_run.c.sequence == of_run.c.first),
            )
        )
        connection.execute(
            sample.insert().from_select(
                ["run", "sequence", "series", *_NUMBERS],
                sql.select(
                    *(of_run.c.run, of_run.c.sequence),
                    sql.func.dense_rank().over(order_by=of_run.c.first) - 1,
                    *(of_run.c[name] for name in _NUMBERS),
                ).order_by(of_run.c.sequence),
            )
        )
    # SQLite counts the old ones by their index: what the table has lost would not be missed any more.
    before, after = (
        connection.execute(sql.select(sql.func.count()).select_from(table)).scalar()
        for table in (old, sample)
    )
    if before != after:
        raise DamagedValueError("samples are missing, or their index is wrong")
    op.drop_table("sample")
    op.rename_table("sample_of_series", "sample")
    op.create_index("ix_sample_run_series", "sample", ["run", "series"])


def _create_tables() -> tuple[sql.Table, sql.Table]:
    series = op.create_table(
        "series",
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
        sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("workload", sql.String(64), nullable=False),
        sql.Column("target", sql.String(64), nullable=False),
        sql.Column("metric", sql.String(128), nullable=False),
        sql.Column("unit", sql.String(16), nullable=False),
        sql.Column("channel", sql.String(64), nullable=False),
        sql.Column("status", sql.String(16), nullable=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("qualifiers", sql.JSON, nullable=False),
        sql.Column("parameters", sql.JSON, nullable=False),
        sqlite_with_rowid=False,
    )
    sample = op.create_table(
        "sample_of_series",
        sql.Column("run", sql.String(128), primary_key=True),
        sql.Column("sequence", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("series", sql.Integer, nullable=False),
        sql.Column("value", sql.Double),
        sql.Column("repetition", sql.Integer, nullable=False),
        sql.Column("warmup", sql.Boolean, nullable=False),
        sql.Column("order", sql.Integer, nullable=False),
        sql.Column("resolution", sql.Double, nullable=False),
        sql.Column("error", sql.Double, nullable=False),
        sql.ForeignKeyConstraint(["run", "series"], ["series.run", "series.number"]),
        sqlite_with_rowid=False,
    )
    return series, sample
