"""Sizes and durations: read as people write them, and written as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

MINUS: Final = "−"
"""As typography has it: as wide as a plus, and no hyphen, at which a line may break."""
DIGITS: Final = 3
"""Significant digits of a formatted value: more would claim a precision that noisy hosts do not have."""

_SIZES: Final = {
    "B": 1,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "PIB": 2**50,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
}
_DURATIONS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_QUANTITY: Final = re.compile(r"(?P<number>\d{1,20}(?:\.\d{1,20})?)\s*(?P<unit>[A-Za-zµ]{1,3})")
_PERCENTAGE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,10})?)\s*%")
_BYTES: Final = (
    *((2.0**50, "PiB"), (2.0**40, "TiB"), (2.0**30, "GiB")),
    *((2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
)
SCALES: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": _BYTES,
    "B/s": tuple((size, f"{name}/s") for size, name in _BYTES),
    "1/s": ((1e12, "T/s"), (1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")),
}
"""Divisors, largest first, of the units that are written with prefixes; others are written as they are."""
_WHOLE: Final = frozenset({"B", "B/s"})
"""Units whose whole numbers stay whole."""
_GROUPED_FROM: Final = 5
_PLAIN_LIMIT: Final = 1e6
"""Numbers without a prefix of their own change to scientific notation from here."""


def parse_bytes(value: object) -> int:
    """Bytes from `64MiB`, `1.5 GiB`, `500kB`, or a whole number of bytes.

    Raises:
        ValueError: it is none of these, or not a whole number of bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number, factor = _quantity(value, {name: float(size) for name, size in _SIZES.items()}, upper=True)
    size = number * factor
    if size is None or size != int(size):
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return int(size)


def parse_duration(value: object) -> float:
    """Seconds from `10s`, `500ms`, `1.5min`, or a number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a duration")
        return float(value)
    number, factor = _quantity(value, _DURATIONS)
    return number * factor


def parse_share(value: object) -> float:
    """A share from `5%`, `0.5 %` or a plain number such as `0.05`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _PERCENTAGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a share, such as 5% or 0.05")
    return float(match[1]) / 100


def _quantity(value: object, units: dict[str, float], *, upper: bool = False) -> tuple[float, float]:
    example = "64MiB" if upper else "10s or 500ms"
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a number with a unit, such as {example}")
    unit = match["unit"].upper() if upper else match["unit"]
    if unit not in units:
        known = "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB" if upper else ", ".join(units)
        raise ValueError(f"{match['unit']!r} is not a unit here; known are {known}")
    return float(match["number"]), units[unit]


def format_seconds(value: float, digits: int = DIGITS) -> str:
    """A duration with the SI prefix that leaves 1 to 999 before the point: `1.23 ms`, `45.0 µs`, `75.0 s`.

    Args:
        value: seconds; a value that is not finite is written as `-`.
        digits: significant digits.
    """
    return _with_prefix(value, "s", digits)


def format_bytes(value: float, digits: int = DIGITS) -> str:
    """A size with the binary prefix that leaves 1 to 1023 before the point: `4.00 MiB`, `512 B`."""
    return _with_prefix(value, "B", digits)


def format_value(value: float, unit: str, digits: int = DIGITS) -> str:
    """A value in any unit of the model: those of `SCALES` with prefixes (`220 M/s`), others as they are.

    What is counted, and so has no unit, stays whole.
    """
    if value < 0:
        return MINUS + format_value(-value, unit, digits)
    if unit in SCALES:
        return _with_prefix(value, unit, digits)
    if not unit and float(value).is_integer() and value < _PLAIN_LIMIT:
        return f"{value:.0f}"
    return f"{_significant(value, digits)} {unit}" if unit else _significant(value, digits)


def plain_name(unit: str) -> str:
    """What a unit is called without a prefix: `/s` for `1/s`."""
    return next((name for divisor, name in SCALES.get(unit, ()) if divisor == 1), unit)


def format_span(seconds: float) -> str:
    """A waiting time for people, to the second: `42 s`, `3 min 05 s`, `1 h 02 min`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(number: int, singular: str, plural: str = "") -> str:
    """E.g. `1 launch`, `12 launches`."""
    return f"{grouped(str(number))} {singular if number == 1 else plural or singular + 's'}"


def grouped(numeral: str) -> str:
    """Thousands set apart by a narrow no-break space from five digits on, as SI recommends."""
    whole, point, fraction = numeral.partition(".")
    if len(whole.lstrip("-")) >= _GROUPED_FROM:
        whole = f"{int(whole):,}".replace(",", "\u202f")
    return whole + point + fraction


def _with_prefix(value: float, unit: str, digits: int) -> str:
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return f"0 {plain_name(unit)}"
    # Rounded first: 999.96 µs must become 1.00 ms, not 1000 µs.
    rounded = float(f"{value:.{digits}g}")
    size, scales = max(abs(value), abs(rounded)), SCALES[unit]
    divisor, name = next((scale for scale in scales if size >= scale[0] * (1 - 1e-12)), scales[-1])
    if name in _WHOLE and value == int(value):
        return f"{int(value)} {name}"
    return f"{_significant(value / divisor, digits)} {name}"


def _significant(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "-"
    if abs(value) >= _PLAIN_LIMIT:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits}g}")
    whole_digits = math.floor(math.log10(abs(rounded))) + 1 if rounded else 1
    if whole_digits > digits:
        return f"{value:.0f}"
    return f"{rounded:.{max(0, digits - whole_digits)}f}"
