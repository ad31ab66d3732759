"""Cells as pytest-benchmark has them, its JSON document, and such documents read back.

The document holds what counts: one value per launch and cell, in seconds or bytes. Warm-ups, failed and
rejected samples, channels and conditions are in our own formats alone. A rate is told as the time of one
operation, so that more is worse in every result, as pytest-benchmark takes for granted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.model import Environment, Run, Sample
from pybench.harness.stats import cells, counts, shared_qualifiers
from pybench.harness.store import BRANCH, HOST, timestamp

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = "pybench"
"""Of a benchmark's `extra_info`, and of the document: what is ours."""
_RATE: Final = "1/s"
_FOREIGN_METRIC: Final = "benchmark"
_FOREIGN_TARGET: Final = "pytest"
_CHANNEL: Final = "pytest-benchmark"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One cell."""

    name: str
    fullname: str
    group: str
    params: Mapping[str, Any]
    extra_info: Mapping[str, Any]
    values: tuple[float, ...]


def benchmarks(run: Run, samples: Sequence[Sample], file: str = "") -> Iterator[Benchmark]:
    """Every cell that has values other than zero, of which no share can be told."""
    for (workload, target, metric, unit, label), found in cells(samples).items():
        values = [sample.value for sample in found if counts(sample) and sample.value is not None]
        if not values or not any(values) or (unit == _RATE and not all(values)):
            continue
        inside = ", ".join(part for part in (target, label) if part)
        name = f"{workload}[{inside}] {metric}"
        described = {
            "run": run.id,
            "scenario": run.scenario,
            "workload": workload,
            "target": target,
            "metric": metric,
            "unit": unit,
            "parameters": dict(found[0].parameters),
            "qualifiers": dict(shared_qualifiers([each for each in found if counts(each)])),
            "failed": sum(each.status == "failed" and not each.warmup for each in found),
        }
        yield Benchmark(
            name=name,
            fullname=f"{file or run.source or run.scenario}::{name}",
            group=f"{run.scenario}: {workload} {metric}" + (" (bytes)" if unit == "B" else ""),
            params=dict(found[0].parameters),
            extra_info={KEY: described},
            values=tuple(1 / value if unit == _RATE else value for value in values),
        )


def document(run: Run, samples: Sequence[Sample]) -> dict[str, Any]:
    """What `pytest --benchmark-json` would have written of these cells, with a key of our own."""
    from pytest_benchmark.stats import Stats  # noqa: PLC0415 - only this format needs it

    fields = run.environment.fields
    written = []
    for each in benchmarks(run, samples):
        stats = Stats()
        for value in each.values:
            stats.update(value)
        written.append(
            {
                "group": each.group,
                "name": each.name,
                "fullname": each.fullname,
                "params": dict(each.params) or None,
                "param": None,
                "extra_info": dict(each.extra_info),
                "options": {},
                "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
            }
        )
    return {
        "machine_info": {
            "node": fields.get(HOST, ""),
            "machine": fields.get("host.machine", ""),
            "system": "Linux",
            "release": fields.get("host.kernel", ""),
            "cpu": {"brand_raw": fields.get("host.cpu.model", ""), "count": fields.get("host.cpu.count", "")},
        },
        "commit_info": {
            "id": fields.get("source.commit", "unknown"),
            "branch": fields.get(BRANCH, "(unknown)"),
            "dirty": False,
        },
        "benchmarks": written,
        "datetime": run.finished or run.started,
        "version": version("pytest-benchmark"),
        KEY: {
            "id": run.id,
            "scenario": run.scenario,
            "source": run.source,
            "started": run.started,
            "finished": run.finished,
            "status": run.status,
            "command": run.command,
            "environment": {"fields": dict(fields)},
            "definition": run.definition,
        },
    }


def is_document(content: object) -> bool:
    """Whether it is a document of pytest-benchmark."""
    return isinstance(content, dict) and {"machine_info", "benchmarks"} <= content.keys()


def records(path: Path, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A document as the fields of a run and of its samples, not yet checked.

    What pytest-benchmark wrote of other tests becomes a run of the scenario `pytest-benchmark`, in which each
    test is a workload.

    Raises:
        ValueError: a benchmark has no data; `--benchmark-save-data` and `--benchmark-json` keep it.
        KeyError, TypeError: it is no whole document.
    """
    run = content.get(KEY) or _foreign_run(path, content)
    samples = []
    for benchmark in content["benchmarks"]:
        data = benchmark["stats"].get("data")
        if data is None:
            raise ValueError(f"{benchmark['fullname']} has no data; run pytest with --benchmark-save-data")
        extra = benchmark.get("extra_info") or {}
        known = extra[KEY] if isinstance(extra.get(KEY), dict) else {}
        unit = known.get("unit", "s")
        samples += [
            {
                "run": run["id"],
                "workload": known.get("workload", benchmark["fullname"]),
                "target": known.get("target", _FOREIGN_TARGET),
                "metric": known.get("metric", _FOREIGN_METRIC),
                "unit": unit,
                "value": 1 / value if unit == _RATE else value,
                "repetition": at,
                "warmup": False,
                "order": at,
                "channel": _CHANNEL,
                "resolution": 0.0,
                "qualifiers": known.get("qualifiers", {}),
                "parameters": known.get("parameters", {}),
            }
            for at, value in enumerate(data)
        ]
    return run, samples


def _foreign_run(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    machine, commit = content["machine_info"], content.get("commit_info") or {}
    moment = datetime.fromisoformat(content["datetime"])
    started = timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    told = {
        HOST: machine.get("node"),
        "host.machine": machine.get("machine"),
        "host.kernel": machine.get("release"),
        BRANCH: commit.get("branch"),
        "source.commit": commit.get("id"),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {
        "id": f"{_CHANNEL}-{moment:%Y%m%dT%H%M%SZ}-{digest[:4]}",
        "scenario": _CHANNEL,
        "source": str(path),
        "started": started,
        "finished": started,
        "status": "done",
        "command": "pytest",
        "environment": Environment({name: str(value) for name, value in told.items() if value}),
    }
