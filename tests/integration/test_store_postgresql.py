"""The record on a real PostgreSQL server, and what happens when the server goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until
from postgresql_server import PostgresqlServer, postgresql_server, programs
from store_behaviour import FAILED, RUN, SAMPLE, StoreBehaviour

from pybench.harness.cli.main import run as command_line
from pybench.harness.errors import HostError, InputError, PybenchError
from pybench.harness.export.archive import read_archive
from pybench.harness.runner.execution import open_recorder
from pybench.harness.store import SpooledStore, Store, UnreachableError, connections, deliver_all


@pytest.fixture(autouse=True)
def host_unchanged() -> None:
    """The server's sessions come and go between tests; stopping it verifies that none of them is left."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server that runs for all tests of this module."""
    if programs() is None and "CI" not in os.environ:
        pytest.skip("PostgreSQL is not installed; `.ci/setup test` installs it")
    with postgresql_server() as running:
        yield running


def unexpected(loss: PybenchError) -> None:
    """Nothing is to be lost."""
    raise AssertionError(loss.message)


@pytest.fixture
def database(server: PostgresqlServer) -> str:
    """The URL of an empty database."""
    return server.new_database()


class TestPostgresql(StoreBehaviour):
    """What every store does, on PostgreSQL."""

    @pytest.fixture
    def place(self, database: str) -> str:
        """The URL of an empty database."""
        return database


def test_a_database_of_something_else_is_left_alone(server: PostgresqlServer, database: str) -> None:
    """A database with foreign tables gets none of ours."""
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    with pytest.raises(InputError, match="belongs to something else"):
        Store.open(database)


def test_a_newer_schema_is_refused(server: PostgresqlServer, database: str) -> None:
    """A record of a newer version is not touched."""
    Store.open(database).close()
    with server.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(InputError, match="newer pybench"):
        Store.open(database)


