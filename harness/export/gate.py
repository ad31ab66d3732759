"""Results of the gate and of its calibration as plain data, and limits as the file that is read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pybench.harness.export.comparison import CELL_KEYS, cell_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybench.harness.environment import Mismatch
    from pybench.harness.gate.calibration import Calibration
    from pybench.harness.gate.check import Finding, GateResult
    from pybench.harness.gate.judgement import Judgement


def judgement_document(judgement: Judgement) -> dict[str, Any]:
    """What a judgement says, or the fields in which the runs differ; `gathered` are the runs taken beside."""
    if judgement.result is None:
        found = refusal_document(judgement.baseline, judgement.candidate, judgement.differences)
    else:
        found = gate_document(judgement.result, judgement.baseline, judgement.candidate)
    return {**found, "gathered": list(judgement.gathered)}


def gate_document(result: GateResult, baseline: str, candidate: str) -> dict[str, Any]:
    """What the gate found; `outcome` is `pass`, `regression` or `inconclusive`."""
    return {
        "schema": 1,
        "outcome": result.outcome,
        "baseline": baseline,
        "candidate": candidate,
        "host_slowdown": result.slowdown.median,
        "mismatches": [],
        "findings": [_finding(each) for each in result.findings],
        "waived": [_finding(each) for each in result.waived],
        "blind": [list(each.change.cell) for each in result.blind],
        "cells": [cell_document(each) for each in result.cells],
        "verdicts": result.verdicts,
    }


def refusal_document(baseline: str, candidate: str, differences: Iterable[Mismatch]) -> dict[str, Any]:
    """That the runs may not be compared, and the fields in which they differ."""
    return {
        "schema": 1,
        "outcome": "inconclusive",
        "baseline": baseline,
        "candidate": candidate,
        "host_slowdown": 0.0,
        "mismatches": [
            {"field": each.field, "baseline": each.baseline, "candidate": each.candidate}
            for each in differences
        ],
        "findings": [],
        "waived": [],
        "blind": [],
        "cells": [],
        "verdicts": 0,
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
                **dict(zip(CELL_KEYS, each.cell, strict=True)),
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
        workload, target, metric, _, label = each.cell
        said: dict[str, str | float] = {"workload": workload, "target": target, "metric": metric}
        if label:
            said["parameters"] = label
        said["relative"] = round(each.limit.relative, 4)
        if each.limit.tail is not None:
            said["tail"] = round(each.limit.tail, 4)
        said["absolute"] = _plain(each.limit.absolute)
        if each.limit.maximum is not None:
            said["maximum"] = _plain(each.limit.maximum)
        lines.append(f"  - {{{', '.join(f'{key}: {json.dumps(value)}' for key, value in said.items())}}}")
    return "\n".join(lines) + "\n"


def _plain(amount: float) -> float:
    """A whole number as such: bytes are one."""
    return int(amount) if amount.is_integer() else amount


def _finding(finding: Finding) -> dict[str, Any]:
    point = finding.point
    return {
        "kind": finding.kind,
        **dict(zip(CELL_KEYS, finding.cell, strict=True)),
        "against": finding.against,
        "said": finding.said,
        "change": cell_document(finding.judged) if finding.judged else None,
        "level": point and {"before": point.before, "after": point.after, "p": point.p, "runs": point.length},
    }
