"""Which runs of a record are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sql

from pybench.harness.store import tables

BRANCH: Final = "source.branch"
"""Field of a run's environment: the branch of the project that was measured."""
HOST: Final = "host.name"


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are wanted; an empty field asks for nothing."""

    scenario: str = ""
    host: str = ""
    branch: str = ""
    tag: str = ""
    """A tag that names the run now."""
    since: str = ""
    """ISO 8601 in UTC, inclusive."""
    until: str = ""
    """ISO 8601 in UTC, exclusive."""
    newest: int | None = None
    """At most so many, the newest."""


def filtered(wanted: RunFilter) -> sql.Select[Any]:
    """The rows of the runs that are wanted."""
    table = tables.run
    statement = sql.select(table)
    if wanted.scenario:
        statement = statement.where(table.c.scenario == wanted.scenario)
    for field, value in ((HOST, wanted.host), (BRANCH, wanted.branch)):
        if value:
            statement = statement.where(table.c.environment[field].as_string() == value)
    if wanted.tag:
        tagged = sql.select(tables.tag.c.run)
        statement = statement.where(
            table.c.id.in_(tagged.where(tables.tag.c.name == wanted.tag, tables.tag.c.until.is_(None)))
        )
    if wanted.since:
        statement = statement.where(table.c.started >= wanted.since)
    if wanted.until:
        statement = statement.where(table.c.started < wanted.until)
    return statement
