"""From a scenario to an ordered, interleaved list of launches; pure and seeded.

The targets alternate within a repetition and their order flips from one repetition to the next, so that
a slow drift of the host, or what one target leaves in the caches, touches all of them alike. A target with
fewer repetitions than the others is spread evenly over the whole run for the same reason.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybench.harness.model import Scenario, Step

if TYPE_CHECKING:
    from pybench.harness.model import TargetChoice, Workload

    Cell = tuple[Workload, TargetChoice]


def plan(scenario: Scenario) -> tuple[Step, ...]:
    """Every launch of a scenario in order: first the warm-ups, then what is measured.

    The same scenario and seed give the same plan, on every version of Python
    (`random.Random.random` is reproducible by its documentation).
    """
    cells = [(workload, target) for workload in scenario.workloads for target in scenario.targets]
    # Sorting by random keys instead of random.shuffle, whose algorithm is not promised to stay.
    generator = random.Random(scenario.schedule.seed)  # noqa: S311 - an order, not a secret
    keys = [generator.random() for _ in cells]
    order = [cell for _, cell in sorted(zip(keys, cells, strict=True), key=lambda entry: entry[0])]

    default = scenario.schedule.warmups
    warmups = [default if target.warmups is None else target.warmups for _, target in order]
    repetitions = [target.repetitions for _, target in order]
    launches = [(*launch, True) for launch in _interleave(order, warmups)]
    launches += [(*launch, False) for launch in _interleave(order, repetitions)]
    return tuple(
        Step(position, workload, target, repetition, warmup)
        for position, ((workload, target), repetition, warmup) in enumerate(launches)
    )


def _interleave(cells: Sequence[Cell], counts: Sequence[int]) -> list[tuple[Cell, int]]:
    """Each cell with its repetitions, round by round; every other round runs backwards."""
    rounds: list[list[tuple[Cell, int]]] = [[] for _ in range(max(counts, default=0))]
    for cell, count in zip(cells, counts, strict=True):
        for repetition in range(count):
            rounds[_round(repetition, count, len(rounds))].append((cell, repetition))
    return [
        launch
        for number, launches in enumerate(rounds)
        for launch in (reversed(launches) if number % 2 else launches)
    ]


def _round(repetition: int, count: int, rounds: int) -> int:
    """The round of one repetition: in the middle of its own slot of the run.

    The rounds are cut into `count` slots of (nearly) equal length, one per repetition. Where the slot is wide
    enough, even repetitions get even rounds and odd repetitions odd ones; otherwise a cell that takes part in
    every second round would always meet the same order.
    """
    first = -(-repetition * rounds // count)
    last = -(-(repetition + 1) * rounds // count) - 1
    middle = (first + last) // 2
    if middle % 2 != repetition % 2 and first < last:
        middle += 1 if middle < last else -1
    return middle
