"""Ticks of axes carry their unit and read alike."""

from __future__ import annotations

from pybench.reports.axes import value_axis


def test_ticks_of_one_axis_have_as_many_places() -> None:
    """1.50 ms stands beside 1.55 ms, not 1.5 ms."""
    ticks = value_axis([1.41e-3, 1.58e-3], "s")["ticktext"]
    assert {"1.45 ms", "1.50 ms", "1.55 ms"} <= set(ticks)
    assert {len(tick) for tick in ticks} == {len("1.50 ms")}


def test_rates_have_prefixes_on_axes() -> None:
    """A rate over decades reads 1 k/s, 10 k/s and so on, from zero 50 M/s, 100 M/s."""
    assert value_axis([2e3, 3e6], "1/s")["ticktext"] == ["10 k/s", "100 k/s", "1 M/s"]
    assert "100 M/s" in value_axis([2.2e8, 1.1e8], "1/s", from_zero=True)["ticktext"]


def test_decades_of_bytes_each_second_are_whole_in_their_binary_unit() -> None:
    """An axis of bytes each second has ticks at 1 and 10 MiB/s as one of bytes has at 1 and 10 MiB."""
    ticks = {unit: value_axis([2.0**20, 2.0**34], unit)["ticktext"] for unit in ("B", "B/s")}
    assert ticks["B/s"] == [f"{tick}/s" for tick in ticks["B"]]
    assert "100 MiB/s" in ticks["B/s"]
