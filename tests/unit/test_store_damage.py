"""A damaged record is told by whatever reads it, and what is whole in it can be saved."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from store_behaviour import SAMPLE, make_older_record, run_of

from pybench.harness.cli.main import run as command_line
from pybench.harness.errors import InputError
from pybench.harness.model import Conditions, Run, Sample
from pybench.harness.store import Store, check

Captured = pytest.CaptureFixture[str]
PAGE = 4096
RUNS = [run_of(number, **{"host.name": "alpha"}) for number in (1, 2, 3)]


def samples_of(run: Run) -> list[Sample]:
    """Some pages of samples in three series, which differ from run to run."""
    return [replace(SAMPLE, order=order, reason=f"{run.id} {order % 3}") for order in range(300)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of three runs, with nothing left in its log."""
    path = tmp_path_factory.mktemp("record") / "sound.sqlite"
    with Store.open(path) as store:
        for run in RUNS:
            store.put_run(run, samples_of(run), [Conditions(0, {"load": 0.5})])
            store.tags.set(f"tag-{run.id}", run.id)
            store.tags.write_note(run.id, "seen")
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    copied = tmp_path / "pybench.sqlite"
    copied.write_bytes(sound.read_bytes())
    return copied


def change(path: Path, statement: str) -> None:
    """Write past the store."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sample SET value = 'x' WHERE sequence = 7",
        "UPDATE sample SET value = NULL WHERE sequence = 7",
        "UPDATE sample SET value = 9e999 WHERE sequence = 7",
        "UPDATE sample SET repetition = 0.5 WHERE sequence = 7",
        "UPDATE sample SET series = 3 WHERE sequence = 7",
        "UPDATE sample SET series = -1 WHERE sequence = 7",
        "UPDATE sample SET series = 0.5 WHERE sequence = 7",
        "UPDATE sample SET series = 'x' WHERE sequence = 7",
        "DELETE FROM sample WHERE sequence = 7",
        "UPDATE series SET status = 'perhaps' WHERE number = 1",
        "UPDATE series SET unit = x'00ff' WHERE number = 1",
        "UPDATE series SET unit = CAST(x'c3' AS TEXT) WHERE number = 1",
        "UPDATE series SET qualifiers = '{\"accel\": ' WHERE number = 1",
        "UPDATE series SET parameters = '[]' WHERE number = 1",
        "UPDATE series SET number = 7 WHERE number = 1",
        "UPDATE series SET number = 0.5 WHERE number = 1",
        "UPDATE series SET number = 'x' WHERE number = 1",
        "DELETE FROM series WHERE number = 0",
        "DELETE FROM series WHERE number = 1",
        "DELETE FROM series WHERE number = 2",
        "DELETE FROM series WHERE number >= 0",
    ],
)
def test_a_sample_that_was_never_stored_is_damage(path: Path, statement: str) -> None:
    """A wrong type, an unknown word, broken JSON or UTF-8 and a gap are told instead of being counted."""
    change(path, f"{statement} AND run = 'startup-2'")
    with Store.open(path) as store:
        with pytest.raises(InputError, match=r"pybench.sqlite: .* damaged") as caught:
            store.samples("startup-2")
        assert "history check --rescue" in caught.value.hint
        assert store.samples("startup-3") == samples_of(RUNS[2])


def change_past_index(path: Path, index: str, statement: str) -> None:
    """Write to a table while SQLite knows nothing of one of its indexes."""
    with sqlite3.connect(path) as connection:
        where = "FROM sqlite_master WHERE name = ?"
        (row,) = connection.execute(f"SELECT * {where}", [index]).fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"DELETE {where}", [index])
    connection.close()
    change(path, statement)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    connection.close()


@pytest.mark.parametrize("assignment", ["series = 1", "sequence = 300"])
def test_a_sample_that_its_index_does_not_know_is_damage(path: Path, assignment: str) -> None:
    """A number that became another one that would do, too, is told where the index has the first."""
    statement = f"UPDATE sample SET {assignment} WHERE run = 'startup-2' AND sequence = 299"  # noqa: S608
    change_past_index(path, "ix_sample_run_series", statement)
    with Store.open(path) as store, pytest.raises(InputError, match="damaged"):
        store.samples("startup-2")


def test_a_damaged_record_is_not_migrated(path: Path) -> None:
    """What its table has lost is not forgotten with the old index, and all else is still there."""
    path.unlink()
    make_older_record(path, "0002", [SAMPLE] * 300)
    change_past_index(path, "ix_sample_run_metric", "DELETE FROM sample WHERE sequence = 299")
    with pytest.raises(InputError, match="damaged"):
        Store.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
        assert len(connection.execute("SELECT * FROM sample").fetchall()) == 299
    connection.close()


@pytest.mark.parametrize(
    "assignment",
    ["status = 'sleeping'", "environment = '[]'", "environment = '{'", "owner = '7'", "started = x'00'"],
)
def test_a_run_that_was_never_stored_is_damage(path: Path, assignment: str) -> None:
    """The row of a run is checked like its samples, and the other runs can be read by their names."""
    change(path, f"UPDATE run SET {assignment} WHERE id = 'startup-2'")  # noqa: S608 - of constants
    with Store.open(path) as store:
        with pytest.raises(InputError, match="damaged"):
            store.runs()
        assert store.run("startup-3") == RUNS[2]


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("DELETE FROM sample WHERE sequence = 7", lambda store: store.sample_counts(["startup-2"])),
        ("UPDATE series SET status = 'x'", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("UPDATE sample SET value = 'x'", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("UPDATE sample SET value = NULL", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("UPDATE sample SET series = 3", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("DELETE FROM series WHERE number = 1", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("DELETE FROM series", lambda store: store.values(["startup-2"], SAMPLE.metric)),
        ("UPDATE conditions SET \"values\" = '[1]'", lambda store: store.conditions("startup-2")),
        ("UPDATE tag SET since = x'00'", lambda store: store.tags.of_run("startup-2")),
    ],
)
def test_what_is_beside_the_samples_is_checked(
    path: Path, statement: str, read: Callable[[Store], object]
) -> None:
    """Numbers of samples, trends, conditions and tags are not made of what was never stored."""
    change(path, statement)
    with Store.open(path) as store, pytest.raises(InputError, match="damaged"):
        read(store)


def readable(store: Store, run: Run) -> bool:
    """Whether a run can be read; if so, it is all that was stored."""
    try:
        found = store.run(run.id), store.samples(run.id), store.conditions(run.id)
    except InputError as error:
        if "damaged" not in error.message:
            raise
        return False
    assert found == (run, samples_of(run), [Conditions(0, {"load": 0.5})])
    return True


def test_a_page_of_random_bytes_never_becomes_a_figure(sound: Path, tmp_path: Path) -> None:
    """Whichever page it hits, a run is read as it was stored or not at all, and the check tells."""
    content = sound.read_bytes()
    randomness = random.Random(7)  # noqa: S311 - the same in every run
    broken = tmp_path / "broken.sqlite"
    whole = partial = 0
    for begin in range(0, len(content), 3 * PAGE):
        garbage = randomness.randbytes(PAGE)
        broken.write_bytes(content[:begin] + garbage + content[begin + PAGE :])
        try:
            opened = Store.open(broken)
        except InputError as error:
            if "damaged" not in error.message:
                raise
            continue
        with opened as store:
            left = [run.id for run in RUNS if readable(store, run)]
            checked = check(store)
        assert not checked.sound
        assert {run.id for run in checked.runs if not run.problem} <= set(left)
        whole += len(left) == len(RUNS)
        partial += 0 < len(left) < len(RUNS)
    assert whole
    assert partial


def test_what_can_be_read_is_saved(path: Path, tmp_path: Path, capsys: Captured) -> None:
    """`history check` names what is damaged, and `--rescue` copies the rest with its tags and notes."""
    change(path, "UPDATE sample SET value = 'x' WHERE run = 'startup-2' AND sequence = 7")
    before = path.read_bytes()
    saved = tmp_path / "saved.sqlite"
    words = ["history", "check", "--store", str(path)]
    assert command_line([*words, "--rescue", str(saved)]) == InputError.exit_code
    output = capsys.readouterr()
    assert "startup-2: " in output.out
    assert "2 of 3 runs can be read" in output.out
    assert str(path) in output.err
    assert path.read_bytes() == before
    with Store.open(saved, create=False) as store:
        assert store.runs() == [RUNS[0], RUNS[2]]
        assert store.samples("tag-startup-3") == samples_of(RUNS[2])
        assert [note.text for note in store.tags.notes([RUNS[2].id])] == ["seen"]
    assert command_line(["history", "check", "--store", str(saved), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sound"]
    assert [run["samples"] for run in content["runs"]] == [300, 300]
    assert command_line([*words, "--rescue", str(saved)]) == InputError.exit_code
    assert "exists already" in capsys.readouterr().err
