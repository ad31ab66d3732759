"""Runs with all their samples in files that other tools read, and back without loss.

Three formats, told by the file's ending:

- `.parquet`: one row per sample; runs, conditions, tags and notes are in the file's own metadata, under
  `pybench.runs` and so on.
- `.csv`: one row per sample; all else is in a second file beside it, `NAME.csv.runs.jsonl`.
- `.jsonl`: one object per line; each run, with `"record": "run"`, precedes its conditions, tags, notes and
  samples.

`.json`, the document that `pybench run --json` writes, can be read but holds less: not the scenario's text.
So can pytest-benchmark's, whose values are all that it has.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pybench.harness.errors import InputError, PybenchError
from pybench.harness.model import Conditions, Note, Run, Sample, Tagging

_METADATA: Final = {name: f"pybench.{name}".encode() for name in ("runs", "conditions", "tags", "notes")}
"""The keys of a Parquet file's metadata."""
_JSON_FIELDS: Final = ("qualifiers", "parameters")
"""Of a sample: mappings, which are text in the columns of CSV and Parquet."""
_SAMPLE_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Sample))
_COLUMNS: Final = ("run", *_SAMPLE_FIELDS)
_LONGEST_LINE: Final = 2**24
"""Characters of one line of JSON; a scenario file has at most 2**20."""
_LONGEST_FIELD: Final = 2**20
"""Characters of one field of a CSV file; a reason has some 20,000 at most."""


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """A run with its samples, in the order in which they were stored, and what else is known of it."""

    run: Run
    samples: Sequence[Sample]
    conditions: Sequence[Conditions] = ()
    """Of its steps."""
    tags: Sequence[Tagging] = ()
    """Those that it has or had."""
    notes: Sequence[Note] = ()


