"""The JSON document has the documented keys, and its file is always whole."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pybench.harness.errors import InputError
from pybench.harness.export.json import check_writable, document, write
from pybench.harness.model import Environment, Run, Sample
from pybench.harness.stats import estimates

RUN = Run(
    "r",
    "s",
    "s.yaml",
    "2025-01-01T00:00:00.000Z",
    None,
    "interrupted",
    "pybench run s",
    Environment({"a.b": "c"}),
)
SAMPLE = Sample(
    *("w", "t", "startup.ready", "s", 0.25, 0, False, 4, "pipe", 1e-9, {"accel": "tcg"}),
    parameters={"memory": "64MiB"},
    error=2e-9,
)
FAILED = replace(SAMPLE, target="broken", value=None, status="failed", reason="not ready")


def test_the_document_has_exactly_the_documented_keys() -> None:
    """Run, environment, summary and samples, as in the contract of the command line."""
    content = document(RUN, estimates([SAMPLE]), [SAMPLE])
    assert content == {
        "schema": 1,
        "run": {
            "id": "r",
            "scenario": "s",
            "started": "2025-01-01T00:00:00.000Z",
            "finished": None,
            "status": "interrupted",
            "command": "pybench run s",
        },
        "environment": {"a.b": "c"},
        "summary": [
            {
                "workload": "w",
                "target": "t",
                "metric": "startup.ready",
                "unit": "s",
                "n": 1,
                "median": 0.25,
                "mean": 0.25,
                "p95": None,
                "p99": None,
                "ci_low": 0.25,
                "ci_high": 0.25,
                "qualifiers": {"accel": "tcg"},
                "parameters": {"memory": "64MiB"},
            }
        ],
        "samples": [
            {
                "workload": "w",
                "target": "t",
                "metric": "startup.ready",
                "unit": "s",
                "value": 0.25,
                "repetition": 0,
                "warmup": False,
                "order": 4,
                "channel": "pipe",
                "resolution": 1e-9,
                "qualifiers": {"accel": "tcg"},
                "parameters": {"memory": "64MiB"},
                "error": 2e-9,
            }
        ],
    }


def test_a_failed_sample_is_null_and_says_why(tmp_path: Path) -> None:
    """It keeps its place, and figures that do not exist are null rather than NaN, which is no JSON."""
    path = tmp_path / "out.json"
    write(path, document(RUN, estimates([FAILED]), [FAILED]))
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    (sample,), (summary,) = content["samples"], content["summary"]
    assert (sample["value"], sample["status"], sample["reason"]) == (None, "failed", "not ready")
    assert (summary["n"], summary["median"], summary["ci_low"]) == (0, None, None)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """While it is rewritten, a reader never sees a part of it, and no temporary file stays."""
    path = tmp_path / "out.json"
    small, large = {"n": 1}, {"n": list(range(100_000))}
    write(path, small)
    stop = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(str(json.loads(path.read_text()))))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            write(path, large)
            write(path, small)
    finally:
        stop.set()
        reader.join()
    assert seen <= {len(str(small)), len(str(large))}
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    """Its mode follows the user's umask."""
    (tmp_path / "other").touch()
    write(tmp_path / "out.json", {})
    assert (tmp_path / "out.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """A pipe is not replaced by a file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(path.read_text()))
    reader.start()
    check_writable(path)
    write(path, {"n": 1})
    reader.join()
    assert json.loads(received[0]) == {"n": 1}


@pytest.mark.parametrize("name", ["", "nowhere/out.json"])
def test_a_file_that_cannot_be_written_is_bad_input(tmp_path: Path, name: str) -> None:
    """It is told before a run is wasted, and also when it is written."""
    path = tmp_path / name
    with pytest.raises(InputError):
        check_writable(path)
    with pytest.raises(InputError, match="cannot write"):
        write(path, {})
    assert list(tmp_path.iterdir()) == []
