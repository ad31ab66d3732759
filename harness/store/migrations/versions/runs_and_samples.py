"""Runs and their samples, the first schema."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "about",
        sql.Column("key", sql.String(64), primary_key=True),
        sql.Column("value", sql.Text, nullable=False),
    )
    op.create_table(
        "run",
        sql.Column("id", sql.String(128), primary_key=True),
        sql.Column("scenario", sql.String(64), nullable=False, index=True),
        sql.Column("source", sql.Text, nullable=False),
        sql.Column("started", sql.String(40), nullable=False, index=True),
        sql.Column("finished", sql.String(40)),
        sql.Column("status", sql.String(16), nullable=False),
        sql.Column("command", sql.Text, nullable=False),
        sql.Column("environment", sql.JSON, nullable=False),
        sql.Column("definition", sql.Text, nullable=False),
        sql.Column("owner", sql.JSON, nullable=False),
    )
    op.create_table(
        "sample",
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), nullable=False, index=True),
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
    )
