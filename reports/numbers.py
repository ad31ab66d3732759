"""Numbers and foreign strings as a reader should see them: no digit the interval does not support."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from pybench.harness.model import Estimate
from pybench.harness.units import MINUS, SCALES, format_value, grouped, plain_name

DASH = "—"
NO_BREAK_SPACE = "\u00a0"
TIMES = "×"
_WHOLE_PERCENT_FROM = 10
COUNT = ""
"""The unit of what is counted."""
UNSPACED = frozenset({TIMES, COUNT})

LEAST_DIGITS, MOST_DIGITS = 2, 3
TWO_DIGITS_BELOW = 3.545
ANOTHER_UNIT_FROM = 1000
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that may reorder, hide or break a line: control, format, surrogate, separator."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and its interval, rounded alike and in one unit.

    `value`, `low` and `high` are numerals without unit; `unit` is what is to be said after them.
    """

    value: str
    low: str
    high: str
    unit: str
    divisor: float
    decimals: int
    base: str
    """The unit the value was given in."""
    low_value: float
    """The lower end of the interval, not rounded, in the base unit."""

    @property
    def text(self) -> str:
        """E.g. `4.1 ms`, `412×`."""
        return _with_unit(self.value, self.unit)

    @property
    def interval(self) -> str:
        """E.g. `3.9–4.3 ms`."""
        numerals = self.low if self.low == self.high else f"{self.low}–{self.high}"
        return _with_unit(numerals, self.unit)

    def alike(self, value: float) -> str:
        """Another value of the same cell, in the same unit and to the same place while that reads well."""
        if abs(value / self.divisor) >= ANOTHER_UNIT_FROM and self.base in SCALES:
            return single(value, self.base)
        return _with_unit(_numeral(value / self.divisor, self.decimals), self.unit)


def quantity(value: float, low: float, high: float, unit: str) -> Quantity:
    """Round a value and its interval to the place that the interval supports.

    The rule is the Particle Data Group's ("Review of Particle Physics", section 5.3): if the three leading
    digits of the half-width lie between 100 and 354, two of its digits are kept, else one. Of the value
    between two digits (one would turn 1.4 into 1) and three are kept, of a ratio four: 1.002 would not
    show otherwise. An interval without width says nothing about precision; two digits are kept then.
    What is counted in whole numbers stays whole.
    """
    divisor, name = scale_of(value, unit)
    decimals = _decimals(value / divisor, (high - low) / divisor / 2, 4 if unit == TIMES else MOST_DIGITS)
    if unit == COUNT and all(number.is_integer() for number in map(float, (value, low, high))):
        decimals = min(decimals, 0)
    return Quantity(
        value=_numeral(value / divisor, decimals),
        low=_numeral(low / divisor, decimals),
        high=_numeral(high / divisor, decimals),
        unit=name,
        divisor=divisor,
        decimals=decimals,
        base=unit,
        low_value=low,
    )


def estimated(estimate: Estimate) -> Quantity:
    """The median of a cell with its interval."""
    return quantity(estimate.median, estimate.ci_low, estimate.ci_high, estimate.unit)


def single(value: float, unit: str, digits: int = 3) -> str:
    """One value without an interval with `digits` significant digits and its unit."""
    return format_value(value, unit, digits).replace(" ", "" if unit in UNSPACED else NO_BREAK_SPACE)


def percent_change(share: float) -> str:
    """A signed share in percent: `+1.3 %`, and whole from ten on, `+260 %`."""
    percent = share * 100
    text = f"{percent:+.0f} %" if abs(percent) >= _WHOLE_PERCENT_FROM else f"{percent:+.2g} %"
    return text.replace("-", MINUS)


def scale_of(value: float, unit: str) -> tuple[float, str]:
    """The divisor and the name of the unit in which a value of this size reads best."""
    scales = SCALES.get(unit)
    if scales is None or value == 0:
        return 1.0, plain_name(unit)
    for divisor, name in scales:
        # What would round up to the next unit is already shown in it: 1 s, not 1000 ms.
        if abs(value) >= divisor * 0.9995:
            return divisor, name
    return scales[-1]


def tied(text: str) -> str:
    """A sentence in which no line may break between a number and its unit, or within `n = 40`."""
    text = text.replace(" %", f"{NO_BREAK_SPACE}%")
    return re.sub(r"\b([np]) = ", rf"\1{NO_BREAK_SPACE}={NO_BREAK_SPACE}", text)


def visible(text: str, limit: int = 4000) -> str:
    """Foreign text made safe to look at: bounded, every control and direction character spelled out.

    Newlines and tabs stay. Of a text longer than `limit` characters the middle is left out and said so.
    """
    if len(text) > limit:
        head, tail = text[: limit // 2], text[-(limit - limit // 2) :]
        text = f"{head}\n… {len(text) - limit} characters left out …\n{tail}"
    if text.isprintable():
        return text
    return "".join(_spelled(character) for character in text.replace("\r\n", "\n"))


@lru_cache(maxsize=4096)
def one_line(text: str, limit: int = 64) -> str:
    """Foreign text as a label: like `visible`, but in one line and cut in the middle."""
    text = " ".join(visible(text, max(limit * 4, 400)).split())
    if len(text) <= limit:
        return text
    kept = limit - 1
    return f"{text[: kept - kept // 3]}…{text[-(kept // 3) :]}"


def slug(*parts: str) -> str:
    """A name for an HTML id: ASCII letters, digits, dots and dashes only; not necessarily unique."""
    return "-".join(re.sub(r"[^a-zA-Z0-9.]+", "-", part)[:60].strip("-") or "x" for part in parts)


def _spelled(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _CONTROL:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _decimals(value: float, half_width: float, most: int) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    if half_width <= 0 or not math.isfinite(half_width):
        return _decimals_for_digits(value, LEAST_DIGITS)
    place = math.floor(math.log10(half_width))
    if half_width / 10.0**place < TWO_DIGITS_BELOW:
        place -= 1
    digits = math.floor(math.log10(abs(value))) - place + 1
    return _decimals_for_digits(value, min(max(digits, LEAST_DIGITS), most))


def _decimals_for_digits(value: float, digits: int) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    return digits - 1 - math.floor(math.log10(abs(value)))


def _numeral(number: float, decimals: int) -> str:
    if not math.isfinite(number):
        return DASH
    rounded = round(number, decimals)
    if rounded == 0 and number != 0:
        rounded = round(number, decimals := _decimals_for_digits(number, 1))
    return grouped(f"{rounded:.{max(decimals, 0)}f}").replace("-", MINUS)


def _with_unit(numerals: str, unit: str) -> str:
    separator = "" if unit in UNSPACED else NO_BREAK_SPACE
    return f"{numerals}{separator}{unit}"