@dataclass(frozen=True, slots=True)
class _Records:
    """What was read, not yet checked."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    conditions: list[dict[str, Any]] = field(default_factory=list)
    tags: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def add_line(self, line: dict[str, Any]) -> None:
        """Sort one line in by its kind."""
        kinds = {
            "run": self.runs,
            "conditions": self.conditions,
            "tag": self.tags,
            "note": self.notes,
            "sample": self.samples,
        }
        kind = line.pop("record", None)
        if kind not in kinds:
            raise ValueError(f"a line is of an unknown kind: {str(kind)[:100]!r}")
        kinds[kind].append(line)


def write_archive(path: Path, runs: Sequence[ArchivedRun]) -> None:
    """Write runs so that a file of this name is either the old one or the whole new one.

    Raises:
        InputError: the ending names no format, or the file cannot be written.
    """
    _, write = _format(path, writing=True)
    try:
        write(path, runs)
    except OSError as error:
        raise InputError(
            f"{path}: cannot write: {error.strerror or error}", "name a file in a folder of yours"
        ) from error


def read_archive(path: Path) -> list[ArchivedRun]:
    """Read what `write_archive` or `pybench run --json` wrote; every field is checked.

    Raises:
        InputError: the file is missing, of no known format, damaged, or lacks its second file.
    """
    read, _ = _format(path, writing=False)
    if not path.exists():
        raise InputError(f"{path}: there is no such file", "name a file that `pybench export` wrote")
    try:
        return read(path)
    except PybenchError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    # Whatever a damaged file makes the readers of CSV, JSON, Parquet or pydantic say is a ValueError.
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: this is not a whole export: {reason}", "export the run again") from error


def is_archive(name: str) -> bool:
    """Whether a name is that of a file which can be read here, rather than of a run."""
    return Path(name).suffix.lower() in _FORMATS and Path(name).is_file()


def _write_json_lines(path: Path, runs: Sequence[ArchivedRun]) -> None:
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for archived in runs:
            file.writelines(_head_lines(archived))
            for sample in archived.samples:
                file.write(_line({"record": "sample", "run": archived.run.id, **_sample_fields(sample)}))


def _read_json_lines(path: Path) -> list[ArchivedRun]:
    records = _Records()
    for line in _lines(path):
        records.add_line(line)
    return _assemble(records)


def _write_csv(path: Path, runs: Sequence[ArchivedRun]) -> None:
    with _replacing(_runs_file(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        for archived in runs:
            file.writelines(_head_lines(archived))
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for archived in runs:
            for sample in archived.samples:
                row = {"run": archived.run.id, **_sample_fields(sample)}
                row.update({name: _compact(row[name]) for name in _JSON_FIELDS})
                row["warmup"] = int(row["warmup"])
                writer.writerow([row[name] for name in _COLUMNS])


def _read_csv(path: Path) -> list[ArchivedRun]:
    beside = _runs_file(path)
    if not beside.is_file():
        raise InputError(f"{path}: its second file, {beside.name}, is missing", "keep the two files together")
    records = _Records()
    for line in _lines(beside):
        records.add_line(line)
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, restkey="", strict=True):
            if set(row) != set(_COLUMNS) or None in row.values():
                raise ValueError(f"its columns are not {', '.join(_COLUMNS)}")
            records.samples.append(
                {
                    **row,
                    "value": float(row["value"]) if row["value"] else None,
                    "resolution": float(row["resolution"]),
                    "error": float(row["error"]),
                    "repetition": int(row["repetition"]),
                    "order": int(row["order"]),
                    "warmup": {"0": False, "1": True}[row["warmup"]],
                    **{name: json.loads(row[name]) for name in _JSON_FIELDS},
                }
            )
    return _assemble(records)


def _write_parquet(path: Path, runs: Sequence[ArchivedRun]) -> None:
    import pyarrow  # noqa: PLC0415 - slow to import
    import pyarrow.parquet  # noqa: PLC0415

    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for archived in runs:
        columns["run"] += [archived.run.id] * len(archived.samples)
        for name in _SAMPLE_FIELDS:
            columns[name] += [getattr(sample, name) for sample in archived.samples]
    for name in _JSON_FIELDS:
        columns[name] = [_compact(dict(mapping)) for mapping in columns[name]]
    types = {
        **dict.fromkeys(_COLUMNS, pyarrow.string()),
        **dict.fromkeys(("value", "resolution", "error"), pyarrow.float64()),
        **dict.fromkeys(("repetition", "order"), pyarrow.int64()),
        "warmup": pyarrow.bool_(),
    }
    metadata = {
        _METADATA["runs"]: [_run_fields(archived.run) for archived in runs],
        _METADATA["conditions"]: [
            _conditions_fields(archived.run, each) for archived in runs for each in archived.conditions
        ],
        _METADATA["tags"]: [dataclasses.asdict(each) for archived in runs for each in archived.tags],
        _METADATA["notes"]: [dataclasses.asdict(each) for archived in runs for each in archived.notes],
    }
    schema = pyarrow.schema(
        list(types.items()), metadata={key: json.dumps(content).encode() for key, content in metadata.items()}
    )
    with _replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), temporary, compression="zstd")


def _read_parquet(path: Path) -> list[ArchivedRun]:
    import pyarrow  # noqa: PLC0415 - slow to import
    import pyarrow.parquet  # noqa: PLC0415

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    metadata = table.schema.metadata or {}
    if _METADATA["runs"] not in metadata:
        raise ValueError("its metadata tells of no runs of pybench")
    samples = table.select(list(_COLUMNS)).to_pylist()
    for sample in samples:
        sample.update({name: json.loads(sample[name]) for name in _JSON_FIELDS})
    others = {name: json.loads(metadata[key]) for name, key in _METADATA.items()}
    return _assemble(_Records(**others, samples=samples))


def _read_document(path: Path) -> list[ArchivedRun]:
    from pybench.harness.export.pytest_benchmark import is_document, records  # noqa: PLC0415 - not always needed

    document = json.loads(path.read_text(encoding="utf-8"))
    if is_document(document):
        run, samples = records(path, document)
        return _assemble(_Records(runs=[run], samples=samples))
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise ValueError("it is neither a document of `pybench run --json` nor one of pytest-benchmark")
    run = {**document["run"], "source": "", "environment": {"fields": document["environment"]}}
    samples = [{"run": run["id"], **sample} for sample in document["samples"]]
    return _assemble(_Records(runs=[run], samples=samples))


def _assemble(records: _Records) -> list[ArchivedRun]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import

    checked = {run.id: run for run in TypeAdapter(list[Run]).validate_python(records.runs)}
    if len(checked) != len(records.runs):
        raise ValueError("two runs have the same id")
    samples, conditions = (_by_run(each, checked) for each in (records.samples, records.conditions))
    tags, notes = (_by_run(each, checked) for each in (records.tags, records.notes))
    of_sample, of_conditions = TypeAdapter(list[Sample]), TypeAdapter(tuple[Conditions, ...])
    return [
        ArchivedRun(
            run,
            of_sample.validate_python(samples[name]),
            of_conditions.validate_python(conditions[name]),
            _taggings(name, tags[name]),
            _notes(name, notes[name]),
        )
        for name, run in checked.items()
    ]


def _taggings(run: str, records: Sequence[Mapping[str, Any]]) -> tuple[Tagging, ...]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import

    from pybench.harness.store.tags import is_tag  # noqa: PLC0415 - rarely needed

    found = TypeAdapter(tuple[Tagging, ...]).validate_python([{"run": run, **each} for each in records])
    if wrong := [each.name for each in found if not is_tag(each.name)]:
        raise ValueError(f"{wrong[0][:100]!r} cannot be a tag")
    return found


def _notes(run: str, records: Sequence[Mapping[str, Any]]) -> tuple[Note, ...]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import

    from pybench.harness.store.tags import is_note  # noqa: PLC0415 - rarely needed

    found = TypeAdapter(tuple[Note, ...]).validate_python([{"run": run, **each} for each in records])
    if not all(is_note(each.text) for each in found):
        raise ValueError("a note is empty or too long")
    return found


def _by_run(records: Iterable[dict[str, Any]], known: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    for record in records:
        name = record.pop("run", None)
        if name not in grouped:
            raise ValueError(f"a record belongs to the run {str(name)[:100]!r}, which is not there")
        grouped[name].append(record)
    return grouped


def _head_lines(archived: ArchivedRun) -> Iterator[str]:
    """A run, the conditions of its steps, its tags and its notes."""
    yield _line({"record": "run", **_run_fields(archived.run)})
    for each in archived.conditions:
        yield _line({"record": "conditions", **_conditions_fields(archived.run, each)})
    for tagging in archived.tags:
        yield _line({"record": "tag", **dataclasses.asdict(tagging)})
    for note in archived.notes:
        yield _line({"record": "note", **dataclasses.asdict(note)})


def _conditions_fields(run: Run, conditions: Conditions) -> dict[str, Any]:
    return {"run": run.id, "order": conditions.order, "values": dict(conditions.values)}


def _run_fields(run: Run) -> dict[str, Any]:
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    return {**fields, "environment": {"fields": dict(run.environment.fields)}}


def _sample_fields(sample: Sample) -> dict[str, Any]:
    fields = {name: getattr(sample, name) for name in _SAMPLE_FIELDS}
    return {**fields, **{name: dict(fields[name]) for name in _JSON_FIELDS}}


def _runs_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.runs.jsonl")


def _line(record: Mapping[str, Any]) -> str:
    return _compact(record) + "\n"


def _compact(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        while line := file.readline(_LONGEST_LINE):
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("a line is not a JSON object")
            yield record


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place if all goes well."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


_Reader = Callable[[Path], list[ArchivedRun]]
_Writer = Callable[[Path, Sequence[ArchivedRun]], None]
_FORMATS: Final[dict[str, tuple[_Reader, _Writer | None]]] = {
    ".parquet": (_read_parquet, _write_parquet),
    ".csv": (_read_csv, _write_csv),
    ".jsonl": (_read_json_lines, _write_json_lines),
    ".json": (_read_document, None),
}


def _format(path: Path, *, writing: bool) -> tuple[_Reader, _Writer]:
    read, write = _FORMATS.get(path.suffix.lower(), (None, None))
    if read is None or (writing and write is None):
        known = ", ".join(ending for ending, (_, writer) in _FORMATS.items() if writer or not writing)
        raise InputError(f"{path}: its ending names no format", f"use one of {known}")
    return read, write or _refuse


def _refuse(path: Path, runs: Sequence[ArchivedRun]) -> None:
    raise InputError(f"{path}: this format can only be read", f"{len(runs)} runs were to be written")
