"""A comparison as plain data for JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybench.harness.comparison.attribution import Attribution, Contribution
    from pybench.harness.comparison.cells import Side
    from pybench.harness.comparison.runs import Comparison, Judged
    from pybench.harness.environment import Mismatch

CELL_KEYS: Final = ("workload", "target", "metric", "unit", "parameters")
"""The parameters are their label, as `memory=128MiB, instances=2`."""


def comparison_document(
    comparison: Comparison, baseline: str, candidate: str, differences: Iterable[Mismatch]
) -> dict[str, Any]:
    """Everything of a comparison; a figure that does not exist is null.

    `host_slowdown` is the share by which the host itself was slower, 0 where that is not known. `shift`,
    `quantiles` and `attributions` are candidate minus baseline, in the cell's unit.
    """
    return {
        "schema": 1,
        "baseline": baseline,
        "candidate": candidate,
        "false_discovery_rate": comparison.rate,
        "host_slowdown": comparison.slowdown.median,
        "mismatches": [
            {"field": each.field, "baseline": each.baseline, "candidate": each.candidate}
            for each in differences
        ],
        "cells": [cell_document(each) for each in comparison.cells],
        "attributions": [_attribution(each) for each in comparison.attributions],
    }


def cell_document(judged: Judged) -> dict[str, Any]:
    """One cell."""
    change, moved = judged.change, judged.change.movement
    tests = moved and moved.tests
    return {
        **dict(zip(CELL_KEYS, change.cell, strict=True)),
        "verdict": judged.verdict,
        "worse": judged.worse,
        "reason": judged.reason,
        "baseline": _side(change.baseline),
        "candidate": _side(change.candidate),
        "shift": change.shift and change.shift._asdict(),
        "base": moved and moved.base and moved.base._asdict(),
        "phase": moved and moved.phase and {"name": moved.phase.phase, **moved.phase.shift._asdict()},
        "tail_shift": moved and moved.tail,
        "p": tests and tests._asdict(),
        "adjusted_p": judged.adjusted._asdict(),
        "failure_p": change.failure_p,
        "cliffs_delta": change.effect and change.effect._asdict(),
        "quantiles": [{**each._asdict(), "value": each.value} for each in change.quantiles],
        "limit": judged.margin,
        "explained": judged.explained.median,
        "detectable": judged.detectable,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "n": side.n,
        "failed": side.failed,
        "median": side.median if math.isfinite(side.median) else None,
        "modes": [mode._asdict() for mode in side.modes],
    }


def _attribution(attribution: Attribution) -> dict[str, Any]:
    return {
        "workload": attribution.workload,
        "target": attribution.target,
        "parameters": attribution.parameters,
        "total": _contribution(attribution.total),
        "phases": [_contribution(each) for each in attribution.phases],
    }


def _contribution(contribution: Contribution) -> dict[str, Any]:
    return {
        "phase": contribution.phase,
        "value": contribution.value,
        "low": contribution.low,
        "high": contribution.high,
    }
