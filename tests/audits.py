"""Audits made of nothing, for tests of what becomes of verdicts."""

from __future__ import annotations

from pybench.harness.audit.catalogue import find
from pybench.harness.audit.model import Audit, AuditedTarget, Judged, Kind, Verdict, isolated, leak

LABELS: dict[str, Kind] = {"process": "process", "container": "container", "vm": "vm"}


def judged(probe: str, target: str, verdict: Verdict) -> Judged:
    """One verdict."""
    return Judged(find(probe), target, LABELS[target], verdict, 0.01)


def audit(*verdicts: Judged) -> Audit:
    """An audit with these verdicts; P1 is isolated in the container unless they say otherwise."""
    entries = verdicts or (
        judged("P1", "process", leak("a process of the host was seen", "/proc/7/cmdline")),
        judged("P1", "container", isolated("none of 3 processes is the host's canary")),
        judged("U1", "container", leak("its root is the host's root", "Uid: 0 <b>|0")),
    )
    labels = dict.fromkeys(each.target for each in entries)
    targets = tuple(AuditedTarget(label, LABELS[label], 1.5, {"net": "none"}) for label in labels)
    return Audit("debian", targets, entries)
