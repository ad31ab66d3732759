"""What keeps a verdict honest: a probe that finds nothing where it must find something is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.harness.audit.model import Outcome, error

if TYPE_CHECKING:
    from pybench.harness.audit.model import Probe, Verdict


def without_control(probe: Probe, verdict: Verdict) -> Verdict:
    """The verdict on the bare process, which is the positive control itself.

    Where a leak is expected of it, finding nothing means that the probe does not work here.
    """
    if probe.expected.on("process") is Outcome.LEAK and verdict.outcome is Outcome.ISOLATED:
        return error(f"the positive control found nothing: {verdict.reason}", *verdict.evidence)
    return verdict


def controlled(probe: Probe, verdict: Verdict, control: Verdict | None) -> Verdict:
    """The verdict on another target: that nothing was seen counts only if the bare process saw it.

    A leak is its own proof, and so is what does not apply.
    """
    if verdict.outcome is not Outcome.ISOLATED or probe.expected.on("process") is not Outcome.LEAK:
        return verdict
    if control is None:
        return error("the positive control was not run")
    if control.outcome is Outcome.NOT_APPLICABLE:
        return control
    if not control.is_leak:
        return error(f"the positive control did not find it either: {control.reason}", *control.evidence)
    return verdict