def test_a_locked_record_is_the_hosts_problem(
    server: PostgresqlServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is held for too long is told, and the store goes on after it."""
    # It is the time for connecting, too.
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 3.0)
    with Store.open(database) as store, server.connect(database) as blocker:
        store.begin_run(RUN)
        with blocker.transaction():
            blocker.execute("LOCK TABLE sample")
            with pytest.raises(HostError, match="locked"):
                store.add_samples(RUN.id, [SAMPLE])
        store.add_samples(RUN.id, [SAMPLE])
        assert store.samples(RUN.id) == [SAMPLE]


def test_a_user_without_rights_is_told(server: PostgresqlServer, database: str) -> None:
    """Someone who may not write gets one line that says so, and an unknown role or database another."""
    with Store.open(database) as store:
        store.begin_run(RUN)
    with server.connect(database) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = database.replace("://pybench@", "://reader@")
    with Store.open(reader, create=False) as store:
        assert store.run().id == RUN.id
        with pytest.raises(InputError, match="cannot be written"):
            store.add_samples(RUN.id, [SAMPLE])
    with pytest.raises(InputError, match="refuses this user"):
        Store.open(database.replace("://pybench@", "://nobody@"))
    with pytest.raises(InputError, match="no such database"):
        Store.open(server.url("absent"))


def test_reading_makes_no_tables(server: PostgresqlServer, database: str) -> None:
    """Looking for results where there are none says so and leaves nothing behind."""
    with pytest.raises(InputError, match="no results here yet"):
        Store.open(database, create=False)
    with server.connect(database) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


def test_a_password_is_never_shown() -> None:
    """The error of an unreachable server names the URL without it."""
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        Store.open("postgresql+psycopg://user:secret@127.0.0.1:1/pybench")
    assert "secret" not in str(caught.value)


def test_a_server_that_goes_away_loses_nothing(
    server: PostgresqlServer, database: str, tmp_path: Path
) -> None:
    """Samples are spooled while it is gone, the run ends well, and `sync` delivers the rest exactly once."""
    samples = [replace(SAMPLE, order=number) for number in range(4)] + [FAILED]
    losses: list[PybenchError] = []
    spool = tmp_path / "spool.sqlite"
    try:
        with SpooledStore(Store.open(database), Store.open(spool), losses.append) as store:
            store.begin_run(RUN)
            store.add_samples(RUN.id, samples[:2])
            server.stop()
            store.add_samples(RUN.id, samples[2:3])
            store.add_samples(RUN.id, samples[3:])
            store.finish_run(RUN.id, "done", "2025-11-23T22:01:00.000Z")
            assert store.samples(RUN.id) == samples
        assert [type(loss) for loss in losses] == [UnreachableError]
        with Store.open(spool) as left, pytest.raises(UnreachableError):
            deliver_all(left, Store.open(database), lambda _: None)
    finally:
        server.start()
    with Store.open(spool) as left, Store.open(database) as target:
        assert target.samples(RUN.id) == samples[:2]
        delivered: list[int] = []
        assert deliver_all(left, target, lambda delivery: delivered.append(delivery.samples)) == 0
        assert deliver_all(left, target, lambda delivery: delivered.append(delivery.samples)) == 0
        assert delivered == [3]
        assert target.samples(RUN.id) == samples
        assert target.run(RUN.id).status == "done"
        assert left.runs() == []


@contextmanager
def frozen(server: PostgresqlServer) -> Iterator[None]:
    """Nobody answers meanwhile, and a second of that is enough; before it the usual patience holds."""
    with server.frozen(), pytest.MonkeyPatch.context() as patch:
        for name in ("BUSY_TIMEOUT", "SILENCE", "LONG_SILENCE"):
            patch.setattr(connections, name, 1.0)
        yield


def test_a_server_that_freezes_loses_nothing(server: PostgresqlServer, database: str, tmp_path: Path) -> None:
    """One that takes what it is sent and never answers is given up, and `sync` delivers once it goes on."""
    # By COPY, and more than a socket takes unread.
    step = [replace(SAMPLE, order=number, reason="r" * 200) for number in range(5000)]
    losses: list[PybenchError] = []
    spool = tmp_path / "spool.sqlite"
    with SpooledStore(Store.open(database), Store.open(spool), losses.append) as store:
        store.begin_run(RUN)
        store.add_samples(RUN.id, [SAMPLE])
        with frozen(server):
            store.add_samples(RUN.id, step)
            store.add_samples(RUN.id, [FAILED])
            store.finish_run(RUN.id, "done", "2025-11-23T22:01:00.000Z")
    (loss,) = losses
    assert isinstance(loss, UnreachableError)
    assert "no answer for 1 s" in loss.message
    with Store.open(spool) as left, Store.open(database) as target:
        assert target.samples(RUN.id) == [SAMPLE]
        assert deliver_all(left, target, lambda _: None) == 0
        assert target.samples(RUN.id) == [SAMPLE, *step, FAILED]
        assert target.run(RUN.id).status == "done"
        assert left.runs() == []


def test_whoever_reads_from_a_frozen_server_is_told(
    server: PostgresqlServer, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verb ends as where there is no server; so does what had been connected before."""
    with Store.open(database) as store, frozen(server):
        with pytest.raises(UnreachableError, match="no answer for 1 s"):
            store.runs()
        assert command_line(["history", "--store", database]) == HostError.exit_code
    assert "the server cannot be reached" in capsys.readouterr().err
    with Store.open(database) as store:
        assert store.runs() == []


def test_a_commit_whose_answer_was_lost_is_not_stored_twice(database: str, tmp_path: Path) -> None:
    """What the server had committed before it went is recognised when the spool is delivered."""
    samples = [replace(SAMPLE, order=number) for number in range(3)]
    with Store.open(tmp_path / "spool.sqlite") as spool, Store.open(database) as target:
        spool.put_run(replace(RUN, status="done"), samples)
        target.put_run(RUN, samples)
        added: list[int] = []
        deliver_all(spool, target, lambda delivery: added.append(delivery.samples))
        assert added == [0]
        assert target.samples(RUN.id) == samples


def test_a_run_that_reached_the_server_leaves_the_spool(database: str, tmp_path: Path) -> None:
    """While the server is there the spool is empty after each run."""
    with SpooledStore(Store.open(database), Store.open(tmp_path / "spool.sqlite"), unexpected) as store:
        store.begin_run(RUN)
        store.add_samples(RUN.id, [SAMPLE])
        store.finish_run(RUN.id, "done", "2025-11-23T22:01:00.000Z")
    with Store.open(tmp_path / "spool.sqlite") as spool, Store.open(database) as target:
        assert spool.runs() == []
        assert target.samples(RUN.id) == [SAMPLE]


def test_what_waits_is_told_when_the_next_run_begins(database: str, tmp_path: Path) -> None:
    """Nobody has to remember what a server has not got."""
    told: list[str] = []
    with open_recorder(database, tmp_path, told.append):
        assert told == []
    with Store.open(tmp_path / "spool.sqlite") as spool:
        spool.put_run(replace(RUN, status="done"), [SAMPLE])
    with open_recorder(database, tmp_path, told.append):
        pass
    (line,) = told
    assert "1 run; `pybench history sync`" in line


SCENARIO = """\
name: pretended
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  slow: {kind: mock, repetitions: 100, delay: 20ms}
measure: [startup]
schedule: {warmups: 0}
"""


def test_a_run_survives_its_server(server: PostgresqlServer, database: str, tmp_path: Path) -> None:
    """`pybench run --store URL` ends well though the server stops, and `pybench history sync` delivers."""
    program = str(Path(sys.executable).with_name("pybench"))
    (tmp_path / "mine.yaml").write_text(SCENARIO)
    command = [program, "run", "mine.yaml", "--store", database, "--no-report", "--json", "out.json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stderr is not None
            while "preparing" not in (line := run.stderr.readline()):
                assert line, "it has ended"
            wait_for_samples(database)
            # However long the server takes to end, the run is not over before.
            run.send_signal(signal.SIGSTOP)
            server.stop()
            run.send_signal(signal.SIGCONT)
            assert "pybench history sync" in run.stderr.read()
            assert run.wait(PATIENCE) == 0
        finally:
            run.kill()
            server.start()
    with Store.open(database) as store:
        assert 0 < len(store.samples("latest")) < len(read_archive(tmp_path / "out.json")[0].samples)
    sync = [program, "history", "sync", "--store", database]
    done = subprocess.run(sync, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "samples delivered" in done.stdout
    with Store.open(database) as store:
        (archived,) = read_archive(tmp_path / "out.json")
        assert store.samples("latest") == list(archived.samples)
        assert store.run().status == "done"


def wait_for_samples(database: str) -> None:
    """Return once a run has stored something; the server has no way to push that to us."""
    with Store.open(database) as store:
        wait_until(lambda: bool((runs := store.runs()) and store.sample_counts([runs[-1].id])))
