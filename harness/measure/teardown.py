"""Teardown: from the request to stop until the target has verified that nothing is left."""

from __future__ import annotations

from pybench.harness.measure.base import Reading, span
from pybench.harness.targets.base import Instance


def read_teardown(instance: Instance) -> list[Reading]:
    """`teardown`, between the marks `stopping` and `stopped`."""
    return [span("teardown", instance.marks, "stopping", "stopped")]
