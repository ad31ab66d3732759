"""The record: runs and their raw samples, in SQLite by default.

Raw samples are kept for ever and never changed; whatever is derived from them is computed when it is read.
A commit is on the disk when the call returns (write-ahead log, `synchronous=FULL`), so a run that is
killed has lost at most the step it was in.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil
import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from pybench.harness.errors import HostError, InputError
from pybench.harness.model import Conditions, Environment, Run, RunStatus, Sample

if TYPE_CHECKING:
    from types import TracebackType

SCHEMA_VERSION: Final = 2
LATEST: Final = "latest"
BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another writer before giving up."""

_metadata = sql.MetaData()
_about = sql.Table(
    "about",
    _metadata,
    sql.Column("key", sql.String(64), primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)
_run = sql.Table(
    "run",
    _metadata,
    sql.Column("id", sql.String(128), primary_key=True),
    sql.Column("scenario", sql.String(64), nullable=False, index=True),
    sql.Column("source", sql.Text, nullable=False),
    sql.Column("started", sql.String(40), nullable=False, index=True),
    sql.Column("finished", sql.String(40)),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("command", sql.Text, nullable=False),
    sql.Column("environment", sql.JSON, nullable=False),
    sql.Column("definition", sql.Text, nullable=False),
    # Who carries it out: host, boot and process, to tell a run that goes on from one whose process died.
    sql.Column("owner", sql.JSON, nullable=False),
)
_sample = sql.Table(
    "sample",
    _metadata,
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
    sql.Column("parameters", sql.JSON, nullable=False),
    sql.Column("error", sql.Double, nullable=False),
)
_conditions = sql.Table(
    "conditions",
    _metadata,
    sql.Column("run", sql.String(128), sql.ForeignKey("run.id"), primary_key=True),
    sql.Column("order", sql.Integer, primary_key=True),
    sql.Column("values", sql.JSON, nullable=False),
)
_SAMPLE_FIELDS: Final = tuple(column.name for column in _sample.columns if column.name not in {"id", "run"})
_RUN_FIELDS: Final = tuple(
    column.name for column in _run.columns if column.name not in {"environment", "owner"}
)


def new_run_id(scenario: str, started: datetime) -> str:
    """`startup-20251123T223412Z-1a2b`: sorts by time within a scenario, and safe as a folder's name."""
    return f"{scenario}-{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """Runs and samples; a context manager that closes its connection. Use `Store.open`."""

    def __init__(self, engine: sql.Engine, place: str) -> None:
        self._engine = engine
        self.place = place
        """The file or the URL (without a password), for messages."""

    @classmethod
    def open(cls, place: Path | str, *, create: bool = True) -> Self:
        """Open the record, making it if it is not there.

        Args:
            place: a file, or a database URL that SQLAlchemy understands.
            create: False where there is nothing to read from a record that does not exist.

        Raises:
            InputError: the folder is missing, the file is not a database of ours or is damaged, it was
                written by a newer version, or it cannot be written.
            HostError: another process keeps it locked, or the disk is full.
        """
        if isinstance(place, str) and "://" in place:
            engine, name = _engine_of_url(place)
        else:
            path = Path(place)
            _check_file(path, create=create)
            engine, name = _engine_of_file(path), str(path)
        store = cls(engine, name)
        try:
            with store._translated("open"):
                store._initialise()
        except BaseException:
            engine.dispose()
            raise
        return store

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        self._engine.dispose()

    def begin_run(self, run: Run) -> None:
        """Record that a run has begun, owned by this process."""
        row = {name: getattr(run, name) for name in _RUN_FIELDS}
        self._write(
            "record a run in",
            lambda connection: connection.execute(
                _run.insert(), {**row, "environment": dict(run.environment.fields), "owner": _this_process()}
            ),
        )

    def add_samples(
        self, run_id: str, samples: Sequence[Sample], conditions: Conditions | None = None
    ) -> None:
        """Commit the samples of a step and its conditions; they are on the disk when this returns."""
        if not samples:
            return
        rows = [
            {"run": run_id, **{name: getattr(sample, name) for name in _SAMPLE_FIELDS}} for sample in samples
        ]
        for row in rows:
            row["qualifiers"], row["parameters"] = dict(row["qualifiers"]), dict(row["parameters"])

        def write(connection: sql.Connection) -> None:
            connection.execute(_sample.insert(), rows)
            if conditions is not None:
                row = {"run": run_id, "order": conditions.order, "values": dict(conditions.values)}
                connection.execute(_conditions.insert(), row)

        self._write("add samples to", write)

    def finish_run(self, run_id: str, status: RunStatus, finished: str) -> None:
        """Record how and when a run ended."""
        statement = _run.update().where(_run.c.id == run_id).values(status=status, finished=finished)
        self._write("finish a run in", lambda connection: connection.execute(statement))

    def run(self, run_id: str = LATEST) -> Run:
        """One run, or with `latest` the one that was started last.

        Raises:
            InputError: there is no such run; the nearest names are offered.
        """
        statement = sql.select(_run).order_by(_run.c.started.desc(), _run.c.id.desc()).limit(1)
        if run_id != LATEST:
            statement = sql.select(_run).where(_run.c.id == run_id)
        rows = self._read(statement)
        if rows:
            return _as_run(rows[0])
        if run_id == LATEST:
            raise InputError(f"{self.place}: there are no runs yet", "`pybench run startup` makes one")
        known = [str(row["id"]) for row in self._read(sql.select(_run.c.id).order_by(_run.c.started.desc()))]
        near = difflib.get_close_matches(run_id, known, n=3, cutoff=0.3) or known[:3]
        raise InputError(
            f"{self.place}: there is no run {run_id!r}", f"did you mean {', '.join(near)}?" if near else ""
        )

    def runs(self) -> list[Run]:
        """Every run, the oldest first."""
        return [_as_run(row) for row in self._read(sql.select(_run).order_by(_run.c.started, _run.c.id))]

    def samples(self, run_id: str) -> list[Sample]:
        """The samples of a run in the order in which they were stored.

        Raises:
            InputError: there is no such run.
        """
        run_id = self.run(run_id).id
        columns = [_sample.c[name] for name in _SAMPLE_FIELDS]
        statement = sql.select(*columns).where(_sample.c.run == run_id).order_by(_sample.c.id)
        return [Sample(**row) for row in self._read(statement)]

    def conditions(self, run_id: str) -> list[Conditions]:
        """The conditions of a run's steps, in the order of the plan.

        Raises:
            InputError: there is no such run.
        """
        run_id = self.run(run_id).id
        columns = _conditions.c["order", "values"]
        statement = sql.select(*columns).where(_conditions.c.run == run_id).order_by(_conditions.c.order)
        return [Conditions(**row) for row in self._read(statement)]

    def _initialise(self) -> None:
        tables = set(sql.inspect(self._engine).get_table_names())
        if _about.name not in tables:
            if tables:
                raise InputError(
                    f"{self.place}: this database belongs to something else",
                    "choose another results folder with --results",
                )
            # Another process may be making it at the same moment; the insert decides.
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                if not connection.execute(sql.select(_about.c.key)).first():
                    connection.execute(_about.insert(), {"key": "schema", "value": str(SCHEMA_VERSION)})
        rows = self._read(sql.select(_about.c.value).where(_about.c.key == "schema"))
        version = str(rows[0]["value"]) if rows else "missing"
        if not version.isdecimal() or int(version) < 1:
            raise InputError(f"{self.place}: its schema version is {version}", "restore it from a copy")
        if int(version) < SCHEMA_VERSION:
            raise InputError(
                f"{self.place}: written by an older pybench (schema {version}; known is {SCHEMA_VERSION})",
                "move it away, or choose another results folder with --results",
            )
        if int(version) > SCHEMA_VERSION:
            raise InputError(
                f"{self.place}: written by a newer pybench (schema {version}; known is {SCHEMA_VERSION})",
                "upgrade pybench, or choose another results folder with --results",
            )

    def _write(self, action: str, work: Callable[[sql.Connection], object]) -> None:
        with self._translated(action), self._engine.begin() as connection:
            work(connection)

    def _read(self, statement: sql.Select[Any]) -> list[dict[str, Any]]:
        with self._translated("read"), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        """The database's errors as ours."""
        try:
            yield
        except DBAPIError as error:
            raise _translate(error, f"{self.place}: cannot {action} the record") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.place}: the database is damaged", "restore it from a copy") from error


