"""The record keeps what it was given, survives a kill, and explains what is wrong with a file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from store_behaviour import FAILED, RUN, SAMPLE, Place, StoreBehaviour, make_older_record

from pybench.harness.errors import HostError, InputError
from pybench.harness.store import Store, connections, new_run_id, timestamp

NOBODY = 65534


class TestSqlite(StoreBehaviour):
    """What every store does, on SQLite."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """A file that does not exist yet."""
        return tmp_path / "pybench.sqlite"

    def test_what_was_committed_survives_a_kill(self, place: Place) -> None:
        """And SQLite's own check finds nothing wrong with the file afterwards."""
        super().test_what_was_committed_survives_a_kill(place)
        with sqlite3.connect(place) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record that does not exist yet."""
    return tmp_path / "pybench.sqlite"


def test_a_run_of_a_living_process_goes_on(path: Path) -> None:
    """Another reader sees it as running."""
    with Store.open(path) as writer, Store.open(path) as reader:
        writer.begin_run(RUN)
        assert reader.run().status == "running"


def test_a_run_of_another_boot_or_process_is_abandoned(path: Path) -> None:
    """A pid that was given to another process since, or a boot that is over, does not keep a run alive."""
    with Store.open(path) as store:
        store.begin_run(RUN)
        store.begin_run(replace(RUN, id="older"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE run SET owner = json_set(owner, '$.boot', 'gone') WHERE id = 'older'")
        connection.execute("UPDATE run SET owner = json_set(owner, '$.created', 1.0) WHERE id = 'startup-1'")
    connection.close()
    with Store.open(path) as store:
        assert {run.id: run.status for run in store.runs()} == {
            "startup-1": "abandoned",
            "older": "abandoned",
        }


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    """It is refused with a hint, and not a byte of it is changed."""
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        Store.open(path)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_a_damaged_page_is_told(path: Path) -> None:
    """A database that is damaged further in is reported when that part is read, without a traceback."""
    with Store.open(path) as store:
        store.begin_run(RUN)
        store.add_samples(RUN.id, [replace(SAMPLE, order=n) for n in range(2000)])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xaa" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with Store.open(path) as store, pytest.raises(InputError, match="damaged"):
        store.samples(RUN.id)


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    """A foreign SQLite file gets no tables of ours."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    with pytest.raises(InputError, match="belongs to something else"):
        Store.open(path)


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("0099", "newer pybench"),
        ("x", "schema version is x"),
        ("0000", "schema version is 0000"),
        ("f3a1", "schema version is f3a1"),
    ],
)
def test_an_unknown_schema_is_refused(path: Path, version: str, problem: str) -> None:
    """A record of a newer version, or of a version that never was, is not touched."""
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=problem):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_record_from_before_alembic_is_migrated(path: Path) -> None:
    """The first versions kept the number of their schema in a table of their own."""
    samples = [replace(each, parameters={}, error=each.resolution) for each in (SAMPLE, FAILED)]
    make_older_record(path, "0001", samples)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE alembic_version")
        connection.execute("INSERT INTO about VALUES ('schema', '1')")
    connection.close()
    with Store.open(path, create=False) as store:
        assert store.samples(RUN.id) == samples


def test_a_locked_record_is_the_hosts_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process keeps it locked for too long, the error says so, and nothing stored is lost."""
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.05)
    with Store.open(path) as store:
        store.begin_run(RUN)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(HostError, match="locked"):
            store.add_samples(RUN.id, [SAMPLE])
        blocker.execute("ROLLBACK")
        blocker.close()
        store.add_samples(RUN.id, [SAMPLE])
        assert store.samples(RUN.id) == [SAMPLE]


def test_a_file_that_may_not_grow_is_told(path: Path) -> None:
    """A limit of file sizes, like a quota, is one line with a hint; every commit before it can be read."""
    program = """
        import resource, signal, sys
        from dataclasses import replace
        from store_behaviour import RUN, SAMPLE
        from pybench.harness.errors import HostError
        from pybench.harness.store import Store

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Store.open(sys.argv[1]) as store:
            store.begin_run(RUN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
            committed = 0
            try:
                while True:
                    store.add_samples(RUN.id, [replace(SAMPLE, order=committed)] * 100)
                    committed += 1
            except HostError as error:
                assert "kept" in error.hint, error
        print(committed)
    """
    words = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": tests}
    )
    with Store.open(path) as store:
        orders = [sample.order for sample in store.samples(RUN.id)]
    assert orders == [order for order in range(int(done.stdout)) for _ in range(100)]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """The error names the folder."""
    with pytest.raises(InputError, match="nowhere does not exist"):
        Store.open(tmp_path / "nowhere" / "pybench.sqlite")


def test_a_directory_is_no_record(tmp_path: Path) -> None:
    """A directory in its place is refused."""
    with pytest.raises(InputError, match="this is a directory"):
        Store.open(tmp_path)


def test_reading_makes_no_file(path: Path) -> None:
    """Looking for results where there are none says so and leaves nothing behind."""
    with pytest.raises(InputError, match="no results here yet"):
        Store.open(path, create=False)
    assert not path.exists()


@pytest.mark.parametrize("url", ["nonsense://x", "://", "sqlite+nothing://x"])
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    """An unknown kind of database is bad input."""
    with pytest.raises(InputError, match="URL"):
        Store.open(url)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up root's right to write everywhere; nothing to give up for anyone else."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A record with one run in a folder that an ordinary user can read but not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(folder / "pybench.sqlite") as store:
            store.begin_run(RUN)
        (folder / "pybench.sqlite").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_record_that_cannot_be_written_is_told(read_only: Path) -> None:
    """An ordinary user who may not write the file gets one line, not a traceback."""
    with ordinary_user(), pytest.raises(InputError, match="cannot be written"):
        Store.open(read_only / "pybench.sqlite").begin_run(RUN)


def test_a_record_that_cannot_be_written_can_be_read(read_only: Path) -> None:
    """A record in a folder of someone else's is good for reading, and nothing is left beside it."""
    with ordinary_user(), Store.open(read_only / "pybench.sqlite", create=False) as store:
        assert store.run().id == RUN.id
        with pytest.raises(InputError, match="cannot be written"):
            store.tags.set("main", RUN.id)
    assert [path.name for path in read_only.iterdir()] == ["pybench.sqlite"]


def test_a_record_cannot_be_made_in_a_read_only_folder(read_only: Path) -> None:
    """The error names the folder and the option that chooses another."""
    with ordinary_user(), pytest.raises(InputError, match="cannot be written") as caught:
        Store.open(read_only / "other.sqlite")
    assert "--results" in caught.value.hint


def test_run_ids_sort_by_time_and_are_safe_names() -> None:
    """The id of a later run of a scenario sorts after that of an earlier one."""
    earlier = new_run_id("startup", datetime(2025, 11, 23, 22, 34, 12, tzinfo=UTC))
    later = new_run_id("startup", datetime(2025, 11, 23, 22, 34, 13, tzinfo=UTC))
    assert earlier.startswith("startup-20251123T223412Z-")
    assert earlier < later
    assert timestamp(datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)) == "2025-01-02T03:04:05.678Z"
