"""How many tenants a host has room for, by what each further instance was measured to cost."""

from __future__ import annotations

import math

from pybench.harness.units import count
from pybench.reports.analysis import MetricTable, Report
from pybench.reports.numbers import one_line, tied
from pybench.reports.vocabulary import LIMIT

EACH = "density.memory.each"
STARTS = "density.predicted.start"
MEMORY = 64
"""GiB of the host that the prediction is made for."""
_ROUNDED_TO = 2
"""Digits: the line is drawn far beyond what was measured."""


def predictions(report: Report) -> list[str]:
    """A sentence for the memory of a large host, and one for the starts, for each workload that has them."""
    said = []
    for workload in report.workloads:
        tables = {table.metric: table for table in report.tables if table.workload == workload}
        prefix = f"Workload {one_line(workload)}: " if len(report.workloads) > 1 else ""
        if EACH in tables and (text := _by_memory(tables[EACH])):
            said.append(tied(prefix + text))
        if STARTS in tables and (text := _by_starts(tables[STARTS])):
            said.append(tied(prefix + text))
    return said


def _by_memory(table: MetricTable) -> str:
    parts = []
    for row in table.measured:
        if row.estimate is None or row.estimate.median <= 0 or row.target == LIMIT:
            continue
        number = _rounded(MEMORY * 2**30 / row.estimate.median)
        parts.append(f"{count(number, 'instance')} of {row.noun} ({row.median} each)")
    if not parts:
        return ""
    return (
        f"On {MEMORY} GiB of free memory there would be room for {', '.join(parts)}: the line of what was "
        "measured, drawn on; other limits may come first."
    )


def _by_starts(table: MetricTable) -> str:
    parts = [
        f"{count(_rounded(row.estimate.median), 'instance')} of {row.noun}"
        for row in table.measured
        if row.estimate is not None and row.target != LIMIT
    ]
    return f"A start keeps to the scenario’s limit up to {', '.join(parts)} on this host." if parts else ""


def _rounded(number: float) -> int:
    """To two digits."""
    if number < 1:
        return 0
    unit = 10 ** max(0, math.floor(math.log10(number)) - _ROUNDED_TO + 1)
    return int(number // unit * unit)
