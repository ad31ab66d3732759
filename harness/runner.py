"""Carries out a plan: launch, measure, stop, store; every step is stored before the next one starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InstanceError, LeftoverError
from pybench.harness.interruption import Interruption
from pybench.harness.measure import MEASUREMENTS, Measurement, Reading
from pybench.harness.model import RunStatus, Sample, Scenario, Schedule, Step
from pybench.harness.plan import plan
from pybench.harness.progress import Listener, Preparing, Remaining, StepBegins, StepEnded, ignore
from pybench.harness.store import timestamp

if TYPE_CHECKING:
    from pybench.harness.model import Run, TargetChoice
    from pybench.harness.store import Store
    from pybench.harness.targets.base import ImageFiles, Instance, Target

LONGEST_REASON: Final = 16_384
"""Characters of a failed sample's reason, log included."""

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


class Runner:
    """Carries out scenarios.

    Args:
        store: where the samples go.
        open_target: makes one target object for each (workload, target) of the scenario.
        images: the built images by name.
        on_progress: is told what happens; it must not raise.
    """

    def __init__(
        self,
        store: Store,
        open_target: TargetFactory,
        images: Mapping[str, ImageFiles],
        on_progress: Listener = ignore,
    ) -> None:
        self._store = store
        self._open_target = open_target
        self._images = images
        self._tell = on_progress

    def carry_out(self, scenario: Scenario, run: Run) -> Outcome:
        """Record the run, prepare every target, carry out every step, and clean up whatever happens.

        A launch that fails becomes a failed sample and the run goes on. Ctrl-C, SIGTERM and SIGHUP cut a
        launch short, wait for every teardown, keep what was measured, and end the run as `interrupted`. Any
        other exception ends it as `failed` and is raised again.

        Raises:
            HostError: a target cannot be prepared here, or the samples cannot be stored.
            InputError: a workload cannot run on a target.
            LeftoverError: a teardown left something behind, so that later samples could not be trusted.
        """
        execution = _Execution(self._store, scenario, run.id, self._images, self._tell)
        status: RunStatus = "failed"
        with Interruption() as interruption:
            self._store.begin_run(run)
            try:
                execution.go(self._open_target, interruption)
                status = "done"
            except KeyboardInterrupt:
                status = "interrupted"
            finally:
                self._store.finish_run(run.id, status, timestamp(datetime.now(UTC)))
        return execution.outcome(status)


class _Execution:
    """One scenario being carried out."""

    def __init__(
        self,
        store: Store,
        scenario: Scenario,
        run_id: str,
        images: Mapping[str, ImageFiles],
        tell: Listener,
    ) -> None:
        self._store = store
        self._scenario = scenario
        self._schedule: Schedule = scenario.schedule
        self._run_id = run_id
        self._images = images
        self._tell = tell
        self._measurements: list[Measurement] = [MEASUREMENTS[name] for name in scenario.measurements]
        self._targets: dict[tuple[str, str], Target] = {}
        self._succeeded: dict[str, bool] = {}
        self._launches = 0
        self._failures = 0

    def go(self, open_target: TargetFactory, interruption: Interruption) -> None:
        """Prepare, carry out every step, clean up."""
        steps = plan(self._scenario)
        with ExitStack() as cleanups:
            self._prepare(open_target, interruption, cleanups)
            remaining = Remaining(steps)
            for step in steps:
                self._tell(StepBegins(step, len(steps), remaining.seconds()))
                began = time.monotonic()
                samples = self._carry_out(step, interruption)
                remaining.observe(step, time.monotonic() - began)
                self._tell(StepEnded(step, len(steps), samples, remaining.seconds()))

    def outcome(self, status: RunStatus) -> Outcome:
        """What became of it."""
        failed = tuple(name for name, succeeded in self._succeeded.items() if not succeeded)
        return Outcome(status, self._launches, self._failures, failed)

    def _prepare(self, open_target: TargetFactory, interruption: Interruption, cleanups: ExitStack) -> None:
        cells = [
            (workload, choice) for workload in self._scenario.workloads for choice in self._scenario.targets
        ]
        for done, (workload, choice) in enumerate(cells):
            self._tell(Preparing(workload.name, choice.name, done, len(cells)))
            target = open_target(choice)
            cleanups.callback(target.cleanup)
            with interruption.allowed():
                target.prepare(workload, self._images[workload.image])
            self._targets[workload.name, choice.name] = target

    def _carry_out(self, step: Step, interruption: Interruption) -> list[Sample]:
        target = self._targets[step.workload.name, step.target.name]
        launched: list[Instance] = []
        readings: list[Reading] = []
        samples: list[Sample] = []
        try:
            with interruption.allowed():
                # One call that launches and stores, without a line of Python in between: a signal cannot
                # arrive after the instance exists and before it is known here.
                launched.extend(map(target.launch, (self._schedule.ready_timeout,)))
                for measurement in self._measurements:
                    readings += measurement.at_ready(launched[0])
        except InstanceError as error:
            readings.append(_failed("startup.ready", error))
        finally:
            # Outside `allowed`: no signal keeps the instance from being stopped or the samples stored.
            try:
                for instance in launched:
                    readings += self._stop(instance, readings)
            finally:
                samples += self._store_samples(step, launched, readings)
        return samples

    def _stop(self, instance: Instance, readings: list[Reading]) -> list[Reading]:
        try:
            instance.stop(self._schedule.stop_timeout)
        except InstanceError as error:
            # It died or hung on its own and is gone: a failed sample, and the run goes on.
            return [_failed("teardown", error)]
        except LeftoverError as error:
            readings.append(_failed("teardown", error))
            raise
        return [reading for each in self._measurements for reading in each.at_stopped(instance)]

    def _store_samples(
        self, step: Step, launched: Sequence[Instance], readings: Sequence[Reading]
    ) -> list[Sample]:
        qualifiers = dict(launched[0].qualifiers) if launched else {}
        qualifiers["image"] = self._images[step.workload.image].content_hash
        samples = [_sample(step, reading, qualifiers) for reading in readings]
        self._store.add_samples(self._run_id, samples)
        if samples:
            self._launches += 1
            self._failures += any(sample.status == "failed" for sample in samples)
            succeeded = any(sample.status == "ok" for sample in samples)
            self._succeeded[step.target.name] = self._succeeded.get(step.target.name, False) or succeeded
        return samples


def _failed(metric: str, error: InstanceError | LeftoverError) -> Reading:
    reason = error.message
    if isinstance(error, InstanceError) and error.log:
        # The end of a log tells more than its beginning.
        reason = f"{reason}\n{error.log[-LONGEST_REASON:]}"
    return Reading(metric, "s", None, "none", 0.0, reason)


def _sample(step: Step, reading: Reading, qualifiers: Mapping[str, str]) -> Sample:
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
        status="failed" if reading.value is None else "ok",
        reason=reading.reason,
    )
