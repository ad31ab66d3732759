"""The record: runs and their raw samples, with tags and notes on them.

Raw samples are kept for ever and never changed; whatever is derived from them is computed when it is read.
A commit is on the disk when the call returns, so a run that is killed has lost at most the step it was in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from pybench.harness.errors import InputError
from pybench.harness.model import Conditions, Environment, Run, RunStatus, Sample
from pybench.harness.store import tables
from pybench.harness.store.connections import SHORT, WRITES, connect, snapshots
from pybench.harness.store.errors import DamagedValueError, damaged, translate
from pybench.harness.store.filters import BRANCH, RunFilter, filtered
from pybench.harness.store.insertion import Stored, insert_conditions, insert_samples
from pybench.harness.store.owner import is_dead, this_process
from pybench.harness.store.reading import CellName, read_samples, read_values
from pybench.harness.store.schema import prepare
from pybench.harness.store.tags import TagsAndNotes
from pybench.harness.store.validation import check_conditions, check_run, check_texts

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

LATEST: Final = "latest"
_EVERY_RUN: Final = RunFilter()
_PARAMETERS_AT_ONCE: Final = 500
"""Ids in one statement: SQLite's oldest limit is 999 parameters (sqlite.org/limits.html)."""
_Result = TypeVar("_Result")


class Recorder(Protocol):
    """What a runner needs of a store."""

    def begin_run(self, run: Run) -> None:
        """Record that a run has begun."""
        ...

    def add_samples(
        self, run_id: str, samples: Sequence[Sample], conditions: Conditions | None = None
    ) -> None:
        """Commit the samples of a step and its conditions durably."""
        ...

    def finish_run(self, run_id: str, status: RunStatus, finished: str) -> None:
        """Record how and when a run ended."""
        ...


