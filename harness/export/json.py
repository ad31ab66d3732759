"""A run as one JSON document, the machine's counterpart of the report."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.model import Estimate, Run, Sample

SCHEMA: Final = 1
"""Version of the document: 1 is the first."""
_SUMMARY: Final = (
    *("workload", "target", "metric", "unit", "n", "median", "mean", "p95", "p99", "ci_low", "ci_high"),
    *("qualifiers", "parameters"),
)
_SAMPLE: Final = (
    *("workload", "target", "metric", "unit", "value", "repetition", "warmup", "order", "channel"),
    *("resolution", "qualifiers", "parameters", "error"),
)
_RUN: Final = ("id", "scenario", "started", "finished", "status", "command")


def document(run: Run, estimates: Iterable[Estimate], samples: Iterable[Sample]) -> dict[str, Any]:
    """The document with the keys `schema`, `run`, `environment`, `summary` and `samples`.

    A figure that does not exist (p99 of few samples, the median of none) is null. A failed sample has the
    value null and two more keys, `status` and `reason`; a rejected one has these keys beside its value.
    """
    return {
        "schema": SCHEMA,
        "run": _fields(run, _RUN),
        "environment": dict(run.environment.fields),
        "summary": [_fields(estimate, _SUMMARY) for estimate in estimates],
        "samples": [
            _fields(sample, (*_SAMPLE, "status", "reason") if sample.status != "ok" else _SAMPLE)
            for sample in samples
        ],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document so that the file is either the old one or the whole new one.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe or a device, such as /dev/stdout, has no old content to keep and cannot be replaced.
            path.write_text(_encode(content), encoding="utf-8")
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_encode(content))
                file.flush()
                os.fsync(descriptor)
            # mkstemp makes files private; a result is as readable as any file the user makes.
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot write the JSON document: {error.strerror}",
            "give --json a file in a folder of yours",
        ) from error


def check_writable(path: Path) -> None:
    """Fail before anything is launched rather than after.

    Raises:
        InputError: the file's folder does not exist, or neither it nor the file can be written.
    """
    place = path if path.exists() and not path.is_file() else path.parent
    if path.is_dir():
        raise InputError(f"{path}: this is a directory", "give --json the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist", "make it first")
    if not os.access(place, os.W_OK):
        raise InputError(f"{path}: {place} cannot be written", "give --json a file in a folder of yours")


def _encode(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _umask() -> int:
    # Only setting it tells it; /proc/self/status tells it without a moment in which it is wrong.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def _fields(record: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
