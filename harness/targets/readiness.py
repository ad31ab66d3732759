"""A workload's readiness in the words of the spawner."""

from __future__ import annotations

from pybench.harness.model import Workload
from pybench.harness.targets.base import ImageFiles
from pybench.runtime.container.instance import Readiness


def spawn_readiness(workload: Workload, image: ImageFiles) -> Readiness:
    """Which marks the spawner waits for."""
    readiness = workload.readiness
    return Readiness(
        marking=workload.command[0] in image.marking,
        line=readiness.text if readiness.level == "line" else None,
    )
