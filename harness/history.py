"""What the record tells over time: trends of medians, and which runs a policy keeps. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pybench.harness.model import Run

BARS: Final = "▁▂▃▄▅▆▇█"
MISSING: Final = "·"

CellName = tuple[str, str, str, str]
"""Workload, target, unit, label of the parameters."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The median of one cell over runs; None where a run does not have it."""

    workload: str
    target: str
    unit: str
    parameters: str
    """Their label."""
    medians: tuple[float | None, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last median there is; a trend has at least one."""
        known = [value for value in self.medians if value is not None]
        return known[0], known[-1]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which runs are kept, whatever their age; a run that any rule keeps is kept.

    Each rule looks at the runs of one scenario on one host and branch by themselves.
    """

    last: int = 0
    """The newest so many."""
    within: timedelta = timedelta(0)
    """Those not older than this."""
    weekly: int = 0
    """The newest of each of the last so many weeks that have runs."""
    monthly: int = 0
    """The same by month."""


def trends(run_ids: Sequence[str], values: Mapping[str, Mapping[CellName, Sequence[float]]]) -> list[Trend]:
    """The trend of every cell over the runs, in the order of the runs."""
    cells = dict.fromkeys(cell for name in run_ids for cell in values.get(name, {}))
    return [
        Trend(*cell, tuple(_median(values.get(name, {}).get(cell)) for name in run_ids)) for cell in cells
    ]


def sparkline(values: Sequence[float | None]) -> str:
    """One bar per value, from the smallest to the largest of them; a flat line where all are equal."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return MISSING * len(values)
    low, high = min(known), max(known)
    # The difference of two large numbers can be more than a float holds, half of a tiny one can be nothing.
    part = 0.5 if math.isinf(high - low) else 1.0

    def bar(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return MISSING
        if high == low:
            return BARS[0]
        share = (value * part - low * part) / (high * part - low * part)
        return BARS[min(len(BARS) - 1, int(share * len(BARS)))]

    return "".join(map(bar, values))


def runs_to_prune(
    runs: Sequence[Run],
    policy: Policy,
    protected: frozenset[str],
    group: Callable[[Run], tuple[str, ...]],
    now: datetime,
) -> list[Run]:
    """The runs that nothing keeps, the oldest first.

    Args:
        runs: all runs, in any order.
        policy: what is kept.
        protected: ids that are kept in any case, such as baselines.
        group: what runs have in common that compete for the same places.
        now: the time that `within` counts back from.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.id), reverse=True):
        groups.setdefault(group(run), []).append(run)
    kept = set(protected) | {run.id for run in runs if run.status == "running"}
    for members in groups.values():
        kept |= {run.id for run in members[: policy.last]}
        kept |= {run.id for run in members if policy.within and _moment(run) >= now - policy.within}
        kept |= _newest_of_periods(members, policy.weekly, lambda moment: f"{moment:%G-%V}")
        kept |= _newest_of_periods(members, policy.monthly, lambda moment: f"{moment:%Y-%m}")
    return [run for run in sorted(runs, key=lambda run: (run.started, run.id)) if run.id not in kept]


def _newest_of_periods(runs: Sequence[Run], periods: int, name: Callable[[datetime], str]) -> set[str]:
    """Of runs that are sorted, the newest first: the first of each of the first `periods` periods."""
    newest: dict[str, str] = {}
    for run in runs:
        newest.setdefault(name(_moment(run)), run.id)
    return set(list(newest.values())[:periods])


def _moment(run: Run) -> datetime:
    moment = datetime.fromisoformat(run.started)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _median(values: Sequence[float] | None) -> float | None:
    return median(values) if values else None
