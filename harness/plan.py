"""From a scenario to an ordered, interleaved list of steps; pure and seeded.

The targets alternate within a repetition and their order flips from one repetition to the next, so that
a slow drift of the host, or what one target leaves in the caches, touches all of them alike. A target with
fewer repetitions than the others is spread evenly over the whole run for the same reason.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pybench.harness.model import Scenario, Schedule, Step, Task


def plan(scenario: Scenario) -> tuple[Step, ...]:
    """Every step that a scenario may need, in order: first the warm-ups, then what is measured.

    Rules that end warm-ups or repetitions early leave steps out while the plan is carried out.

    The same scenario and seed give the same plan, on every version of Python
    (`random.Random.random` is reproducible by its documentation).
    """
    tasks = scenario.tasks
    # Sorting by random keys instead of random.shuffle, whose algorithm is not promised to stay.
    generator = random.Random(scenario.schedule.seed)  # noqa: S311 - an order, not a secret
    keys = [generator.random() for _ in tasks]
    order = [entry for _, entry in sorted(zip(keys, tasks, strict=True), key=lambda pair: pair[0])]

    warmups = [most_warmups(scenario.schedule, task) for task in order]
    repetitions = [task.repetitions for task in order]
    turns = [(*turn, True) for turn in _interleave(order, warmups)]
    turns += [(*turn, False) for turn in _interleave(order, repetitions)]
    return tuple(
        Step(position, task, repetition, warmup) for position, (task, repetition, warmup) in enumerate(turns)
    )


def most_warmups(schedule: Schedule, task: Task) -> int:
    """Warm-ups that are planned: the task's own number, or as many as the schedule allows."""
    if task.warmups is not None:
        return task.warmups
    return schedule.warmups if schedule.warmups_at_most is None else schedule.warmups_at_most


def _interleave(tasks: Sequence[Task], counts: Sequence[int]) -> list[tuple[Task, int]]:
    """Each task with its repetitions, round by round; every other round runs backwards."""
    rounds: list[list[tuple[Task, int]]] = [[] for _ in range(max(counts, default=0))]
    for task, count in zip(tasks, counts, strict=True):
        for repetition in range(count):
            rounds[_round(repetition, count, len(rounds))].append((task, repetition))
    return [
        turn for number, turns in enumerate(rounds) for turn in (reversed(turns) if number % 2 else turns)
    ]


def _round(repetition: int, count: int, rounds: int) -> int:
    """The round of one repetition: in the middle of its own slot of the run.

    The rounds are cut into `count` slots of (nearly) equal length, one per repetition. Where the slot is wide
    enough, even repetitions get even rounds and odd repetitions odd ones; otherwise one that takes part in
    every second round would always meet the same order.
    """
    first = -(-repetition * rounds // count)
    last = -(-(repetition + 1) * rounds // count) - 1
    middle = (first + last) // 2
    if middle % 2 != repetition % 2 and first < last:
        middle += 1 if middle < last else -1
    return middle
