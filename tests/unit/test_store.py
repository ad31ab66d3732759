"""The record keeps what it was given, survives a kill, and explains what is wrong with a file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness import store as store_module
from pybench.harness.errors import HostError, InputError
from pybench.harness.model import Conditions, Environment, Run, Sample
from pybench.harness.store import Store, new_run_id, timestamp

NOBODY = 65534

RUN = Run(
    id="startup-1",
    scenario="startup",
    source="scenarios/startup.yaml",
    started="2025-11-23T22:00:00.000Z",
    finished=None,
    status="running",
    command="pybench run startup",
    environment=Environment({"host.kernel": "6.1", "host.cpu.model": "Größe ½"}),
    definition="name: startup\n",
)
SAMPLE = Sample(
    workload="ready",
    target="vm",
    metric="startup.phase.kernel",
    unit="s",
    value=1.7320508075688772,
    repetition=3,
    warmup=False,
    order=17,
    channel="isa-serial",
    resolution=1e-4,
    qualifiers={"accel": "tcg", "image": "3f1c"},
    parameters={"memory": "128MiB", "instances": 4},
    error=2.5e-4,
)
FAILED = replace(SAMPLE, value=None, status="failed", reason="not ready after 60 s\nlast line\x00�")

WRITER = """
import sys
from dataclasses import replace
from pybench.harness.model import Environment, Run, Sample
from pybench.harness.store import Store

sample = Sample("w", "t", "m", "s", 1.0, 0, False, 0, "pipe", 1e-9, {})
with Store.open(sys.argv[1]) as store:
    started = "2025-01-01T00:00:00.000Z"
    store.begin_run(Run("killed", "s", "s.yaml", started, None, "running", "c", Environment({})))
    number = 0
    while True:
        store.add_samples("killed", [replace(sample, order=number, repetition=n) for n in range(3)])
        print(number, flush=True)
        number += 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record that does not exist yet."""
    return tmp_path / "pybench.sqlite"


def test_samples_and_runs_come_back_as_they_were(path: Path) -> None:
    """Everything round-trips through the file, failed samples included, in the order of storing."""
    with Store.open(path) as store:
        store.begin_run(RUN)
        store.add_samples(RUN.id, [SAMPLE, FAILED])
        store.add_samples(RUN.id, [])
        store.add_samples(RUN.id, [replace(SAMPLE, warmup=True)])
        store.finish_run(RUN.id, "done", "2025-11-23T22:01:00.000Z")
    with Store.open(path, create=False) as store:
        assert store.samples(RUN.id) == [SAMPLE, FAILED, replace(SAMPLE, warmup=True)]
        assert store.run(RUN.id) == replace(RUN, status="done", finished="2025-11-23T22:01:00.000Z")


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.dictionaries(st.text(), st.text()))
def test_any_value_and_text_round_trips(value: float, reason: str, qualifiers: dict[str, str]) -> None:
    """No value, reason or qualifier is altered on its way through the database."""
    sample = replace(SAMPLE, value=value, reason=reason, qualifiers=qualifiers)
    with Store.open("sqlite://") as store:
        store.begin_run(RUN)
        store.add_samples(RUN.id, [sample])
        assert store.samples(RUN.id) == [sample]


def test_latest_is_the_run_that_was_started_last(path: Path) -> None:
    """`latest` names it, and `runs` lists the oldest first."""
    with Store.open(path) as store:
        for name, second in (("b", 2), ("c", 3), ("a", 1)):
            store.begin_run(replace(RUN, id=name, started=f"2025-11-23T22:00:0{second}.000Z"))
        assert [run.id for run in store.runs()] == ["a", "b", "c"]
        assert store.run().id == "c"
        assert store.samples("latest") == []


def test_an_unknown_run_offers_the_nearest(path: Path) -> None:
    """The hint names runs that exist."""
    with Store.open(path) as store:
        with pytest.raises(InputError, match="no runs yet"):
            store.run()
        store.begin_run(RUN)
        with pytest.raises(InputError, match="no run 'startup-2'") as caught:
            store.samples("startup-2")
    assert "startup-1" in caught.value.hint


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """After SIGKILL in the middle of writing, every announced step is complete, and the run says so."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 50:
                break
        os.kill(writer.pid, signal.SIGKILL)
        announced = 50 + sum(1 for _ in writer.stdout)
    with Store.open(path) as store:
        orders = [sample.order for sample in store.samples("killed")]
        assert store.run("killed").status == "abandoned"
    steps = max(orders) + 1
    assert steps > announced
    assert orders == [step for step in range(steps) for _ in range(3)]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


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


def test_two_processes_may_write_at_once(path: Path) -> None:
    """Two writers on one file lose nothing."""
    with Store.open(path) as one, Store.open(path) as other:
        one.begin_run(RUN)
        other.begin_run(replace(RUN, id="other"))
        for number in range(20):
            one.add_samples(RUN.id, [replace(SAMPLE, order=number)])
            other.add_samples("other", [replace(SAMPLE, order=number)])
        assert len(one.samples("other")) == len(other.samples(RUN.id)) == 20


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
    ("version", "problem"), [("1", "older pybench"), ("3", "newer pybench"), ("x", "schema version is x")]
)
def test_an_unknown_schema_is_refused(path: Path, version: str, problem: str) -> None:
    """A record of another version is not touched."""
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = ? WHERE key = 'schema'", (version,))
    connection.close()
    with pytest.raises(InputError, match=problem):
        Store.open(path)


def test_a_locked_record_is_the_hosts_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process keeps it locked for too long, the error says so, and nothing stored is lost."""
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0.05)
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


def test_conditions_are_stored_with_the_samples_of_their_step(path: Path) -> None:
    """They come back in the plan's order, and a step without them has none."""
    with Store.open(path) as store:
        store.begin_run(RUN)
        late = Conditions(18, {"steal": 0.25, "waited": 0.0})
        early = Conditions(17, {"steal": 0.0})
        store.add_samples(RUN.id, [replace(SAMPLE, order=18)], late)
        store.add_samples(RUN.id, [SAMPLE], early)
        store.add_samples(RUN.id, [replace(SAMPLE, order=19)])
        assert store.conditions(RUN.id) == [early, late]
        with pytest.raises(InputError, match="there is no run"):
            store.conditions("other")
