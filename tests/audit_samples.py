"""Verdicts of an audit as the record holds them, for the tests of reports."""

from __future__ import annotations

from collections.abc import Mapping

from pybench.harness.audit.model import Outcome
from pybench.harness.audit.record import VALUES
from pybench.harness.model import Sample

SEVERITIES = {"P1": "high", "P4": "low", "U1": "high", "N4": "critical", "M4": "medium", "X7": "low"}
LEAK, ISOLATED, SHARED = Outcome.LEAK, Outcome.ISOLATED, Outcome.SHARED
NOTHING, ERROR = Outcome.NOT_APPLICABLE, Outcome.ERROR
OUTCOMES: Mapping[str, Mapping[str, Outcome]] = {
    "process": {"P1": LEAK, "P4": LEAK, "U1": LEAK, "N4": LEAK, "M4": LEAK, "X7": LEAK},
    "container": {"P1": ISOLATED, "P4": ISOLATED, "U1": ISOLATED, "N4": ISOLATED, "M4": LEAK, "X7": SHARED},
    "vm": {"P1": ISOLATED, "P4": ISOLATED, "U1": ISOLATED, "N4": ISOLATED, "M4": NOTHING, "X7": ERROR},
}
TITLES = {"P1": "Processes of the host are visible", "M4": "The root filesystem is writable"}


def verdict(target: str, probe: str, outcome: Outcome, reason: str, *, order: int = 5000) -> Sample:
    """One verdict; the lines of `reason` after the first are the evidence."""
    value = VALUES.get(outcome)
    qualifiers = {"verdict": outcome.value, "severity": SEVERITIES.get(probe, "low")}
    if target == "vm":
        qualifiers["accel"] = "tcg"
    return Sample(
        "audit", target, f"isolation.{probe}", "verdict", value, 0, False, order, "audit", 0.0, qualifiers,
        "failed" if value is None else "ok", reason,
    )  # fmt: skip


def audit_samples() -> list[Sample]:
    """An audit of three targets: everything leaks from the process, one thing from the container."""
    found: list[Sample] = []
    for target, outcomes in OUTCOMES.items():
        for probe, outcome in outcomes.items():
            reason = (
                f"{probe} on {target}.\nread: token-{probe}" if outcome is LEAK else f"{probe} saw nothing."
            )
            found.append(verdict(target, probe, outcome, reason, order=5000 + len(found)))
    return found
