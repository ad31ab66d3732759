"""Brings a database to the schema that this version reads and writes, by packaged migrations."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sql

from pybench.harness.errors import InputError
from pybench.harness.store.connections import WRITES

REVISION: Final = "0003"
"""The newest migration."""
_FIRST: Final = "0001"
"""The schema of records that were made before alembic kept the version."""
_LOCK: Final = 0x70796265
"""Key of the advisory lock under which a server's database is migrated."""
_VERSION: Final = sql.table("alembic_version", sql.column("version_num"))
_OTHER: Final = "choose another place with --results or --store"


def prepare(engine: sql.Engine, place: str, *, create: bool) -> None:
    """Make the tables, or migrate those of an older version; quick when there is nothing to do.

    Raises:
        InputError: the database is someone else's, or of a newer version, or has no tables and none
            are to be made.
    """
    with engine.connect() as connection:
        revision = _revision(connection, place)
    if revision == REVISION:
        return
    if not revision and not create:
        raise InputError(f"{place}: there are no results here yet", "`pybench run startup` makes some")
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
        # Another process may have done it while this one waited for the lock.
        revision = _revision(connection, place)
        if revision != REVISION:
            _migrate(connection, stamp=_FIRST if revision == _FIRST else None)


def _revision(connection: sql.Connection, place: str) -> str:
    """The revision of a database, or nothing when it is empty."""
    tables = set(sql.inspect(connection).get_table_names())
    if not tables:
        return ""
    if _VERSION.name in tables:
        found = connection.execute(sql.select(_VERSION.c.version_num)).scalars().all()
        version = str(found[0]) if len(found) == 1 else "missing"
    elif {"about", "run", "sample"} <= tables:
        about = sql.table("about", sql.column("key"), sql.column("value"))
        version = str(connection.execute(sql.select(about.c.value).where(about.c.key == "schema")).scalar())
        if version == _FIRST.lstrip("0"):
            return _FIRST
    else:
        raise InputError(f"{place}: this database belongs to something else", _OTHER)
    if not (version.isdecimal() and len(version) == len(REVISION) and version > "0000"):
        raise InputError(f"{place}: its schema version is {version}", "restore it from a copy")
    if version > REVISION:
        raise InputError(
            f"{place}: written by a newer pybench (schema {version}; known is {REVISION})",
            f"upgrade pybench, or {_OTHER}",
        )
    return version


def _migrate(connection: sql.Connection, stamp: str | None) -> None:
    # Slow to import, and nearly every store is at the newest version already.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    configuration.attributes["connection"] = connection
    if stamp is not None and not sql.inspect(connection).has_table(_VERSION.name):
        command.stamp(configuration, stamp)
    command.upgrade(configuration, "head")
