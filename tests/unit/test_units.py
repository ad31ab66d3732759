"""Sizes and durations are read and written as people do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.units import (
    count,
    format_bytes,
    format_seconds,
    format_span,
    format_value,
    parse_bytes,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("500kB", 500_000),
        ("12B", 12),
        (4096, 4096),
        ("1mib", 2**20),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    """A size is a number with a binary or decimal unit, or a whole number of bytes."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("500ms", 0.5), ("1.5min", 90.0), ("2h", 7200.0), (3, 3.0), (0.25, 0.25)],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    """A duration is a number with a unit, or a number of seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1MiB", "1e9B", "64", "64XB", "0.3B", True, None, [1], "9" * 40 + "B"]
)
def test_nonsense_sizes_are_refused(text: object) -> None:
    """Anything that is not a whole number of bytes is an error."""
    with pytest.raises(ValueError, match=r"."):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "s", "-1s", "10", "10 m", True, None, math.inf, math.nan])
def test_nonsense_durations_are_refused(text: object) -> None:
    """Anything that is not a finite number of seconds is an error."""
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00123, "1.23 ms"),
        (45e-6, "45.0 µs"),
        (75.04, "75.0 s"),
        (0.9999e-3, "1.00 ms"),
        (999e-6, "999 µs"),
        (3600, "3600 s"),
        (0, "0 s"),
        (-0.002, "-2.00 ms"),
        (3e-10, "0.300 ns"),
        (math.nan, "-"),
    ],
)
def test_seconds_are_written(seconds: float, text: str) -> None:
    """Three significant digits with the prefix that leaves 1 to 999 before the point."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512, "512 B"), (4 * 2**20, "4.00 MiB"), (245.3 * 2**20, "245 MiB"), (2**40, "1.00 TiB")],
)
def test_bytes_are_written(size: float, text: str) -> None:
    """Sizes have binary prefixes; below 1 KiB they are whole bytes."""
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "s", "500 ms"),
        (2048, "B", "2.00 KiB"),
        (512, "B/s", "512 B/s"),
        (0, "B/s", "0 B/s"),
        (3 * 2**30, "B/s", "3.00 GiB/s"),
        (math.nan, "B/s", "-"),
        (0, "1/s", "0 /s"),
        (0.0625, "1/s", "0.0625 /s"),
        (12.34, "1/s", "12.3 /s"),
        (999.9, "1/s", "1.00 k/s"),
        (86_000, "1/s", "86.0 k/s"),
        (219_700_000, "1/s", "220 M/s"),
        (1.5, "", "1.50"),
        (4.0, "", "4"),
        (0, "", "0"),
        (123_456.0, "", "123456"),
        (-0.002, "s", "−2.00 ms"),
        (-3.0, "", "−3"),
        (12.34, "verdict", "12.3 verdict"),
    ],
)
def test_values_are_written_with_the_prefix_of_their_unit(value: float, unit: str, text: str) -> None:
    """Times and rates have SI prefixes, sizes binary ones; any other unit follows its number.

    What is counted stays whole, and what is negative has a minus sign and no hyphen.
    """
    assert format_value(value, unit) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 directories"), (1, "1 directory"), (12345, "12\u202f345 directories")]
)
def test_one_thing_is_singular(number: int, text: str) -> None:
    """The plural is for any other number, and long numbers are grouped."""
    assert count(number, "directory", "directories") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (42, "42 s"), (185, "3 min 05 s"), (3725, "1 h 02 min"), (-3, "0 s")]
)
def test_waiting_times_are_written_to_the_second(seconds: float, text: str) -> None:
    """A waiting time is told in the units that people wait in."""
    assert format_span(seconds) == text


@given(st.floats(min_value=1e-9, max_value=900))
def test_what_is_written_can_be_read(seconds: float) -> None:
    """A formatted duration is within its three digits of the value."""
    assert parse_duration(format_seconds(seconds)) == pytest.approx(seconds, rel=0.006)


@given(st.integers(min_value=0, max_value=2**55))
def test_written_sizes_are_near(size: int) -> None:
    """A formatted size is within its three digits of the value."""
    number, unit = format_bytes(size).split(" ")
    factor = parse_bytes(f"1{unit}")
    assert float(number) * factor == pytest.approx(size, rel=0.006)
