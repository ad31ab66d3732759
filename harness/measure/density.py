"""Density: how many instances the host holds, and what each further one costs in memory and in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import psutil
from pydantic import Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Duration, MemorySize
from pybench.harness.measure.base import ProcedureSettings, Reading, span
from pybench.harness.measure.memory import PAGE, kernel_bytes
from pybench.harness.measure.settled import settle
from pybench.harness.measure.settled_memory import pss
from pybench.harness.measure.startup import READY, REQUEST

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.stats.fit import Line
    from pybench.harness.targets.base import Instance

INSTANCES: Final = "instances"
"""The parameter: how many are alive."""
ALIVE: Final = "density.instances"
SETTLING: Final = 1.0
"""Seconds for the memory of all instances to come to rest after each launch, at most."""
HIGHEST: Final = 1e9
"""Instances; a prediction beyond this says only that there is no limit."""


class DensitySettings(ProcedureSettings):
    """Options of a density ramp."""

    most: Annotated[int, Field(strict=True, ge=2, le=10_000)] = 16
    """Instances, where no parameter `instances` says it."""
    reserve: MemorySize = 512 * 2**20
    """Memory of the host that is left alone: the ramp ends before, and no prediction counts on it."""
    start_limit: Duration | None = None
    """The longest start that is acceptable, for the prediction; without it memory alone limits."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:
        """A launch for each, and the waiting for its memory to settle."""
        return int(parameters.get(INSTANCES, self.most)) * (launch + 0.2)


class _Ramp:
    """The instances that are alive, and the points measured so far."""

    def __init__(self) -> None:
        self.alive: list[Instance] = []
        self.counts: list[float] = []
        self.memory: list[float] = []
        self.starts: list[float] = []
        self.available_before = float(psutil.virtual_memory().available)

    def held(self) -> float:
        """Bytes of all instances' processes, and of what the kernel keeps for them."""
        return sum(pss(instance) + kernel_bytes(instance) for instance in self.alive)

    def check(self) -> None:
        """Raise where one has died.

        Raises:
            InstanceError: number and reason.
        """
        for number, instance in enumerate(self.alive, 1):
            if reason := instance.ended:
                raise InstanceError(
                    f"instance {number} of {len(self.alive)} has died: {reason}", log=instance.output
                )

    def has_room(self, reserve: int) -> bool:
        """Whether one more, as large as the largest step so far, leaves the reserve alone."""
        steps = [after - before for before, after in zip([0.0, *self.memory], self.memory, strict=False)]
        return psutil.virtual_memory().available - max(steps, default=0.0) > reserve


def measure_density(bench: Bench) -> None:
    """`density.*`: launches one instance after the other, and keeps all of them alive until the end.

    After each launch `density.start` is its start beside those that are alive, and `density.memory` what all
    of them take, once that has settled: the proportional set sizes of their processes, in which a page that
    several share counts once, plus what the kernel keeps for them, as far as that can be told of a single
    one. Lines through these points give what each further instance costs. `density.host` is by how much less
    memory is available on the whole host than before the ramp: all of the cost, and whatever else happens.

    The ramp ends with the wanted number, before the host's memory runs out, or when an instance fails or
    dies; that is a failed sample of `density.instances`, and what was measured until then is kept.
    """
    settings = bench.options(DensitySettings)
    most = int(bench.parameters.get(INSTANCES, settings.most))
    ramp = _Ramp()
    ended = f"all {most} are alive"
    try:
        for number in range(1, most + 1):
            if not ramp.has_room(settings.reserve):
                ended = "the memory of the host"
                break
            _add_one(bench, ramp, number)
        bench.record(Reading(ALIVE, "", len(ramp.alive), "count", 0.0, qualifiers={"ended": ended}))
    finally:
        bench.record(*_fitted(ramp, settings))


def _add_one(bench: Bench, ramp: _Ramp, number: int) -> None:
    instance = bench.launch()
    ramp.alive.append(instance)
    start = span("density.start", instance.marks, REQUEST, READY)
    try:
        held = settle(ramp.held, longest=SETTLING)
    finally:
        # Also where its memory could not be read: this says which one has died, and how.
        ramp.check()
    at = {INSTANCES: number}
    memory = Reading("density.memory", "B", held.value, "smaps", PAGE, error=held.spread, parameters=at)
    gone = ramp.available_before - psutil.virtual_memory().available
    bench.record(
        Reading("density.host", "B", gone, "meminfo", PAGE, error=0.0, parameters=at),
        Reading(
            start.metric, "s", start.value, start.channel, start.resolution, start.reason, ends=start.ends,
            parameters=at,
        ),
        memory,
    )  # fmt: skip
    if start.value is not None:
        ramp.counts.append(float(number))
        ramp.memory.append(held.value)
        ramp.starts.append(start.value)


def _fitted(ramp: _Ramp, settings: DensitySettings) -> list[Reading]:
    """What lines through the points say; nothing where there are too few."""
    # numpy and scipy; loaded when nothing runs that they could disturb.
    from pybench.harness.stats.fit import line  # noqa: PLC0415

    memory, starts = line(ramp.counts, ramp.memory), line(ramp.counts, ramp.starts)
    if memory is None or starts is None:
        return []
    room = ramp.available_before - settings.reserve
    readings = [*_line("density.memory", "B", memory), *_line("density.start", "s", starts)]
    readings += _predicted("density.predicted.memory", memory, room)
    if settings.start_limit is not None:
        readings += _predicted("density.predicted.start", starts, settings.start_limit)
    return readings


def _line(metric: str, unit: str, found: Line) -> list[Reading]:
    values = {"each": found.slope, "each.low": found.low, "each.high": found.high}
    readings = [
        Reading(f"{metric}.{name}", unit, value, "fit", 0.0, error=0.0) for name, value in values.items()
    ]
    return [*readings, Reading(f"{metric}.fit", "", found.determination, "fit", 0.0, error=0.0)]


def _predicted(metric: str, found: Line, limit: float) -> list[Reading]:
    """The number at which a line reaches a limit, and the range that the interval of its slope gives.

    Nothing where the line is not shown to rise: what scatter happens to add up to is no prediction.
    """
    if found.low <= 0:
        return []
    readings = []
    # The steeper the line, the fewer there is room for.
    for name, slope in (("", found.slope), (".low", found.high), (".high", found.low)):
        number = (limit - found.intercept) / slope
        if 0 <= number < HIGHEST:
            readings.append(Reading(metric + name, "", float(int(number)), "fit", 1.0, error=0.0))
        elif not name:
            return []
    return readings
