"""What a run tells while it goes on, and how long the rest will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pybench.harness.model import Combination, Sample, Step


@dataclass(frozen=True, slots=True)
class Preparing:
    """A target is about to be prepared for a workload."""

    combination: Combination
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepBegins:
    """A step is about to begin."""

    step: Step
    done: int
    """Steps that are over."""
    total: int
    remaining: float | None
    """Seconds until the end of the run; None until every task that is left was seen once."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is over, and its samples are stored."""

    step: Step
    done: int
    """Steps that are over."""
    total: int
    samples: Sequence[Sample]
    remaining: float | None

    @property
    def failure(self) -> str:
        """The first line of the first reason, or nothing."""
        for sample in self.samples:
            if sample.status == "failed":
                return sample.reason.split("\n", 1)[0]
        return ""


Event = Preparing | StepBegins | StepEnded
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that does not care."""


class Remaining:
    """Estimates the time that is left from the mean duration of each task's steps so far."""

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self._left: Counter[tuple[str, ...]] = Counter()
        self._durations: dict[tuple[str, ...], list[float]] = {}
        self.done = 0
        self.total = 0
        """Steps that were planned so far, without those that turned out not to be needed."""
        self.add(steps)

    def add(self, steps: Sequence[Step]) -> None:
        """More steps are planned."""
        self._left.update(step.task.key for step in steps)
        self.total += len(steps)

    def observe(self, step: Step, seconds: float) -> None:
        """One step is over."""
        key = step.task.key
        self._left[key] -= 1
        self.done += 1
        self._durations.setdefault(key, []).append(seconds)

    def leave_out(self, step: Step) -> None:
        """One step is not needed."""
        self.total -= 1
        self._left[step.task.key] -= 1

    def seconds(self) -> float | None:
        """Seconds until the end; None while a task that is left has not been seen."""
        left = {key: count for key, count in self._left.items() if count}
        if any(key not in self._durations for key in left):
            return None
        return sum(count * fmean(self._durations[key]) for key, count in left.items())
