"""What keeps a verdict honest: a probe that finds nothing where it must find something is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.harness.audit.model import Outcome, error, not_applicable

if TYPE_CHECKING:
    from pybench.harness.audit.model import Probe, Verdict


def without_control(probe: Probe, verdict: Verdict, *, privileged: bool) -> Verdict:
    """The verdict on the bare process, which is the positive control itself.

    Where a leak is expected of it, finding nothing means that the probe does not work here; or, where the
    harness is not root, that its user may not do it either, so that nothing can be proved.
    """
    if probe.expected.on("process") is not Outcome.LEAK or verdict.outcome is not Outcome.ISOLATED:
        return verdict
    if not privileged:
        return not_applicable(f"nobody but root could, so that nothing is proved: {verdict.reason}")
    return error(f"the positive control found nothing: {verdict.reason}", *verdict.evidence)


def controlled(probe: Probe, verdict: Verdict, control: Verdict | None) -> Verdict:
    """The verdict on another target: that nothing was seen counts only if the bare process saw it.

    A leak is its own proof, and so is what does not apply.
    """
    if verdict.outcome is not Outcome.ISOLATED or probe.expected.on("process") is not Outcome.LEAK:
        return verdict
    if control is None:
        return error("the positive control was not run")
    return verdict if control.is_leak else control
