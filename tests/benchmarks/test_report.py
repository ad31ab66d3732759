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

from pybench.harness.model import Environment
from pybench.harness.store import Store, timestamp

MIB = 2**20
YEAR = 365
LAUNCHES = {"process": 60, "container": 60, "vm": 60}
WORSE_FROM = 300
REPORT = """
import re, sys
from pathlib import Path
from pybench.harness.cli.main import run
code = run(["report", "--output", "report.html"])
# Not getrusage, whose peak may be that of the process that started this one.
print(int(re.search("VmHWM:[^0-9]+([0-9]+)", Path("/proc/self/status").read_text())[1]) * 1024)
sys.exit(code)
"""


@pytest.mark.parametrize(("samples", "seconds", "size"), [(10_000, 3.0, 6e6), (1_000_000, 10.0, 8e6)])
def test_reports_are_built_soon(samples: int, seconds: float, size: float, tmp_path: Path) -> None:
    """From the record, 10,000 samples take at most 3 s and 6 MB; a million 10 s and 1 GiB of memory."""
    share = samples // 28
    measured = make_samples({"process": share, "floor": share, "container": share, "vm": share})
    (tmp_path / "results").mkdir()
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        store.put_run(make_run(), measured)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", REPORT], cwd=tmp_path, capture_output=True, check=True)
    took = time.perf_counter() - began
    memory = float(done.stdout.split()[-1])
    length = (tmp_path / "report.html").stat().st_size
    print(
        f"\n{len(measured):,} samples: {took:.2f} s, {length / 1e6:.2f} MB, {memory / MIB:.0f} MiB of memory"
    )
    assert took <= seconds
    assert length <= size
    assert memory <= 1024 * MIB


def add_night(store: Store, number: int) -> None:
    """Store a run of the start-up scenario; from one night on, containers start a fifth slower."""
    night = timestamp(datetime(2025, 1, 1, 22, tzinfo=UTC) + timedelta(days=number))
    run = make_run(id=f"night-{number:03}", started=night)
    fields = {**run.environment.fields, "host.name": "rack-1", "source.branch": "main"}
    store.begin_run(replace(run, definition="name: startup\n", environment=Environment(fields)))
    samples = [
        replace(sample, value=sample.value * 1.2)
        if sample.value and sample.target == "container" and sample.unit == "s" and number >= WORSE_FROM
        else sample
        for sample in make_samples(LAUNCHES, seed=number)
    ]
    store.add_samples(run.id, samples)


def test_a_site_of_a_year_is_built_soon(tmp_path: Path) -> None:
    """365 nightly runs take at most 30 s, one more at most 2 s, and nothing new at most 1 s."""
    (tmp_path / "results").mkdir()
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        for number in range(YEAR):
            add_night(store, number)
    whole = _build(tmp_path)
    with Store.open(tmp_path / "results" / "pybench.sqlite") as store:
        add_night(store, YEAR)
    again = _build(tmp_path)
    idle = _build(tmp_path)
    trends = (tmp_path / "site" / "scenarios" / "startup.html").read_text(encoding="utf-8")
    assert f"worse since night-{WORSE_FROM}" in trends.replace("\u00a0", " ")
    size = sum(path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file())
    print(f"\n{YEAR} runs: {whole:.1f} s, one more: {again:.2f} s, none: {idle:.2f} s, {size / MIB:.0f} MiB")
    assert whole <= 30
    assert again <= 2
    assert idle <= 1


def _build(project: Path) -> float:
    """Seconds that the command takes, its start included."""
    program = "import sys; from pybench.harness.cli.main import main; sys.argv[0] = 'pybench'; main()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "report", "--site", "site"], cwd=project, check=True)
    return time.perf_counter() - began
