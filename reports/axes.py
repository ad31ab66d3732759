"""Axes and labels of the figures: ticks that carry their unit, logarithmic only where spans demand it."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from pybench.reports.numbers import NO_BREAK_SPACE, UNSPACED, scale_of

LOG_SPAN = 20.0
"""From this ratio of largest to smallest value on, a linear axis would press the small ones flat."""
MARGIN = 1.8
"""A logarithmic axis goes on by this factor beyond its values, so that a label has room."""
FEWEST_DECADES = 3
MOST_TICKS = 6


def percent_ticks() -> dict[str, Any]:
    """Ticks at the quarters of an axis of shares."""
    quarters = (0, 25, 50, 75, 100)
    return {
        "tickvals": [each / 100 for each in quarters],
        "ticktext": [f"{each}{NO_BREAK_SPACE}%" for each in quarters],
    }


def is_log(values: Sequence[float]) -> bool:
    """Whether these values want a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > LOG_SPAN


def scale_words(values: Sequence[float]) -> str:
    """What a caption has to say about the axis."""
    return " The axis is logarithmic: every step is a factor of ten." if is_log(values) else ""


def value_axis(values: Sequence[float], unit: str, *, from_zero: bool = False) -> dict[str, Any]:
    """Ticks that carry their unit, so that an axis over decades reads 1 ms, 10 ms, … 1 s."""
    if not values:
        return {}
    low, high = min(values), max(values)
    if is_log(values):
        ticks = _decades(low, high, binary=unit in {"B", "B/s"})
        return {
            "type": "log",
            "range": [math.log10(low / MARGIN), math.log10(high * MARGIN)],
            "tickvals": ticks,
            "ticktext": [_tick(tick, unit, tick) for tick in ticks],
        }
    if from_zero and low >= 0:
        low = 0.0
    padding = 0.08 * (high - low) or abs(high) or 1.0
    low, high = (low - padding if low else 0.0), high + padding
    divisor, _ = scale_of(max(abs(low), abs(high)), unit)
    numerals = _linear_ticks(low / divisor, high / divisor)
    places = max((len(f"{each:.6g}".partition(".")[2]) for each in numerals), default=0)
    ticks = [numeral * divisor for numeral in numerals]
    return {
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [_tick(tick, unit, max(abs(low), abs(high)), places) for tick in ticks],
    }


def _decades(low: float, high: float, *, binary: bool) -> list[float]:
    """Powers of ten; of bytes, powers of ten times the binary unit they are shown in."""
    powers = []
    for exponent in range(math.floor(math.log10(low / MARGIN)) - 1, math.ceil(math.log10(high * MARGIN)) + 1):
        is_prefixed = binary and exponent >= 0
        powers.append(1024.0 ** (exponent // 3) * 10 ** (exponent % 3) if is_prefixed else 10.0**exponent)
    shown = [tick for tick in powers if low / MARGIN <= tick <= high * MARGIN]
    if len(shown) >= FEWEST_DECADES:
        return shown
    halves = (tick * factor for tick in powers for factor in (1, 3))
    return [tick for tick in halves if low / MARGIN <= tick <= high * MARGIN]


def _linear_ticks(low: float, high: float) -> list[float]:
    """Four to six ticks at 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= MOST_TICKS)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(value: float, unit: str, reference: float, places: int | None = None) -> str:
    """A tick with its unit; ticks of one axis have as many places behind the point as each other."""
    divisor, name = scale_of(reference, unit)
    numeral = f"{value / divisor:.6g}" if places is None else f"{value / divisor:.{places}f}"
    return plotly_text(f"{numeral}{'' if name in UNSPACED else ' '}{name}")


def text_position(value: float, values: Sequence[float], near: float = 0.12) -> str:
    """Above the mark, and near an end of the axis to its inner side, where there is room on a phone too.

    Args:
        value: where the mark is.
        values: all that the axis shows.
        near: the share of the axis that counts as near an end; by 0.5 all text is on the side with more room.
    """
    low, high = min(values), max(values)
    if high == low:
        return "top center"
    place = (
        math.log(value / low) / math.log(high / low) if is_log(values) else value / high if high > 0 else 0.5
    )
    return "top right" if place < near else "top left" if place > 1 - near else "top center"


def plotly_text(text: str) -> str:
    """Plotly takes a few HTML tags in its labels; foreign text must not bring any."""
    return html.escape(text.replace("%{", "% {"), quote=False)