def _engine_of_file(path: Path) -> sql.Engine:
    engine = sql.create_engine(
        sql.URL.create("sqlite", database=str(path)),
        # One connection for the life of the store: opening a file costs more than a commit.
        poolclass=StaticPool,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
        cursor = connection.cursor()
        # WAL lets reports read while a run writes; FULL makes every commit durable (sqlite.org/pragma.html).
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine


def _engine_of_url(url: str) -> tuple[sql.Engine, str]:
    try:
        parsed = sql.make_url(url)
        return sql.create_engine(parsed), parsed.render_as_string(hide_password=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError("the store's URL is not one that SQLAlchemy knows", "e.g. sqlite:///file") from error
    except ModuleNotFoundError as error:
        raise HostError(f"the driver {error.name} is not installed", f"pip install {error.name}") from error


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


def _translate(error: DBAPIError, what: str) -> InputError | HostError:
    text = str(error.orig)
    lowered = text.lower()
    if "locked" in lowered or "busy" in lowered:
        return HostError(f"{what}: another process keeps it locked", "end the other run, then try again")
    if "full" in lowered:
        return HostError(f"{what}: the disk is full", "free some space; what was committed is kept")
    if "readonly" in lowered or "unable to open" in lowered or "permission" in lowered:
        return InputError(f"{what}: it cannot be written", "choose another results folder with --results")
    if "not a database" in lowered or "malformed" in lowered or "no such" in lowered or "corrupt" in lowered:
        return InputError(
            f"{what}: the database is damaged ({text})",
            "restore it from a copy, or move it away and `sqlite3 FILE .recover` what can be saved",
        )
    return HostError(f"{what}: {text}")


def _as_run(row: dict[str, Any]) -> Run:
    run = Run(**{name: row[name] for name in _RUN_FIELDS}, environment=Environment(row["environment"]))
    if run.status == "running" and _is_dead(row["owner"]):
        return replace(run, status="abandoned")
    return run


def _this_process() -> dict[str, str | int | float]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
    }


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to be gone; an owner on another host cannot be asked and counts as alive."""
    if owner["host"] != socket.gethostname():
        return False
    if owner["boot"] != _boot_id():
        return True
    try:
        # A pid may have been given to another process since; the time of its creation tells.
        return abs(psutil.Process(owner["pid"]).create_time() - float(owner["created"])) > 1.0
    except psutil.NoSuchProcess:
        return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
