"""The estimated measurement error of a reading, and whether it is too large for the value to count; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pybench.harness.measure.base import Reading
from pybench.harness.units import format_value

LARGEST_SHARE: Final = 0.01
"""Of the value: a sample whose error may be larger is rejected."""
OWN_CHANNELS: Final = frozenset({"call", "shared-memory", "pretended"})
"""Instants that the harness or the child notes itself; nobody has to be woken for them."""
PHASES: Final = "startup.phase."
WHOLE: Final = "startup.ready"


def estimated_error(reading: Reading, spreads: Mapping[str, float], lateness: float) -> float:
    """The error of one reading, in its unit.

    Args:
        reading: a span between marks, or anything else.
        spreads: channel → how much the lateness of a mark differs from mark to mark, in seconds, as
            calibrated; a channel that is not calibrated errs by the resolution of its marks.
        lateness: how long the thread that watched waited for a processor when it was woken, in seconds; it
            falls on spans that end with a pushed mark, not on those that the harness ends itself.
    """
    if not reading.ends:
        return reading.resolution if reading.error is None else reading.error
    errors = [spreads.get(channel, resolution) for channel, resolution in reading.ends]
    return sum(errors) + (0.0 if reading.channel in OWN_CHANNELS else lateness)


def rejections(readings: Sequence[Reading], errors: Sequence[float]) -> list[str]:
    """For each reading why it is rejected, or nothing.

    Phases are judged with the start they are a part of: judged by themselves the short ones would be
    dropped and the long ones kept, and what is left would be longer than the truth.
    """
    reasons = [_reason(reading, error) for reading, error in zip(readings, errors, strict=True)]
    whole = [reason for reading, reason in zip(readings, reasons, strict=True) if reading.metric == WHOLE]
    return [
        (whole[0] if whole else "") if reading.metric.startswith(PHASES) else reason
        for reading, reason in zip(readings, reasons, strict=True)
    ]


def _reason(reading: Reading, error: float) -> str:
    if reading.value is None or error <= LARGEST_SHARE * abs(reading.value):
        return ""
    value, estimate = (format_value(number, reading.unit) for number in (reading.value, error))
    return f"its estimated error of {estimate} exceeds {LARGEST_SHARE * 100:g} % of {value}"
