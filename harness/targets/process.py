"""Target `process`: fork and exec on the host, the baseline of every comparison."""

from __future__ import annotations

from pybench.harness.targets import TargetContext, TargetSettings
from pybench.harness.targets.bare import BareTarget


class ProcessTarget(BareTarget):
    """No namespaces, no limits, the host's file tree."""

    def __init__(self, settings: TargetSettings, context: TargetContext) -> None:  # noqa: ARG002
        super().__init__(context.journal, 0, {"isolation": "none", "limits": "none"})
