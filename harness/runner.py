"""Carries out a plan: launch, measure, stop, store; every step is stored before the next one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pybench.harness.conditions import HostObserver
from pybench.harness.errors import InstanceError, LeftoverError
from pybench.harness.interruption import Interruption
from pybench.harness.looks import LOOKS, looks_qualifier
from pybench.harness.measure import MEASUREMENTS, Measurement, Reading
from pybench.harness.measure.error import estimated_error, rejections
from pybench.harness.model import RunStatus, Sample, SampleStatus, Scenario, Schedule, Step
from pybench.harness.plan import plan
from pybench.harness.progress import Listener, Preparing, Remaining, StepBegins, StepEnded, ignore
from pybench.harness.step_clock import StepClock
from pybench.harness.stopping import Stopping
from pybench.harness.store import timestamp
from pybench.harness.tuning import is_held, tuned

if TYPE_CHECKING:
    from pybench.harness.calibration import Latency
    from pybench.harness.model import Run, TargetChoice
    from pybench.harness.store import Recorder
    from pybench.harness.targets.base import ImageFiles, Instance, Target

LONGEST_REASON: Final = 16_384
"""Characters of a failed sample's reason, log included."""

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
        open_target: makes one target object for each (workload, target) of the scenario.
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
            self._store, scenario, run.id, self._images, self._tell, calibration=self._calibration
        )
        status: RunStatus = "failed"
        with Interruption() as interruption:
            self._store.begin_run(run)
            try:
                status = execution.go(self._open_target, interruption)
            except KeyboardInterrupt:
                status = "interrupted"
            finally:
                self._store.finish_run(run.id, status, timestamp(datetime.now(UTC)))
        return execution.outcome(status)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A reading with its estimated error, and why it is rejected, if it is."""

    reading: Reading
    error: float = 0.0
    rejection: str = ""


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
        calibration: Mapping[str, Latency],
    ) -> None:
        self._store = store
        self._scenario = scenario
        self._schedule: Schedule = scenario.schedule
        self._run_id = run_id
        self._images = images
        self._tell = tell
        self._calibration = calibration
        self._measurements: list[Measurement] = [MEASUREMENTS[name] for name in scenario.measurements]
        self._targets: dict[tuple[str, str, str], Target] = {}
        self._tuning: Mapping[str, str] = {}
        self._succeeded: dict[str, bool] = {}
        self._counts: Counter[str] = Counter()

    def go(self, open_target: TargetFactory, interruption: Interruption) -> RunStatus:
        """Prepare, carry out every step that is needed, clean up."""
        stopping = Stopping(self._scenario)
        with ExitStack() as cleanups:
            observer = cleanups.enter_context(HostObserver())
            self._tuning = cleanups.enter_context(tuned(self._schedule))
            self._prepare(open_target, interruption, cleanups)
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

    def _prepare(self, open_target: TargetFactory, interruption: Interruption, cleanups: ExitStack) -> None:
        combinations = self._scenario.combinations
        for done, combination in enumerate(combinations):
            workload = combination.workload
            self._tell(Preparing(combination, done, len(combinations)))
            target = open_target(combination.target)
            cleanups.callback(target.cleanup)
            with interruption.allowed():
                target.prepare(workload, self._images[workload.image])
            self._targets[combination.key] = target

    def _carry_out(self, step: Step, interruption: Interruption, clock: StepClock) -> list[Sample]:
        target = self._targets[step.combination.key]
        launched: list[Instance] = []
        judged: list[_Judged] = []
        readings: list[Reading] = []
        samples: list[Sample] = []
        tuning = dict(self._tuning)
        lateness, is_measured = 0.0, False
        try:
            with interruption.allowed():
                clock.settle()
                clock.launching()
                # One call that launches and stores, without a line of Python in between: a signal cannot
                # arrive after the instance exists and before it is known here.
                launched.extend(map(target.launch, (self._schedule.ready_timeout,)))
                lateness = clock.launched()
                for measurement in self._measurements:
                    readings += measurement.at_ready(launched[0])
                clock.measured()
                is_measured = True
                if self._schedule.cpus and not is_held(launched[0].processes, self._schedule.cpus):
                    tuning["cpus"] = "not held"
        except InstanceError as error:
            judged.append(_failed("startup.ready", error))
        finally:
            # Outside `allowed`: no signal keeps the instance from being stopped or the samples stored.
            judged += self._judge(readings, lateness)
            try:
                for instance in launched:
                    stopped = self._stop(instance, judged, clock)
                    # What a signal cut short before anything was read of it is no launch that counts.
                    judged += stopped if is_measured or readings else []
            finally:
                qualifiers = {**(launched[0].qualifiers if launched else {}), **tuning}
                samples += self._store_samples(step, qualifiers, judged, clock)
        return samples

    def _stop(self, instance: Instance, judged: list[_Judged], clock: StepClock) -> list[_Judged]:
        clock.stopping()
        try:
            instance.stop(self._schedule.stop_timeout)
        except InstanceError as error:
            # It died or hung on its own and is gone: a failed sample, and the run goes on.
            clock.stopped()
            return [_failed("teardown", error)]
        except LeftoverError as error:
            judged.append(_failed("teardown", error))
            raise
        lateness = clock.stopped()
        readings = [reading for each in self._measurements for reading in each.at_stopped(instance)]
        return self._judge(readings, lateness)

    def _judge(self, readings: Sequence[Reading], lateness: float) -> list[_Judged]:
        errors = [estimated_error(reading, self._calibration, lateness) for reading in readings]
        return list(map(_Judged, readings, errors, rejections(readings, errors)))

    def _store_samples(
        self, step: Step, qualifiers: dict[str, str], judged: Sequence[_Judged], clock: StepClock
    ) -> list[Sample]:
        qualifiers["image"] = self._images[step.workload.image].content_hash
        if self._schedule.stop.precision is not None:
            # The number of samples depends on their values, so their interval needs another level.
            qualifiers[LOOKS] = looks_qualifier(self._schedule.stop.at_least, step.target.repetitions)
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


def _failed(metric: str, error: InstanceError | LeftoverError) -> _Judged:
    reason = error.message
    if isinstance(error, InstanceError) and error.log:
        # The end of a log tells more than its beginning.
        reason = f"{reason}\n{error.log[-LONGEST_REASON:]}"
    return _Judged(Reading(metric, "s", None, "none", 0.0, reason))


def _sample(step: Step, judged: _Judged, qualifiers: Mapping[str, str]) -> Sample:
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
        qualifiers=qualifiers,
        status="failed" if reading.value is None else status,
        reason=reading.reason or judged.rejection,
        parameters=step.combination.parameters,
        error=judged.error,
    )
