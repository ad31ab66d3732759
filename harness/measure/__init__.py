"""The registry of measurements: what each is called, and what it reads off an instance."""

from __future__ import annotations

from typing import Final

from pybench.harness.measure.base import Measurement, Reading
from pybench.harness.measure.memory import read_memory
from pybench.harness.measure.startup import read_startup
from pybench.harness.measure.teardown import read_teardown

__all__ = ["MEASUREMENTS", "Measurement", "Reading"]

MEASUREMENTS: Final[dict[str, Measurement]] = {
    measurement.name: measurement
    for measurement in (
        Measurement(
            name="startup",
            description="request to first instruction and to readiness, and the phases in between",
            at_ready=read_startup,
        ),
        Measurement(
            name="teardown",
            description="request to stop until nothing of the instance is left",
            at_stopped=read_teardown,
        ),
        Measurement(
            name="memory",
            description="what the instance costs the host at the moment it is ready",
            at_ready=read_memory,
        ),
    )
}
