"""Samples with parameters and error, numbered within their run; conditions of steps; tags and notes."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

_COPIED = (
    *("workload", "target", "metric", "unit", "value", "repetition", "warmup", "order", "channel"),
    *("resolution", "qualifiers", "status", "reason"),
)


def upgrade() -> None:
    """Number the samples, keeping every one; drop the version that alembic now keeps; make the new tables."""
    _number_samples()
    op.drop_table("about")
    op.create_table(
        "conditions",
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
        sql.Column("order", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("values", sql.JSON, nullable=False),
    )
    op.create_table(
        "tag",
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("name", sql.String(64), nullable=False),
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), nullable=False, index=True),
        sql.Column("since", sql.String(40), nullable=False),
        sql.Column("until", sql.String(40)),
    )
    current = sql.text("until IS NULL")
    op.create_index(
        "ix_tag_current", "tag", ["name"], unique=True, sqlite_where=current, postgresql_where=current
    )
    op.create_table(
        "note",
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), nullable=False, index=True),
        sql.Column("written", sql.String(40), nullable=False),
        sql.Column("text", sql.Text, nullable=False),
    )


def _number_samples() -> None:
    numbered = op.create_table(
        "numbered_sample",
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
        sql.Column("sequence", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("workload", sql.String(64), nullable=False),
        sql.Column("target", sql.String(64), nullable=False),
        sql.Column("metric", sql.String(128), nullable=False),
        sql.Column("unit", sql.String(16), nullable=False),
        sql.Column("value", sql.Double),
        sql.Column("repetition", sql.Integer, nullable=False),
        sql.Column("warmup", sql.Boolean, nullable=False),
        sql.Column("order", sql.Integer, nullable=False),
        sql.Column("channel", sql.String(64), nullable=False),
        sql.Column("resolution", sql.Double, nullable=False),
        sql.Column("qualifiers", sql.JSON, nullable=False),
        sql.Column("status", sql.String(16), nullable=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("parameters", sql.JSON, nullable=False),
        sql.Column("error", sql.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    old = sql.table("sample", sql.column("id"), sql.column("run"), *map(sql.column, _COPIED))
    sequence = sql.func.row_number().over(partition_by=old.c.run, order_by=old.c.id) - 1
    op.execute(
        numbered.insert().from_select(
            ["run", "sequence", *_COPIED, "parameters", "error"],
            # An error that was not estimated is bounded by the resolution.
            sql.select(
                *(old.c.run, sequence, *(old.c[name] for name in _COPIED)),
                *(sql.literal({}, sql.JSON()), old.c.resolution),
            ),
        )
    )
    op.drop_table("sample")
    op.rename_table("numbered_sample", "sample")
    op.create_index("ix_sample_run_metric", "sample", ["run", "metric"])
