"""How fast and how large reports and sites are.

Run with `tox run -e benchmarks -- tests/benchmarks/test_report.py -s` to see the figures.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from report_runs import make_run, make_samples

from pybench.harness.store import Store, timestamp

MIB = 2**20
YEAR = 365
RENDER = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from report_runs import make_run, make_samples
from pybench.reports.html import render
share = int(sys.argv[2]) // 28
samples = make_samples({"process": share, "floor": share, "container": share, "vm": share})
render(make_run(), make_samples())
began = time.perf_counter()
page = render(make_run(), samples)
print(len(samples), time.perf_counter() - began, len(page.encode()),
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.parametrize(("samples", "seconds", "size"), [(10_000, 3.0, 6e6), (1_000_000, 10.0, 8e6)])
def test_reports_are_built_soon(samples: int, seconds: float, size: float) -> None:
    """10,000 samples take at most 3 s and 6 MB; a million at most 10 s and 1 GiB of memory."""
    helpers = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", RENDER, helpers, str(samples)], capture_output=True, text=True, check=True
    )
    number, took, length, memory = (float(word) for word in done.stdout.split())
    print(f"\n{number:,.0f} samples: {took:.2f} s, {length / 1e6:.2f} MB, {memory / MIB:.0f} MiB of memory")
    assert took <= seconds
    assert length <= size
    assert memory <= 1024 * MIB


def test_a_site_of_a_year_is_built_soon(tmp_path: Path) -> None:
    """365 nightly runs take at most 30 s, one more at most 2 s."""
    first = datetime(2025, 1, 1, 22, tzinfo=UTC)

    def add(store: Store, number: int) -> None:
        run = make_run(id=f"night-{number:03}", started=timestamp(first + timedelta(days=number)))
        store.begin_run(replace(run, definition="name: startup\n"))
        store.add_samples(run.id, make_samples(seed=number))

    (tmp_path / "results").mkdir()
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        for number in range(YEAR):
            add(store, number)
    whole = _build(tmp_path)
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        add(store, YEAR)
    again = _build(tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file())
    print(f"\n{YEAR} runs: {whole:.1f} s, one more: {again:.2f} s, {size / MIB:.0f} MiB")
    assert whole <= 30
    assert again <= 2


def _build(project: Path) -> float:
    """Seconds that the command takes, its start included."""
    program = "import sys; from pybench.harness.cli.main import main; sys.argv[0] = 'pybench'; main()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "report", "--site", "site"], cwd=project, check=True)
    return time.perf_counter() - began
