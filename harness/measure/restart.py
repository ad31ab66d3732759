"""Restart: an instance is stopped, and the workload started again until it is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pybench.harness.measure.base import ProcedureSettings, Reading, span
from pybench.harness.measure.startup import PREPARING, READY, REQUEST

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench

LAUNCHES: Final = 2


class RestartSettings(ProcedureSettings):
    """Options of a restart."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """Two launches."""
        return LAUNCHES * launch


def measure_restart(bench: Bench) -> None:
    """`restart`: the teardown of one instance plus the start of the next.

    The harness's own check that nothing is left lies between the two and is not counted; what has to be made
    for the next instance ahead of its request is, since a restart leaves no time for it.
    """
    first = bench.launch()
    bench.stop(first)
    second = bench.launch()
    begin = PREPARING if any(mark.name == PREPARING for mark in second.marks) else REQUEST
    teardown = span("restart", first.marks, "stopping", "stopped")
    start = span("restart", second.marks, begin, READY)
    if teardown.value is None or start.value is None:
        bench.record(start if teardown.value is not None else teardown)
        return
    bench.record(
        Reading(
            "restart",
            "s",
            teardown.value + start.value,
            start.channel,
            teardown.resolution + start.resolution,
            ends=(*teardown.ends, *start.ends),
        )
    )
