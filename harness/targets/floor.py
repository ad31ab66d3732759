"""Target `floor`: what the kernel itself takes for the container's namespaces; nothing can be faster.

clone3 with the same eight namespaces and execve of the same file: no id maps, no mounts, no
limits. (setsid and the death signal, two system calls of well under a microsecond each, are there
so that nothing is left behind.)
"""

from __future__ import annotations

from pybench.harness.targets import TargetContext, TargetSettings
from pybench.harness.targets.bare import BareTarget
from pybench.runtime.container.sandbox import NAMESPACES


class FloorTarget(BareTarget):
    """The container's namespaces and nothing else."""

    def __init__(self, settings: TargetSettings, context: TargetContext) -> None:  # noqa: ARG002
        super().__init__(context.journal, NAMESPACES, {"isolation": "namespaces only"})
