"""Start-up: from the request to the workload's first instruction and to readiness."""

from __future__ import annotations

from itertools import pairwise

from pybench.harness.measure.base import Reading, span
from pybench.harness.targets.base import Instance

PREPARING, REQUEST, EXEC, READY = "preparing", "request", "exec", "ready"


def read_startup(instance: Instance) -> list[Reading]:
    """`startup.ahead`, `startup.exec`, `startup.ready` and `startup.phase.*`, each where it applies.

    `startup.ahead` is what was done for this one instance before the request (its control group, its
    sockets); it is no part of `startup.ready`, and told so that nobody has to guess what was prepared.
    `startup.exec` is there where the workload marks its first instruction.

    A phase is the span between two neighbouring marks and is named after the later one. Marks are whole
    nanoseconds, so the phases of an instance add up to its `startup.ready` exactly.
    """
    marks = instance.marks
    names = [mark.name for mark in marks]
    readings = [span("startup.ahead", marks, PREPARING, REQUEST)] if PREPARING in names else []
    if EXEC in names:
        readings.append(span("startup.exec", marks, REQUEST, EXEC))
    readings.append(span("startup.ready", marks, REQUEST, READY))
    if readings[-1].value is not None:
        starting = marks[names.index(REQUEST) : names.index(READY) + 1]
        readings += [
            span(f"startup.phase.{later.name}", marks, earlier.name, later.name)
            for earlier, later in pairwise(starting)
        ]
    return readings
