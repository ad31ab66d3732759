"""From a place to an engine: SQLite files, and whatever SQLAlchemy reaches by URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from pybench.harness.errors import HostError, InputError
from pybench.harness.store.validation import decode

BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another writer, or for the server, before giving up."""
SILENCE: Final = 1.5 * BUSY_TIMEOUT
"""Seconds without a word from a server after which no step is stored there: it may wait for a lock first."""
LONG_SILENCE: Final = 12 * BUSY_TIMEOUT
"""The same where a server may have a million samples to move before it answers."""
WRITES: Final = "pybench_writes"
"""Execution option of a transaction that writes."""
SHORT: Final = "pybench_short"
"""Execution option of a transaction that any server which is alive answers soon."""
_EXTRA: Final = "pip install 'pybench-harness[postgresql]'"


def connect(place: Path | str, *, create: bool) -> tuple[sql.Engine, str]:
    """An engine for a file or URL, and its name without a password.

    Raises:
        InputError: the file cannot be what is asked for, or the URL means nothing.
        HostError: the driver of the URL's database is not installed.
    """
    if not (isinstance(place, str) and "://" in place):
        path = Path(place)
        return _engine_of_file(path, create=create), str(path)
    try:
        url = sql.make_url(place)
        if url.get_backend_name() == "sqlite":
            if url.database in {None, "", ":memory:"}:
                return _sqlite_engine(url), "sqlite://"
            # The same checks and the same kind of connection as for a plain path.
            return _engine_of_file(Path(str(url.database)), create=create), str(url.database)
        return _server_engine(url), url.render_as_string(hide_password=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(
            "the store's URL is not one that SQLAlchemy knows", "e.g. postgresql+psycopg://user@host/pybench"
        ) from error
    except ImportError as error:
        raise HostError(f"the driver of the store's URL is not installed: {error}", _EXTRA) from error


def snapshots(engine: sql.Engine) -> sql.Engine:
    """An engine whose transactions see the database as it was when they began, as SQLite's always do."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _engine_of_file(path: Path, *, create: bool) -> sql.Engine:
    _check_file(path, create=create)
    if path.exists() and not create and not _writable(path):
        return _sqlite_engine(_read_only_url(path))
    return _sqlite_engine(sql.URL.create("sqlite", database=str(path)))


def _read_only_url(path: Path) -> sql.URL:
    """For a record that this user may only read, such as one on a read-only medium.

    SQLite needs to write beside a database in WAL mode even to read it, unless it is told that nothing
    changes the file (sqlite.org/wal.html, "Read-Only Databases").
    """
    waiting = path.with_name(f"{path.name}-wal")
    if waiting.exists() and waiting.stat().st_size:
        raise InputError(
            f"{path}: it cannot be written, and {waiting.name} holds what is not in it yet",
            "copy both files to a folder of yours and read them there",
        )
    return sql.URL.create(
        "sqlite",
        database=path.absolute().as_uri(),
        query={"mode": "ro", "immutable": "1", "uri": "true"},
    )


def _writable(path: Path) -> bool:
    return all(os.access(place, os.W_OK, effective_ids=True) for place in (path, path.absolute().parent))


def _sqlite_engine(url: sql.URL) -> sql.Engine:
    read_only = url.query.get("mode") == "ro"
    engine = sql.create_engine(
        url,
        # One connection for the life of the store: opening a file costs more than a commit.
        poolclass=StaticPool,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        json_deserializer=decode,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
        # The driver begins transactions late, as readers; two of them that turn writer would deadlock.
        connection.isolation_level = None
        cursor = connection.cursor()
        if not read_only:
            # WAL lets others read while a run writes; FULL makes commits durable (sqlite.org/pragma.html).
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _server_engine(url: sql.URL) -> sql.Engine:
    arguments: dict[str, Any] = {}
    is_postgresql = url.get_backend_name() == "postgresql"
    if is_postgresql:
        # A server that a network has swallowed must not hold a run up for the kernel's quarter of an hour.
        arguments = {"connect_timeout": int(BUSY_TIMEOUT), "tcp_user_timeout": int(BUSY_TIMEOUT * 1000)}
    engine = sql.create_engine(
        url, connect_args=arguments, pool_size=1, max_overflow=1, json_deserializer=decode
    )
    if is_postgresql:

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
            connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT:g}s'")
            connection.commit()

    if is_postgresql and url.get_driver_name() == "psycopg":
        _give_up_when_silent(engine)
    return engine


def _give_up_when_silent(engine: sql.Engine) -> None:
    """Let no exchange with the server wait for ever."""
    from pybench.harness.store.answering import AnsweringConnection  # noqa: PLC0415 - its driver is optional

    @event.listens_for(engine, "do_connect")
    def connect_answering(
        _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> AnsweringConnection:
        connection = AnsweringConnection.connect(*arguments, **options)
        connection.patience = SILENCE
        return connection

    @event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.patience = SILENCE if connection.get_execution_options().get(SHORT) else LONG_SILENCE


def _check_file(path: Path, *, create: bool) -> None:
    """What SQLite would report as "unable to open database file", told apart."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: this is a directory, not a database")
        if not path.exists():
            if not create:
                raise InputError(f"{path}: there are no results here yet", "`pybench run startup` makes some")
            if not path.parent.is_dir():
                raise InputError(f"{path}: the folder {path.parent} does not exist", "make it first")
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise InputError(
                    f"{path}: the folder {path.parent} cannot be written", "choose another with --results"
                )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
