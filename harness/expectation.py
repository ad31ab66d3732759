"""How long a scenario will take: by earlier runs of it where there are any, else by what is typical."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from pybench.harness.conditions import STEP_SECONDS
from pybench.harness.model import parameter_label
from pybench.harness.plan import most_warmups
from pybench.harness.store import RunFilter
from pybench.harness.targets import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybench.harness.model import Combination, Scenario
    from pybench.harness.store import Store

RUNS: Final = 3
"""Earlier runs that are asked, the latest first."""
Key = tuple[str, str, str]
"""Of a combination: workload, target, label of the parameters."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is planned for one combination, and how long it will take."""

    combination: Combination
    warmups: int
    """At most."""
    launch_seconds: float
    is_measured: bool
    """By earlier runs; otherwise it is what is typical of the kind of target."""

    @property
    def launches(self) -> int:
        """At most, warm-ups included."""
        return self.warmups + self.combination.target.repetitions

    @property
    def seconds(self) -> float:
        """For all of its launches."""
        return self.launches * self.launch_seconds


def expect(scenario: Scenario, measured: Mapping[Key, float]) -> tuple[Expectation, ...]:
    """One expectation for each combination, in the scenario's order.

    Args:
        scenario: what is planned.
        measured: seconds of one step, from earlier runs.
    """
    return tuple(
        Expectation(
            combination=each,
            warmups=most_warmups(scenario.schedule, each),
            launch_seconds=measured.get(each.key, KINDS[each.target.kind].typical_seconds),
            is_measured=each.key in measured,
        )
        for each in scenario.combinations
    )


def step_seconds(store: Store, scenario: str) -> dict[Key, float]:
    """The median duration of a step of each combination, in the latest complete runs of a scenario."""
    runs = [run for run in store.runs(RunFilter(scenario=scenario)) if run.status == "done"][-RUNS:]
    durations: defaultdict[Key, list[float]] = defaultdict(list)
    for run in runs:
        of_step = {
            sample.order: (sample.workload, sample.target, parameter_label(sample.parameters))
            for sample in store.samples(run.id)
        }
        for conditions in store.conditions(run.id):
            if conditions.order in of_step and STEP_SECONDS in conditions.values:
                durations[of_step[conditions.order]].append(conditions.values[STEP_SECONDS])
    return {key: median(values) for key, values in durations.items()}
