"""Numbers are rounded to what their interval supports, and foreign text is made harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.reports.numbers import one_line, percent_change, quantity, single, slug, tied, visible

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "text", "interval"),
    [
        (0.0041, 0.0039, 0.0043, "s", "4.10 ms", "3.90–4.30 ms"),
        (0.0041, 0.0036, 0.0046, "s", "4.1 ms", "3.6–4.6 ms"),
        (1.6873, 1.62, 1.75, "s", "1.69 s", "1.62–1.75 s"),
        (412.3, 390.0, 431.0, "×", "412×", "390–431×"),
        (412.3, 350.0, 470.0, "×", "410×", "350–470×"),
        (12345.0, 12000.0, 13000.0, "×", "12\u202f300×", "12\u202f000–13\u202f000×"),
        (1.0023, 1.0011, 1.0034, "×", "1.002×", "1.001–1.003×"),
        (191e6, 190e6, 192e6, "B", "182 MiB", "181–183 MiB"),
        (0.1, 0.0004, 0.3, "s", "100 ms", "0.4–300 ms"),
        (2.0, 2.0, 2.0, "s", "2.0 s", "2.0 s"),
        (0.0, 0.0, 0.0, "s", "0 s", "0 s"),
        (3.0, 2.9, 3.1, "1/s", "3.00 /s", "2.90–3.10 /s"),
        (219.7e6, 213e6, 226e6, "1/s", "220 M/s", "213–226 M/s"),
        (0.0, 0.0, 0.0, "1/s", "0 /s", "0 /s"),
        (-1.0, -1.1, -0.9, "s", "−1.00 s", "−1.10–−0.90 s"),
    ],
)
def test_rounding_follows_the_interval(  # noqa: PLR0917 - columns of the table above
    value: float, low: float, high: float, unit: str, text: str, interval: str
) -> None:
    """A value and its interval share the unit and the place that the interval's width supports."""
    rounded = quantity(value, low, high, unit)
    assert rounded.text == text.replace(" ", NBSP)
    assert rounded.interval == interval.replace(" ", NBSP)


@given(st.floats(1e-9, 1e12), st.floats(0, 2), st.sampled_from(["s", "B", "×", "1/s"]))
def test_rounding_never_moves_a_value_out_of_proportion(value: float, spread: float, unit: str) -> None:
    """Whatever the width of the interval, the rounded value stays within 5 % of the true one."""
    rounded = quantity(value, value / (1 + spread), value * (1 + spread), unit)
    shown = float(rounded.value.replace("\u202f", "")) * rounded.divisor
    assert shown == pytest.approx(value, rel=0.051)


def test_other_values_of_a_cell_are_rounded_alike() -> None:
    """A percentile takes the unit and the place of its cell's median."""
    assert quantity(0.0041, 0.0036, 0.0046, "s").alike(0.01234) == f"12.3{NBSP}ms"


def test_changes_are_told_in_percent() -> None:
    """Two digits below ten percent, whole percents from there on, and never a power of ten."""
    changes = [percent_change(share) for share in (0.0127, -0.047, 0.337, -0.5, 2.6)]
    assert changes == ["+1.3 %", "−4.7 %", "+34 %", "−50 %", "+260 %"]


def test_single_values_carry_their_unit() -> None:
    """A value without an interval shows three digits; a ratio has no space before its sign."""
    assert single(0.0012345, "s") == f"1.23{NBSP}ms"
    assert single(2.5, "×") == "2.50×"


@given(st.text(max_size=200))
def test_visible_text_has_nothing_that_acts(text: str) -> None:
    """No control, direction or separator character survives; newline and tab do."""
    shown = visible(text).replace("\n", "").replace("\t", "")
    assert shown.isprintable() or all(character.isprintable() or character.isspace() for character in shown)
    assert not set(shown) & {"\u202e", "\u2066", "\u2028", "\x1b", "\x00", "\u200f"}


def test_visible_text_names_what_it_spells_out() -> None:
    """A direction override is shown as its escape, a long text says how much is missing."""
    assert visible("a\u202eb\x1b[31m") == "a\\u202eb\\x1b[31m"
    long = visible("x" * 10_000, 100)
    assert "9900 characters left out" in long
    assert len(long) < 200


@given(st.text(max_size=500), st.integers(10, 80))
def test_labels_are_one_bounded_line(text: str, limit: int) -> None:
    """A label never breaks a line and never exceeds its limit."""
    label = one_line(text, limit)
    assert len(label) <= limit
    assert "\n" not in label


@given(st.text(max_size=100))
def test_slugs_are_plain(text: str) -> None:
    """Whatever a name holds, its id is made of ASCII letters, digits, dots and dashes."""
    assert slug(text).isascii()
    assert slug(text).replace("-", "a").replace(".", "a").isalnum()


def test_tied_sentences_break_nowhere_within_a_number() -> None:
    """A line breaks neither before a per cent sign nor within n = 40."""
    assert tied("95 % of n = 40") == f"95{NBSP}% of n{NBSP}={NBSP}40"
