"""Cells as results of pytest-benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_benchmark.stats import Metadata

from pybench.harness.export.pytest_benchmark import benchmarks

if TYPE_CHECKING:
    from pybench.harness.model import Run, Sample


@dataclass(slots=True)
class _Described:
    """What pytest-benchmark takes from its fixture."""

    name: str
    fullname: str
    group: str
    params: Mapping[str, Any]
    extra_info: Mapping[str, Any]
    param: str | None = None
    cprofile_stats: None = None
    has_error: bool = False
    skipped: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def results(run: Run, samples: Sequence[Sample], file: str) -> list[Metadata]:
    """One result per cell that has values; the statistics are pytest-benchmark's own.

    Args:
        run: what the samples are of.
        samples: those of one or several combinations.
        file: the node of the scenario file, with which full names begin.
    """
    found = []
    for each in benchmarks(run, samples, file):
        described = _Described(
            name=each.name,
            fullname=each.fullname,
            group=each.group,
            params=each.params,
            extra_info=each.extra_info,
        )
        made = Metadata(described, iterations=1, options={})
        for value in each.values:
            made.update(value)
        found.append(made)
    return found
