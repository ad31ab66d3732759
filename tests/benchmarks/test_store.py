"""How fast the record is with a million samples in it; on both databases.

Run with `tox run -e benchmarks -- tests/benchmarks/test_store.py -s` to see the figures.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from postgresql_server import postgresql_server
from report_runs import make_run, make_samples

from pybench.harness.comparison.runs import compare
from pybench.harness.model import Sample
from pybench.harness.store import RunFilter, Store

SAMPLES = int(os.environ.get("PYBENCH_BENCHMARK_SAMPLES", "1000000"))
SLOWEST_INSERTION = 20_000
"""Samples per second, in batches."""
LONGEST_COMMIT = 0.005
LONGEST_HISTORY = 0.3
LONGEST_COMPARE = 1.0


class Filled(NamedTuple):
    """A record with a million samples."""

    place: str
    rate: float
    """Samples per second with which it was filled."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Runs of the start-up scenario, a million samples in all."""
    if request.param == "sqlite":
        yield _fill(str(tmp_path_factory.mktemp("record") / "pybench.sqlite"))
    else:
        with postgresql_server(durable=True) as server:
            yield _fill(server.new_database())


def _fill(place: str) -> Filled:
    samples = make_samples()
    runs = -(-SAMPLES // len(samples))
    spent = 0.0
    with Store.open(place) as store:
        for number in range(runs):
            day = f"{2000 + number // 336:04}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}T00:00:00.000Z"
            run = make_run(id=f"startup-{number:05}", started=day)
            began = time.perf_counter()
            store.begin_run(run)
            store.add_samples(run.id, samples)
            spent += time.perf_counter() - began
    kind = place.split(":", maxsplit=1)[0] if "://" in place else "sqlite"
    print(f"\n{kind}: {runs} runs, {runs * len(samples):,} samples")
    return Filled(place, runs * len(samples) / spent)


def test_whole_runs_are_inserted_fast(filled: Filled) -> None:
    """At least 20,000 samples a second, a run of some 900 at a time."""
    print(f"insertion: {filled.rate:,.0f} samples/s")
    assert filled.rate >= SLOWEST_INSERTION


def test_a_step_is_durable_soon(filled: Filled) -> None:
    """The commit of one step's samples takes at most 5 ms in the median."""
    step: list[Sample] = [replace(sample, order=10_000) for sample in make_samples({"vm": 1}, warmups=0)]
    with Store.open(filled.place) as store:
        store.begin_run(make_run(id="steps"))
        durations = []
        for _ in range(200):
            began = time.perf_counter()
            store.add_samples("steps", step)
            durations.append(time.perf_counter() - began)
    print(f"commit of {len(step)} samples: median {statistics.median(durations) * 1e3:.2f} ms")
    assert statistics.median(durations) <= LONGEST_COMMIT


def test_history_answers_at_once(filled: Filled) -> None:
    """Listing the newest runs with their trend takes at most 0.3 s."""
    with Store.open(filled.place) as store:
        began = time.perf_counter()
        ids = [run.id for run in store.runs(RunFilter(newest=20))]
        store.sample_counts(ids)
        store.values(ids, "startup.ready")
        spent = time.perf_counter() - began
    whole = _command("history", "--store", filled.place)
    print(f"history: {spent:.3f} s in the record, {whole:.3f} s the command")
    assert spent <= LONGEST_HISTORY


def test_compare_answers_within_a_second(filled: Filled) -> None:
    """Reading two runs and comparing all their cells takes at most a second."""
    names = ("startup-00001", "startup-00002")
    with Store.open(filled.place) as store:
        began = time.perf_counter()
        compare(store.samples(names[0]), store.samples(names[1]))
        spent = time.perf_counter() - began
    whole = _command("compare", *names, "--store", filled.place)
    print(f"compare: {spent:.3f} s, {whole:.3f} s the command")
    assert spent <= LONGEST_COMPARE


def _command(*arguments: str) -> float:
    began = time.perf_counter()
    program = str(Path(sys.executable).with_name("pybench"))
    subprocess.run([program, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began
