"""Carries out a plan: launch, measure, stop, store; every step is stored before the next one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pybench.harness.conditions import HostObserver
from pybench.harness.looks import LOOKS, looks_qualifier
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.model import (
    MeasurementChoice,
    RunStatus,
    Sample,
    SampleStatus,
    Scenario,
    Schedule,
    Step,
)
from pybench.harness.plan import plan
from pybench.harness.runner.bench import Bench, Conduct
from pybench.harness.runner.interruption import Interruption
from pybench.harness.runner.progress import Listener, Preparing, Remaining, StepBegins, StepEnded, ignore
from pybench.harness.runner.step_clock import StepClock
from pybench.harness.runner.stopping import Stopping
from pybench.harness.runner.tuning import tuned
from pybench.harness.store import timestamp

if TYPE_CHECKING:
    from pybench.harness.model import Run, TargetChoice, Workload
    from pybench.harness.runner.bench import Judged
    from pybench.harness.runner.calibration import Latency
    from pybench.harness.store import Recorder
    from pybench.harness.targets.base import ImageFiles, Target

_NO_CALIBRATION: Final[Mapping[str, Latency]] = MappingProxyType({})

TargetFactory = Callable[["TargetChoice"], "Target"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    status: RunStatus
    launches: int
    """Steps that were carried out."""
    failures: int
    """Steps that have at least one failed sample."""
    failed_targets: tuple[str, ...]
    """Targets of which no sample at all succeeded, though they were launched."""
    rejected: int = 0
    """Steps that have at least one sample whose estimated error is too large."""


class Runner:
    """Carries out scenarios.

    Args:
        store: where the samples go.
        open_target: makes a target object, one for each (workload, target) of the scenario and for what a
            procedure runs beside them.
        images: the built images by name.
        on_progress: is told what happens; it must not raise.
        calibration: channel → how late its marks are seen.
    """

    def __init__(
        self,
        store: Recorder,
        open_target: TargetFactory,
        images: Mapping[str, ImageFiles],
        on_progress: Listener = ignore,
        *,
        calibration: Mapping[str, Latency] = _NO_CALIBRATION,
    ) -> None:
        self._store = store
        self._open_target = open_target
        self._images = images
        self._tell = on_progress
        self._calibration = calibration

    def carry_out(self, scenario: Scenario, run: Run) -> Outcome:
        """Record the run, prepare every target, carry out every step, and clean up whatever happens.

        A launch that fails becomes a failed sample, and the run goes on unless the scenario says otherwise;
        then it ends as `failed`. Ctrl-C, SIGTERM and SIGHUP cut a
        launch short, wait for every teardown, keep what was measured, and end the run as `interrupted`. Any
        other exception ends it as `failed` and is raised again.

        Raises:
            HostError: a target cannot be prepared here, or the samples cannot be stored.
            InputError: a workload cannot run on a target.
            LeftoverError: a teardown left something behind, so that later samples could not be trusted.
        """
        execution = _Execution(
            self._store,
            scenario,
            run.id,
            self._images,
            self._tell,
            open_target=self._open_target,
            calibration=self._calibration,
        )
        status: RunStatus = "failed"
        with Interruption() as interruption:
            self._store.begin_run(run)
            try:
                status = execution.go(interruption)
            except KeyboardInterrupt:
                status = "interrupted"
            finally:
                self._store.finish_run(run.id, status, timestamp(datetime.now(UTC)))
        return execution.outcome(status)


class _Execution:
    """One scenario being carried out."""

    def __init__(
        self,
        store: Recorder,
        scenario: Scenario,
        run_id: str,
        images: Mapping[str, ImageFiles],
        tell: Listener,
        *,
        open_target: TargetFactory,
        calibration: Mapping[str, Latency],
    ) -> None:
        self._store = store
        self._scenario = scenario
        self._schedule: Schedule = scenario.schedule
        self._run_id = run_id
        self._images = images
        self._tell = tell
        self._calibration = calibration
        self._open_target = open_target
        self._procedures = _procedures(scenario.measurements)
        self._targets: dict[tuple[str, str, str], Target] = {}
        self._others: list[tuple[tuple[TargetChoice, Workload, int], Target]] = []
        self._cleanups = ExitStack()
        self._tuning: Mapping[str, str] = {}
        self._succeeded: dict[str, bool] = {}
        self._counts: Counter[str] = Counter()

    def go(self, interruption: Interruption) -> RunStatus:
        """Prepare, carry out every step that is needed, clean up."""
        stopping = Stopping(self._scenario)
        with self._cleanups:
            observer = self._cleanups.enter_context(HostObserver())
            self._tuning = self._cleanups.enter_context(tuned(self._schedule))
            self._prepare(interruption)
            clock = StepClock(self._schedule, observer)
            remaining = Remaining()
            for step in self._needed_steps(stopping, clock, remaining):
                self._tell(StepBegins(step, remaining.done, remaining.total, remaining.seconds()))
                samples = self._carry_out(step, interruption, clock)
                remaining.observe(step, clock.step_seconds)
                stopping.observe(step, clock.launch_seconds, samples)
                ended = StepEnded(step, remaining.done, remaining.total, samples, remaining.seconds())
                self._tell(ended)
                if self._schedule.on_failure == "stop" and _has_failed(samples):
                    return "failed"
        return "done"

    def outcome(self, status: RunStatus) -> Outcome:
        """What became of it."""
        failed = tuple(name for name, succeeded in self._succeeded.items() if not succeeded)
        counts = self._counts
        return Outcome(status, counts["launches"], counts["failed"], failed, counts["rejected"])

    def _needed_steps(self, stopping: Stopping, clock: StepClock, remaining: Remaining) -> Iterator[Step]:
        """The plan without what turns out not to be needed, then what replaces rejected samples."""
        steps: Sequence[Step] = plan(self._scenario)
        while steps:
            remaining.add(steps)
            for step in steps:
                if stopping.needs(step, clock.elapsed):
                    yield step
                else:
                    remaining.leave_out(step)
            steps = stopping.replacements(steps[-1].order + 1)

    def _prepare(self, interruption: Interruption) -> None:
        combinations = self._scenario.combinations
        for done, combination in enumerate(combinations):
            workload = combination.workload
            self._tell(Preparing(combination, done, len(combinations)))
            target = self._open_target(combination.target)
            self._cleanups.callback(target.cleanup)
            with interruption.allowed():
                target.prepare(workload, self._images[workload.image])
            self._targets[combination.key] = target

    def _carry_out(self, step: Step, interruption: Interruption, clock: StepClock) -> list[Sample]:
        bench = Bench(
            step,
            self._conduct_of(step),
            self._schedule,
            own_target=self._targets[step.combination.key],
            open_target=partial(self._open_another, interruption),
            clock=clock,
            interruption=interruption,
            calibration=self._calibration,
            qualifiers=self._tuning,
        )
        samples: list[Sample] = []
        try:
            with interruption.allowed():
                clock.settle()
                bench.carry_out()
        finally:
            # Outside `allowed`: no signal keeps an instance from being stopped or the samples stored.
            try:
                bench.close()
            finally:
                samples += self._store_samples(step, bench.qualifiers, bench.judged, clock)
        return samples

    def _conduct_of(self, step: Step) -> Conduct:
        if step.task.procedure:
            return self._procedures[step.task.procedure]
        choices = self._scenario.measurements
        read = {choice.name for choice in choices if not choice.procedure and step.combination.takes(choice)}
        # In the registry's order, whatever the scenario's: what is read at ready comes before what waits.
        return Conduct.of_readers([each for name, each in MEASUREMENTS.items() if name in read])

    def _open_another(
        self, interruption: Interruption, choice: TargetChoice, workload: Workload, number: int
    ) -> Target:
        key = (choice, workload, number)
        for known, target in self._others:
            if known == key:
                return target
        with interruption.deferred():
            target = self._open_target(choice)
            self._cleanups.callback(target.cleanup)
        target.prepare(workload, self._images[workload.image])
        self._others.append((key, target))
        return target

    def _store_samples(
        self, step: Step, qualifiers: dict[str, str], judged: Sequence[Judged], clock: StepClock
    ) -> list[Sample]:
        qualifiers["image"] = self._images[step.workload.image].content_hash
        if self._schedule.stop.precision is not None:
            # The number of samples depends on their values, so their interval needs another level.
            qualifiers[LOOKS] = looks_qualifier(self._schedule.stop.at_least, step.task.repetitions)
        samples = [_sample(step, entry, qualifiers) for entry in judged]
        self._store.add_samples(self._run_id, samples, clock.step_conditions(step.order))
        if samples:
            self._counts["launches"] += 1
            self._counts["failed"] += _has_failed(samples)
            self._counts["rejected"] += any(sample.status == "rejected" for sample in samples)
            succeeded = any(sample.status != "failed" for sample in samples)
            self._succeeded[step.target.name] = self._succeeded.get(step.target.name, False) or succeeded
        return samples


def _has_failed(samples: Sequence[Sample]) -> bool:
    return any(sample.status == "failed" for sample in samples)


def _procedures(choices: Sequence[MeasurementChoice]) -> dict[str, Conduct]:
    """By their names."""
    conducts = {}
    for choice in choices:
        if choice.procedure:
            measurement = MEASUREMENTS[choice.name]
            settings = measurement.settings.model_validate(choice.options)
            conducts[choice.name] = Conduct.of_procedure(measurement, settings)
    return conducts


def _sample(step: Step, judged: Judged, qualifiers: Mapping[str, str]) -> Sample:
    reading = judged.reading
    status: SampleStatus = "rejected" if judged.rejection else "ok"
    return Sample(
        workload=step.workload.name,
        target=step.target.name,
        metric=reading.metric,
        unit=reading.unit,
        value=reading.value,
        repetition=step.repetition,
        warmup=step.warmup,
        order=step.order,
        channel=reading.channel,
        resolution=reading.resolution,
        qualifiers={**qualifiers, **reading.qualifiers},
        status="failed" if reading.value is None else status,
        reason=reading.reason or judged.rejection,
        parameters={**step.combination.parameters, **reading.parameters},
        error=judged.error,
    )
