"""Target `process`: fork and exec on the host, the baseline of every comparison."""

from __future__ import annotations

from pybench.harness.targets import ProcessSettings, TargetContext
from pybench.harness.targets.bare import BareTarget


class ProcessTarget(BareTarget):
    """No namespaces, the host's file tree, and no limits unless they are asked for."""

    def __init__(self, settings: ProcessSettings, context: TargetContext) -> None:
        qualifiers = {"isolation": "none"}
        super().__init__(context.journal, 0, qualifiers, limited=settings.limited, disk=context.directory)
