"""Which planned launches are carried out: when warming up is over, and when there are enough; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.harness.model import Step, Task

if TYPE_CHECKING:
    from pybench.harness.model import Sample, Scenario

SPARE_SHARE: Final = 0.5
"""Launches, as a share of the repetitions, that may replace rejected samples."""
_STEADY: Final = 2
"""Launches in a row that are not the fastest so far, after which warming up is over."""


@dataclass(slots=True)
class _Progress:
    """What has been seen of one task."""

    warmups: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """Of the metric whose precision is looked at."""
    failures_in_a_row: int = 0
    rejected: int = 0
    replaced: int = 0
    reason: str = ""
    """Why the rest of it is left out."""


class Stopping:
    """Decides before each step of a plan whether it is needed; told of each that was carried out.

    - Warm-ups beyond `warmups`, to `warmups_at_most`, go on until two in a row set no new record of speed.
      Records are what the test of Foster and Stuart ("Distribution-free tests in time-series based on the
      breaking of records", Journal of the Royal Statistical Society B 16, 1954) counts: without a trend the
      n-th value is the lowest so far with probability 1/n, while launches get faster nearly always.
    - Repetitions end when the median's interval is narrow enough, at a level that holds for all looks
      together (`pybench.harness.stats.sequential`), or when the run's time is over.
    - A task that fails many times in a row is given up.

    Where the sample of `stop.metric` was rejected, the launch is replaced in the end, within bounds.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._schedule = scenario.schedule
        self._progress: defaultdict[tuple[str, ...], _Progress] = defaultdict(_Progress)

    def needs(self, step: Step, elapsed: float) -> bool:
        """Whether a step is to be carried out, `elapsed` seconds after the run began to launch."""
        progress = self._progress[step.task.key]
        limit = self._schedule.stop.time
        if not progress.reason and limit is not None and elapsed >= limit:
            progress.reason = f"the time of {limit:g} s is over"
        if progress.reason:
            return False
        return not (step.warmup and self._is_warm(step.task, progress.warmups))

    def observe(self, step: Step, seconds: float, samples: Sequence[Sample]) -> None:
        """One step was carried out.

        Args:
            step: which.
            seconds: what its launch took, for the warm-ups.
            samples: what came out.
        """
        progress = self._progress[step.task.key]
        if any(sample.status == "failed" for sample in samples):
            progress.failures_in_a_row += 1
            if progress.failures_in_a_row >= self._schedule.give_up_after:
                progress.reason = f"it failed {progress.failures_in_a_row} times in a row"
            return
        progress.failures_in_a_row = 0
        if step.warmup:
            progress.warmups.append(seconds)
            return
        metric = self._schedule.stop.metric
        progress.rejected += any(s.metric == metric and s.status == "rejected" for s in samples)
        found = [s.value for s in samples if s.metric == metric and s.status == "ok" and s.value is not None]
        if found and self._schedule.stop.precision is not None:
            progress.values += found
            self._look(step.task, progress, self._schedule.stop.precision)

    def replacements(self, order: int) -> tuple[Step, ...]:
        """Steps that make up for rejected samples, one of each task in turn.

        Args:
            order: the first position that is free in the plan.
        """
        rounds: list[tuple[int, Task, int]] = []
        for task in self._scenario.tasks:
            progress = self._progress[task.key]
            planned = task.repetitions
            spare = int(planned * SPARE_SHARE) - progress.replaced
            wanted = 0 if progress.reason else min(progress.rejected, max(0, spare))
            rounds += [(turn, task, planned + progress.replaced + turn) for turn in range(wanted)]
            progress.replaced += wanted
            progress.rejected = 0
        rounds.sort(key=lambda entry: entry[0])
        return tuple(
            Step(order + index, task, repetition, warmup=False)
            for index, (_, task, repetition) in enumerate(rounds)
        )

    def reason(self, task: Task) -> str:
        """Why the rest of a task is left out; empty while it goes on."""
        return self._progress[task.key].reason

    def _is_warm(self, task: Task, warmups: Sequence[float]) -> bool:
        if task.warmups is not None or self._schedule.warmups_at_most is None:
            return False  # exactly as many as planned
        if len(warmups) < max(self._schedule.warmups, _STEADY + 1):
            return False
        return min(warmups[-_STEADY:]) >= min(warmups[:-_STEADY])

    def _look(self, task: Task, progress: _Progress, precision: float) -> None:
        # Loads numpy and scipy, which a run without this rule does not need while it measures.
        from pybench.harness.stats import median_interval  # noqa: PLC0415
        from pybench.harness.stats.sequential import look_confidence  # noqa: PLC0415

        first, last = self._schedule.stop.at_least, task.repetitions
        if not first <= len(progress.values) <= last:
            return
        level = look_confidence(first, last)
        interval = median_interval(progress.values, level)
        middle = sorted(progress.values)[len(progress.values) // 2]
        if (
            interval.confidence >= level
            and middle > 0
            and (interval.high - interval.low) / middle <= precision
        ):
            progress.reason = f"precise enough after {len(progress.values)} samples"
