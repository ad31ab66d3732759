"""How a run stands against its past: baseline, verdicts, and the level of the runs before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pybench.harness.comparison.nights import Series
from pybench.harness.gate.check import GateResult
from pybench.harness.model import Run


@dataclass(frozen=True, slots=True)
class Standing:
    """One run and what came before it."""

    baseline: Run | None = None
    """None where there is none."""
    forbidding: tuple[str, ...] = ()
    """Fields of the environment, or `<target>.<qualifier>`, whose difference forbids the comparison."""
    result: GateResult | None = None
    """None without a baseline, or where the comparison is forbidden."""
    series: Series = field(default_factory=dict)
    """What the finished runs that are alike were like, the oldest first, with this run as the last."""
    started: Mapping[str, str] = field(default_factory=dict)
    """When the runs of `series` were started, ISO 8601 in UTC."""


NO_PAST: Final = Standing()
"""Of a run about whose past nothing is known."""
