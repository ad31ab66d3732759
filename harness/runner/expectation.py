"""How long a scenario will take: by earlier runs of it where there are any, else by what is typical."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from pybench.harness.conditions import STEP_SECONDS
from pybench.harness.measure import MEASUREMENTS, measurement_of
from pybench.harness.model import parameter_label
from pybench.harness.plan import most_warmups
from pybench.harness.store import RunFilter
from pybench.harness.targets import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybench.harness.model import Combination, ParameterValue, Scenario, Task
    from pybench.harness.store import Store

RUNS: Final = 3
"""Earlier runs that are asked, the latest first."""
Key = tuple[str, ...]
"""Of a task: workload, target, label of the parameters, procedure."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is planned for one task, and how long it will take."""

    task: Task
    warmups: int
    """At most."""
    step_seconds: float
    is_measured: bool
    """By earlier runs; otherwise it is what is typical of the kind of target."""

    @property
    def combination(self) -> Combination:
        """What the task is about."""
        return self.task.combination

    @property
    def steps(self) -> int:
        """At most, warm-ups included."""
        return self.warmups + self.task.repetitions

    @property
    def seconds(self) -> float:
        """For all of its steps."""
        return self.steps * self.step_seconds


def expect(scenario: Scenario, measured: Mapping[Key, float]) -> tuple[Expectation, ...]:
    """One expectation for each task, in the scenario's order.

    Args:
        scenario: what is planned.
        measured: seconds of one step, from earlier runs.
    """
    return tuple(
        Expectation(
            task=each,
            warmups=most_warmups(scenario.schedule, each),
            step_seconds=measured[each.key] if each.key in measured else _typical_seconds(scenario, each),
            is_measured=each.key in measured,
        )
        for each in scenario.tasks
    )


def step_seconds(store: Store, scenario: Scenario) -> dict[Key, float]:
    """The median duration of a step of each task, in the latest complete runs of a scenario.

    What conducted a step is told by its metrics. A procedure is taken for the same only with the same
    parameters; its options may have changed meanwhile.
    """
    runs = [run for run in store.runs(RunFilter(scenario=scenario.name)) if run.status == "done"][-RUNS:]
    parameters = {name for each in scenario.combinations for name in each.parameters}
    durations: defaultdict[Key, list[float]] = defaultdict(list)
    for run in runs:
        of_step = {
            sample.order: (
                sample.workload,
                sample.target,
                _label(sample.parameters, parameters),
                _conductor(sample.metric),
            )
            for sample in store.samples(run.id)
        }
        for conditions in store.conditions(run.id):
            if conditions.order in of_step and STEP_SECONDS in conditions.values:
                durations[of_step[conditions.order]].append(conditions.values[STEP_SECONDS])
    return {key: median(values) for key, values in durations.items()}


def _typical_seconds(scenario: Scenario, task: Task) -> float:
    launch = KINDS[task.combination.target.kind].typical_seconds
    for choice in scenario.measurements:
        if choice.name == task.procedure:
            settings = MEASUREMENTS[choice.name].settings.model_validate(choice.options)
            return settings.expected_seconds(launch, task.combination.parameters)
    return launch


def _label(parameters: Mapping[str, ParameterValue], names: set[str]) -> str:
    """Of the scenario's own parameters, without those that a measurement has added."""
    return parameter_label({name: value for name, value in parameters.items() if name in names})


def _conductor(metric: str) -> str:
    """The procedure that a metric comes from, or nothing."""
    found = measurement_of(metric)
    return found.name if found is not None and found.procedure is not None else ""