class Store:
    """Runs and samples; a context manager that closes its connection. Use `Store.open`."""

    def __init__(self, engine: sql.Engine, place: str) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{WRITES: True})
        self._recording = engine.execution_options(**{WRITES: True, SHORT: True})
        self._reading = snapshots(engine)
        self._stored: dict[str, Stored] = {}
        self.place = place
        """The file or the URL (without a password), for messages."""
        self.tags = TagsAndNotes(self._read_texts, self._write)
        """Tags, baselines and notes."""

    @classmethod
    def open(cls, place: Path | str, *, create: bool = True) -> Self:
        """Open the record, making it if it is not there, and migrating it if it is of an older version.

        Args:
            place: a file, or a database URL that SQLAlchemy understands.
            create: False where there is nothing to read from a record that does not exist; a file that
                this user may not write can then still be read.

        Raises:
            InputError: the folder is missing, the file is not a database of ours or is damaged, it was
                written by a newer version, or it cannot be written.
            HostError: another process keeps it locked, the disk is full, the server cannot be reached,
                or the database's driver is not installed.
        """
        engine, name = connect(place, create=create)
        store = cls(engine, name)
        try:
            with store._translated("open"):
                prepare(engine, name, create=create)
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

    @property
    def earlier(self) -> Store:
        """Where the runs before this session are: here."""
        return self

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        self._engine.dispose()

    def begin_run(self, run: Run) -> None:
        """Record that a run has begun, owned by this process."""
        self._record("record a run in", lambda connection: connection.execute(_insert_run(run)))
        self._stored[run.id] = Stored()

    def add_samples(
        self, run_id: str, samples: Sequence[Sample], conditions: Conditions | None = None
    ) -> None:
        """Commit the samples of a step and its conditions; they are on the disk when this returns.

        A value that is not a finite number is no measurement: it is stored as a failed sample that says so.

        Raises:
            InputError: the run is not there.
        """
        if not samples:
            return

        def insert(connection: sql.Connection) -> tuple[Stored, Stored]:
            stored = self._stored.get(run_id) or Stored.read(connection, run_id)
            added = insert_samples(connection, run_id, samples, stored)
            insert_conditions(connection, run_id, [conditions] if conditions else [])
            return stored, added

        stored, added = self._record("add samples to", insert)
        # Not before the commit: what was rolled back is not stored.
        stored.add(added)
        self._stored[run_id] = stored

    def finish_run(self, run_id: str, status: RunStatus, finished: str) -> None:
        """Record how and when a run ended."""
        table = tables.run
        statement = table.update().where(table.c.id == run_id).values(status=status, finished=finished)
        self._record("finish a run in", lambda connection: connection.execute(statement))

    def put_run(self, run: Run, samples: Sequence[Sample], conditions: Sequence[Conditions] = ()) -> int:
        """Store what another store holds, or the part of it that is not here yet, in one transaction.

        Returns:
            How many samples were added.

        Raises:
            InputError: a different run of this id is here.
        """

        def put(connection: sql.Connection) -> int:
            table = tables.run
            row = connection.execute(sql.select(table).where(table.c.id == run.id)).mappings().first()
            if row is None:
                connection.execute(_insert_run(run))
            else:
                _check_same(_as_run(dict(row)), run, self.place)
                connection.execute(
                    table.update()
                    .where(table.c.id == run.id)
                    .values(status=run.status, finished=run.finished)
                )
            stored = Stored.read(connection, run.id)
            added = insert_samples(connection, run.id, samples[stored.samples :], stored)
            known = sql.select(tables.conditions.c.order).where(tables.conditions.c.run == run.id)
            orders = set(connection.execute(known).scalars())
            insert_conditions(connection, run.id, [each for each in conditions if each.order not in orders])
            return added.samples

        # What it has by now is read where it is next needed.
        self._stored.pop(run.id, None)
        return self._write("store a run in", put)

    def remove_runs(self, run_ids: Iterable[str]) -> int:
        """Remove runs with their samples, tags and notes; returns how many there were."""
        removed = 0
        for ids in _batches(run_ids):

            def remove(connection: sql.Connection, ids: Sequence[str] = ids) -> int:
                for table in (tables.sample, tables.series, tables.conditions, tables.tag, tables.note):
                    connection.execute(table.delete().where(table.c.run.in_(ids)))
                return connection.execute(tables.run.delete().where(tables.run.c.id.in_(ids))).rowcount

            for run_id in ids:
                self._stored.pop(run_id, None)
            removed += self._write("remove runs from", remove)
        return removed

    def compact(self) -> None:
        """Give the space of what was removed back to the file system; a server does that by itself.

        Raises:
            HostError: another process is at work on the file.
        """
        if self._engine.dialect.name == "sqlite":
            with self._translated("compact"), self._engine.connect() as connection:
                # Not within a transaction (sqlite.org/lang_vacuum.html), hence past SQLAlchemy.
                connection.connection.cursor().execute("VACUUM")

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the structure of its file; a server checks its own.

        This reads the whole file.
        """
        if self._engine.dialect.name != "sqlite":
            return []
        with self._translated("check"), self._engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        return [] if found == ["ok"] else [str(line) for line in found]

    def ids(self) -> list[str]:
        """Every run's id, sorted; they can be read where a run itself is damaged."""
        column = tables.run.c.id
        return [row["id"] for row in self._read(sql.select(column).order_by(column))]

    def run(self, name: str = LATEST) -> Run:
        """One run: by id, tag, `latest`, the beginning of an id that only one run has, or branch.

        Of a branch it is the run that was started last.

        Raises:
            InputError: there is no such run; the nearest names are offered.
        """
        chosen = self._named(name)
        if chosen is not None:
            return chosen
        if name == LATEST:
            raise InputError(f"{self.place}: there are no runs yet", "`pybench run startup` makes one")
        known = [*self.names(), LATEST]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
        raise InputError(
            f"{self.place}: there is no run, tag or branch {name!r}",
            f"did you mean {', '.join(near)}?" if near else "",
        )

    def names(self) -> list[str]:
        """What runs can be called: tags, branches, ids; the newest first."""
        runs = self.runs()[::-1]
        branches = [run.environment.fields[BRANCH] for run in runs if BRANCH in run.environment.fields]
        return list(dict.fromkeys([*self.tags.current(), *branches, *(run.id for run in runs)]))

    def runs(self, wanted: RunFilter = _EVERY_RUN) -> list[Run]:
        """Every run that is wanted, the oldest first."""
        statement = filtered(wanted).order_by(tables.run.c.started.desc(), tables.run.c.id.desc())
        if wanted.newest is not None:
            statement = statement.limit(wanted.newest)
        return self._runs(statement)[::-1]

    def samples(self, run_id: str) -> list[Sample]:
        """The samples of a run in the order in which they were stored.

        Raises:
            InputError: there is no such run, or what the file has is not what was stored.
        """
        run_id = self.run(run_id).id
        with self._translated("read"), self._reading.connect() as connection:
            return read_samples(connection, run_id)

    def conditions(self, run_id: str) -> list[Conditions]:
        """The conditions of a run's steps, in the order of the plan.

        Raises:
            InputError: there is no such run.
        """
        run_id = self.run(run_id).id
        table = tables.conditions
        statement = sql.select(*table.c["order", "values"]).where(table.c.run == run_id)
        with self._translated("read"):
            found = [Conditions(**row) for row in self._read(statement.order_by(table.c.order))]
            for each in found:
                check_conditions(each)
        return found

    def sample_counts(self, run_ids: Iterable[str]) -> dict[str, int]:
        """How many samples each run has; a run without any is left out."""
        column = tables.sample.c.run
        counts: dict[str, int] = {}
        for ids in _batches(run_ids):
            last = sql.func.max(tables.sample.c.sequence)
            statement = (
                sql.select(column, sql.func.count().label("n"), last.label("last"))
                .where(column.in_(ids))
                .group_by(column)
            )
            with self._translated("read"):
                for row in self._read(statement):
                    if row["last"] != row["n"] - 1:
                        raise DamagedValueError(f"samples of {row['run']} are missing")
                    counts[row["run"]] = row["n"]
        return counts

    def values(self, run_ids: Iterable[str], metric: str) -> dict[str, dict[CellName, list[float]]]:
        """The values that count of one metric, by run and cell, as stored."""
        found: dict[str, dict[CellName, list[float]]] = {}
        for ids in _batches(run_ids):
            with self._translated("read"), self._reading.connect() as connection:
                for run_id, cell, value in read_values(connection, ids, metric):
                    found.setdefault(run_id, {}).setdefault(cell, []).append(value)
        return found

    def condition(self, run_ids: Iterable[str], name: str) -> dict[str, list[float]]:
        """One condition of all steps of each run; a run of which it is not known is left out."""
        table = tables.conditions
        value = table.c["values"][name].as_float()
        found: dict[str, list[float]] = {}
        for ids in _batches(run_ids):
            statement = sql.select(table.c.run, value).where(table.c.run.in_(ids), value.is_not(None))
            with self._translated("read"), self._engine.connect() as connection:
                for run_id, number in connection.execute(statement.order_by(table.c.run, table.c.order)):
                    found.setdefault(run_id, []).append(number)
        return found

    def _named(self, name: str) -> Run | None:
        table = tables.run
        newest = sql.select(table).order_by(table.c.started.desc(), table.c.id.desc())
        if name == LATEST:
            found = self._runs(newest.limit(1))
            return found[0] if found else None
        tagged = sql.select(tables.tag.c.run).where(tables.tag.c.name == name, tables.tag.c.until.is_(None))
        for chosen in (table.c.id == name, table.c.id.in_(tagged)):
            if found := self._runs(newest.where(chosen)):
                return found[0]
        # Two are enough to know that a beginning is not unique.
        beginning = table.c.id.startswith(name, autoescape=True)
        found = self._runs(newest.where(beginning).limit(2)) if name else []
        if len(found) != 1:
            found = self._runs(newest.where(table.c.environment[BRANCH].as_string() == name).limit(1))
        return found[0] if found else None

    def _runs(self, statement: sql.Select[Any]) -> list[Run]:
        with self._translated("read"):
            return [_as_run(row) for row in self._read(statement)]

    def _write(self, action: str, work: Callable[[sql.Connection], _Result]) -> _Result:
        with self._translated(action), self._writing.begin() as connection:
            return work(connection)

    def _record(self, action: str, work: Callable[[sql.Connection], _Result]) -> _Result:
        """Write what a run that goes on has to wait for."""
        with self._translated(action), self._recording.begin() as connection:
            return work(connection)

    def _read(self, statement: sql.Select[Any]) -> list[dict[str, Any]]:
        with self._translated("read"), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def _read_texts(self, statement: sql.Select[Any]) -> list[dict[str, Any]]:
        """Read rows that have nothing but text."""
        with self._translated("read"):
            rows = self._read(statement)
            for row in rows:
                check_texts(row)
        return rows

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        """The database's errors as ours."""
        try:
            yield
        except DBAPIError as error:
            raise translate(error, f"{self.place}: cannot {action} the record") from error
        except (DamagedValueError, UnicodeDecodeError) as error:
            raise damaged(f"{self.place}: cannot {action} the record", str(error)) from error


def _insert_run(run: Run) -> sql.Insert:
    row = {name: getattr(run, name) for name in tables.RUN_FIELDS}
    return tables.run.insert().values(**row, environment=dict(run.environment.fields), owner=this_process())


def _check_same(stored: Run, given: Run, place: str) -> None:
    same = (stored.scenario, stored.started) == (given.scenario, given.started)
    # A document of `run --json` does not hold the scenario's text.
    if not same or (given.definition and stored.definition != given.definition):
        raise InputError(f"{place}: another run is called {given.id!r} here", "remove it first")


def _as_run(row: Mapping[str, Any]) -> Run:
    fields = {name: row[name] for name in tables.RUN_FIELDS}
    run = Run(**fields, environment=Environment(row["environment"]))
    check_run(run, row["owner"])
    if run.status == "running" and (not row["owner"] or is_dead(row["owner"])):
        return replace(run, status="abandoned")
    return run


def _batches(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    wanted = list(ids)
    for begin in range(0, len(wanted), _PARAMETERS_AT_ONCE):
        yield wanted[begin : begin + _PARAMETERS_AT_ONCE]
