"""Exports hold everything, other tools read them, and what is not a whole export is refused by name."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_behaviour import FAILED, RUN, SAMPLE

from pybench.harness.errors import InputError
from pybench.harness.export.archive import ArchivedRun, is_archive, read_archive, write_archive
from pybench.harness.export.json import document, write
from pybench.harness.model import Conditions, Note, Tagging

ENDINGS = [".parquet", ".csv", ".jsonl"]
RUNS = [
    ArchivedRun(
        RUN,
        [SAMPLE, FAILED, replace(SAMPLE, warmup=True, qualifiers={}, parameters={})],
        (Conditions(17, {"steal": 0.25, "waited": 0.0}),),
        (
            Tagging(RUN.id, "good", "2025-11-24T00:00:00.000Z", "2025-11-25T00:00:00.000Z"),
            Tagging(RUN.id, "main", "2025-11-24T00:00:00.000Z", None),
        ),
        (Note(RUN.id, "2025-11-24T00:00:00.000Z", 'Größe ½,\n\x00 "quoted"\u2028🐢'),),
    ),
    ArchivedRun(replace(RUN, id="empty", finished="2025-11-24T00:00:00.000Z", status="done"), []),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_back_equal(tmp_path: Path, ending: str) -> None:
    """Runs, conditions and samples of every kind, a run without samples among them."""
    path = tmp_path / f"out{ending}"
    write_archive(path, RUNS)
    assert read_archive(path) == RUNS
    assert is_archive(str(path))
    assert not is_archive("startup-1")


@pytest.mark.parametrize("ending", ENDINGS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    reason=st.text(),
    qualifiers=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_any_value_and_text_round_trips(
    tmp_path: Path, ending: str, value: float, reason: str, qualifiers: dict[str, str]
) -> None:
    """No value, reason or qualifier is altered."""
    runs = [ArchivedRun(RUN, [replace(SAMPLE, value=value, reason=reason, qualifiers=qualifiers)])]
    write_archive(tmp_path / f"out{ending}", runs)
    assert read_archive(tmp_path / f"out{ending}") == runs


def test_other_tools_read_it(tmp_path: Path) -> None:
    """CSV has one header and one row per sample; Parquet has typed columns."""
    write_archive(tmp_path / "out.csv", RUNS)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["1.7320508075688772", "", "1.7320508075688772"]
    write_archive(tmp_path / "out.parquet", RUNS)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column("value").to_pylist() == [SAMPLE.value, None, SAMPLE.value]
    assert table.column("warmup").to_pylist() == [False, False, True]


def test_the_document_of_a_run_can_be_read(tmp_path: Path) -> None:
    """`pybench run --json` keeps run and samples; only source and definition are not in it."""
    path = tmp_path / "run.json"
    write(path, document(RUN, [], RUNS[0].samples))
    (archived,) = read_archive(path)
    assert archived.run == replace(RUN, source="", definition="")
    assert list(archived.samples) == list(RUNS[0].samples)
    with pytest.raises(InputError, match="ending names no format"):
        write_archive(path, RUNS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 is how it begins"),
        ("a.csv", b"run,workload\nx,y\n"),
        ("a.jsonl", b'{"record": "run", "id": "x"}\n'),
        ("a.jsonl", b'{"record": "sample", "run": "nobody"}\n'),
        ("a.jsonl", b'{"record": "tag", "run": "nobody", "name": "x", "since": "", "until": null}\n'),
        ("a.jsonl", b"[1]\n"),
        ("a.jsonl", b"\xff\xfe"),
        ("a.jsonl", b"[" * 100_000),
        ("a.json", b'{"schema": 2}'),
        ("a.json", b"[]"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """The error names the file and says that it is not whole; there is no traceback."""
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.runs.jsonl").write_text("")
    with pytest.raises(InputError, match="not a whole export") as caught:
        read_archive(tmp_path / name)
    assert name in caught.value.message


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_export_is_refused(tmp_path: Path, ending: str) -> None:
    """Half a file is not taken for a whole one."""
    path = tmp_path / f"out{ending}"
    write_archive(path, RUNS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError):
        read_archive(path)


def test_a_sample_with_a_wrong_type_is_refused(tmp_path: Path) -> None:
    """Every field is checked, and the error says which one is wrong."""
    path = tmp_path / "out.jsonl"
    write_archive(path, RUNS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    next(line for line in lines if line["record"] == "sample")["status"] = "great"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match="status"):
        read_archive(path)


@pytest.mark.parametrize(
    ("kind", "field", "value", "problem"),
    [
        ("tag", "name", "latest", "'latest' cannot be a tag"),
        ("tag", "name", "../x", "cannot be a tag"),
        ("tag", "since", 5, "since"),
        ("note", "text", " ", "a note is empty or too long"),
        ("note", "text", "x" * 10_001, "a note is empty or too long"),
    ],
)
def test_tags_and_notes_are_checked(
    tmp_path: Path, kind: str, field: str, value: object, problem: str
) -> None:
    """What could not be said here comes from no file either."""
    path = tmp_path / "out.jsonl"
    write_archive(path, RUNS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    next(line for line in lines if line["record"] == kind)[field] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=problem):
        read_archive(path)


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    """A missing file, a missing second file, an unknown ending and an unwritable folder."""
    with pytest.raises(InputError, match="there is no such file"):
        read_archive(tmp_path / "absent.parquet")
    write_archive(tmp_path / "out.csv", RUNS)
    (tmp_path / "out.csv.runs.jsonl").unlink()
    with pytest.raises(InputError, match="second file"):
        read_archive(tmp_path / "out.csv")
    with pytest.raises(InputError, match="ending names no format"):
        write_archive(tmp_path / "out.xlsx", RUNS)
    with pytest.raises(InputError, match="cannot write"):
        write_archive(tmp_path / "absent" / "out.csv", RUNS)
