"""Trends show where a median went; a policy keeps what it says and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from store_behaviour import RUN

from pybench.harness.history import BARS, MISSING, Policy, runs_to_prune, sparkline, trends
from pybench.harness.model import Run

NOW = datetime(2026, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"),
        ([3, None, 1, math.nan], "█·▁·"),
        ([2.0, 2.0], "▁▁"),
        ([None], "·"),
        ([], ""),
        ([-1e308, 1e308], "▁█"),
    ],
)
def test_a_sparkline_goes_from_the_least_to_the_most(values: list[float | None], line: str) -> None:
    """Missing values keep their place, and equal ones are a flat line."""
    assert sparkline(values) == line


@example([0.0, 5e-324])
@example([-1.7e308, 1.7e308])
@given(st.lists(st.none() | st.floats()))
def test_a_sparkline_has_one_bar_per_value(values: list[float | None]) -> None:
    """Whatever the values are."""
    line = sparkline(values)
    assert len(line) == len(values)
    assert set(line) <= {*BARS, MISSING}


def test_a_trend_has_a_place_for_every_run() -> None:
    """Medians of each cell in the order of the runs, with a gap where a run lacks it."""
    cell, other = ("ready", "vm", "s", ""), ("ready", "container", "s", "memory=1GiB")
    found = trends(["a", "b", "c"], {"a": {cell: [3.0, 1.0, 2.0]}, "c": {cell: [4.0], other: [1.0]}})
    assert [(trend.target, trend.parameters, trend.medians) for trend in found] == [
        ("vm", "", (2.0, None, 4.0)),
        ("container", "memory=1GiB", (None, None, 1.0)),
    ]
    assert found[0].ends == (2.0, 4.0)


def daily(days: int) -> list[Run]:
    """One run a day, the last one on the day before NOW."""
    moments = [NOW - timedelta(days=day) for day in range(days, 0, -1)]
    return [
        replace(RUN, id=f"{moment:%m-%d}", started=f"{moment:%Y-%m-%d}T12:00:00.000Z", status="done")
        for moment in moments
    ]


def kept(runs: list[Run], policy: Policy, protected: frozenset[str] = frozenset()) -> list[str]:
    """The ids that are kept, the oldest first."""
    doomed = {
        run.id for run in runs_to_prune(runs[::-1], policy, protected, lambda run: (run.scenario,), NOW)
    }
    return [run.id for run in runs if run.id not in doomed]


def test_rules_add_up() -> None:
    """What any rule keeps is kept: the newest, the young, the last of a week or month, the protected."""
    runs = daily(75)
    assert kept(runs, Policy(last=3)) == ["03-28", "03-29", "03-30"]
    assert kept(runs, Policy(within=timedelta(days=2))) == ["03-29", "03-30"]
    assert kept(runs, Policy(weekly=3)) == ["03-22", "03-29", "03-30"]
    assert kept(runs, Policy(monthly=2)) == ["02-28", "03-30"]
    assert kept(runs, Policy(last=1, monthly=3)) == ["01-31", "02-28", "03-30"]
    assert kept(runs, Policy(last=1), frozenset({"02-02"})) == ["02-02", "03-30"]


def test_a_policy_counts_each_group_by_itself_and_spares_what_goes_on() -> None:
    """A second scenario does not push the runs of the first one out, and a running run stays."""
    runs = daily(4)
    runs[0] = replace(runs[0], status="running")
    runs[1] = replace(runs[1], scenario="density")
    assert kept(runs, Policy(last=1)) == [runs[0].id, runs[1].id, runs[3].id]
