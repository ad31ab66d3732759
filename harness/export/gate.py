"""Results of the gate and of its calibration as plain data, and limits as the file that is read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pybench.harness.export.comparison import cell_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybench.harness.calibration import Calibration
    from pybench.harness.comparability import FieldMismatch
    from pybench.harness.gate import Finding, GateResult


def gate_document(result: GateResult, baseline: str, candidate: str) -> dict[str, Any]:
    """What the gate found; `outcome` is `pass`, `regression` or `inconclusive`."""
    return {
        "schema": 1,
        "outcome": result.outcome,
        "baseline": baseline,
        "candidate": candidate,
        "mismatches": [],
        "findings": [_finding(each) for each in result.findings],
        "blind": [list(each.change.cell) for each in result.blind],
        "cells": [cell_document(each) for each in result.cells],
    }


def refusal_document(baseline: str, candidate: str, differences: Iterable[FieldMismatch]) -> dict[str, Any]:
    """That the runs may not be compared, and the fields in which they differ."""
    return {
        "schema": 1,
        "outcome": "inconclusive",
        "baseline": baseline,
        "candidate": candidate,
        "mismatches": [
            {"field": each.field, "baseline": each.baseline, "candidate": each.candidate}
            for each in differences
        ],
        "findings": [],
        "blind": [],
        "cells": [],
    }


def calibration_document(calibration: Calibration) -> dict[str, Any]:
    """Limits, false alarms, and the smallest regression that is detected in each cell."""
    return {
        "schema": 1,
        "runs": calibration.runs,
        "nights": calibration.nights,
        "false_alarms": calibration.alarms,
        "false_alarm_rate": calibration.alarms / calibration.nights,
        "false_alarm_bound": calibration.bound,
        "cells": [
            {
                **dict(zip(("workload", "target", "metric", "unit"), each.cell[:4], strict=True)),
                "largest": each.largest,
                "relative": each.limit.relative,
                "tail": each.limit.tail,
                "absolute": each.limit.absolute,
                "detected": each.detected,
            }
            for each in calibration.cells
        ],
    }


def limits_text(calibration: Calibration) -> str:
    """The calibrated limits as a file for `pybench gate --limits`; names are quoted as in JSON."""
    lines = [
        f"# Learnt from {calibration.runs} runs: "
        f"{calibration.alarms} false alarms in {calibration.nights} simulated nights.",
        "cells:",
    ]
    for each in calibration.cells:
        workload, target, metric = (json.dumps(name) for name in each.cell[:3])
        lines.append(
            f"  - {{workload: {workload}, target: {target}, metric: {metric}, "
            f"relative: {each.limit.relative:.4f}, tail: {each.limit.tail:.4f}, "
            f"absolute: {each.limit.absolute!r}}}"
        )
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    workload, target, metric, unit = finding.cell[:4]
    point = finding.point
    return {
        "kind": finding.kind,
        "workload": workload,
        "target": target,
        "metric": metric,
        "unit": unit,
        "against": finding.against,
        "change": cell_document(finding.judged) if finding.judged else None,
        "level": point and {"before": point.before, "after": point.after, "p": point.p, "runs": point.length},
    }
