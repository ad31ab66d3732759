"""Waiting until something that is read has come to rest: by readings that agree, within a bound."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

AGREEING: Final = 3
"""Readings in a row that must agree."""
INTERVAL: Final = 0.05
"""Seconds between two of them."""
LONGEST: Final = 5.0
"""Seconds after which one goes on without agreement."""
SMALLEST_SHARE: Final = 0.002
"""Of the value: readings agree when they differ by no more, or by a page."""
PAGE: Final = 4096.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The last reading."""

    value: float
    spread: float
    """Between the largest and the smallest of the last readings: how uncertain it still is."""
    is_settled: bool


def settle(read: Callable[[], float], *, longest: float = LONGEST, interval: float = INTERVAL) -> Settled:
    """Read again and again until readings in a row agree.

    Args:
        read: gives bytes.
        longest: seconds after which the last reading has to do.
        interval: seconds between readings.

    Raises:
        InstanceError: whatever `read` raises.
    """
    began = time.monotonic()
    values: deque[float] = deque(maxlen=AGREEING)
    while True:
        values.append(read())
        spread = max(values) - min(values)
        agrees = len(values) == AGREEING and spread <= max(PAGE, SMALLEST_SHARE * values[-1])
        if agrees or time.monotonic() - began >= longest:
            return Settled(values[-1], spread, agrees)
        time.sleep(interval)
