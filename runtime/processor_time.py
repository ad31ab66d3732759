"""How much of the host's processors a process has had."""

from __future__ import annotations

import time
from typing import Final

from pybench.runtime.errors import InstanceError

_SCHEDULED: Final = 2
"""CPUCLOCK_SCHED of include/linux/posix-timers.h: nanoseconds that the scheduler has given to the process."""


def read_processor_time(pid: int) -> float:
    """Seconds of all threads of a process, its ended ones included, to the nanosecond.

    Raises:
        InstanceError: there is no such process.
    """
    try:
        # The clock of another process, as clock_getcpuclockid(3) makes its id.
        return time.clock_gettime(~pid << 3 | _SCHEDULED)
    except OSError as error:
        raise InstanceError(f"process {pid} has ended") from error
