"""The estimated measurement error of a reading, and whether it is too large for the value to count; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.measure.base import Reading
from pybench.harness.model import parameter_label
from pybench.harness.units import format_value

if TYPE_CHECKING:
    from pybench.harness.runner.calibration import Latency

LARGEST_SHARE: Final = 0.01
"""Of the value: a sample whose error may be larger is rejected."""
OWN_CHANNELS: Final = frozenset({"call", "shared-memory", "workload-clock", "pretended"})
"""Instants that the harness, the child or the workload notes itself; nobody has to be woken for them."""
PHASES: Final = "startup.phase."
WHOLE: Final = "startup.ready"


def estimated_error(reading: Reading, calibration: Mapping[str, Latency], lateness: float) -> float:
    """The error of one reading, in its unit.

    The usual latency of a channel is in every sample alike. What errs is by how much a mark is later or
    earlier than usual: by chance, as calibrated, and because whoever watched had to wait for a processor. All
    this is a part of a span that is that of whoever asked; only the clock errs there.

    Args:
        reading: a span between marks, or anything else.
        calibration: channel → how late its marks are seen, in seconds; a channel that is not calibrated, or
            only in part, errs by the resolution of its marks.
        lateness: how long the thread that watched waited for a processor when it was woken, in seconds; what
            exceeds the usual latency falls on spans that end with a pushed mark, not on those that the
            harness ends itself.
    """
    if not reading.ends:
        return reading.resolution if reading.error is None else reading.error
    if reading.by_requester:
        return 2 * reading.ends[0][1]
    error = 0.0
    for channel, resolution in reading.ends:
        known = calibration.get(channel)
        error += known.probable_error if known is not None and known.is_whole else resolution
    if reading.channel in OWN_CHANNELS:
        return error
    usual = calibration[reading.channel].median if reading.channel in calibration else 0.0
    return error + max(0.0, lateness - usual)


def rejections(readings: Sequence[Reading], errors: Sequence[float]) -> list[str]:
    """For each reading why it is rejected, or nothing.

    Phases are judged with the start they are a part of: judged by themselves the short ones would be
    dropped and the long ones kept, and what is left would be longer than the truth. For the same reason
    several values of one metric that are recorded together are judged by the one in their middle.
    """
    middles = _middles(readings)
    reasons = [
        _reason(middles.get((reading.metric, parameter_label(reading.parameters)), reading), reading, error)
        for reading, error in zip(readings, errors, strict=True)
    ]
    whole = [reason for reading, reason in zip(readings, reasons, strict=True) if reading.metric == WHOLE]
    return [
        (whole[0] if whole else "") if reading.metric.startswith(PHASES) else reason
        for reading, reason in zip(readings, reasons, strict=True)
    ]


def _middles(readings: Sequence[Reading]) -> dict[tuple[str, str], Reading]:
    """Of each metric of which there are several values, the middle one."""
    together: defaultdict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        if reading.value is not None:
            together[reading.metric, parameter_label(reading.parameters)].append(reading)
    return {
        key: sorted(found, key=lambda each: each.value or 0.0)[len(found) // 2]
        for key, found in together.items()
        if len(found) > 1
    }


def _reason(judged: Reading, reading: Reading, error: float) -> str:
    if reading.value is not None and reading.doubt:
        return reading.doubt
    if reading.value is None or judged.value is None or error <= LARGEST_SHARE * abs(judged.value):
        return ""
    value, estimate = (format_value(number, reading.unit) for number in (judged.value, error))
    return f"its estimated error of {estimate} exceeds {LARGEST_SHARE * 100:g} % of {value}"
