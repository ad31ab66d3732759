"""Memory once it has come to rest: a start leaves things behind that are given back only a moment later."""

from __future__ import annotations

from dataclasses import replace

from pybench.harness.errors import InstanceError
from pybench.harness.measure.base import Reading
from pybench.harness.measure.memory import KIBIBYTE, PAGE, process_memory, read_memory
from pybench.harness.measure.settled import Settled, settle
from pybench.harness.targets.base import Instance

TOTAL = "memory.settled.pss"
_KEPT = {
    "memory.host.uss": "memory.settled.uss",
    "memory.kernel.charged": "memory.settled.kernel",
    "memory.guest.used": "memory.settled.guest",
}


def read_settled_memory(instance: Instance) -> list[Reading]:
    """`memory.settled.*`: the same figures as those at ready, once readings in a row agree.

    Where they do not agree in time, the spread of the last readings is the error of the figure, which is
    rejected if it is too large.
    """
    try:
        held = settle(lambda: pss(instance))
    except InstanceError as error:
        return [Reading(TOTAL, "B", None, "smaps", KIBIBYTE, error.message)]
    readings = [_settled(TOTAL, held, "smaps", KIBIBYTE)]
    if instance.cgroup_memory is not None:
        charged = settle(lambda: float(instance.cgroup_memory or 0))
        readings.append(_settled("memory.settled.cgroup", charged, "cgroup", PAGE))
    readings += [
        replace(reading, metric=_KEPT[reading.metric])
        for reading in read_memory(instance)
        if reading.metric in _KEPT
    ]
    return readings


def pss(instance: Instance) -> float:
    """Bytes of the proportional set size of an instance's processes.

    Raises:
        InstanceError: it cannot be read.
    """
    reading, *_ = process_memory(instance.processes)
    if reading.value is None:
        raise InstanceError(instance.ended or reading.reason)
    return reading.value


def _settled(metric: str, found: Settled, channel: str, resolution: float) -> Reading:
    return Reading(metric, "B", found.value, channel, resolution, error=found.spread)
