"""The bench: where one step launches, stops and records, and where all that it started is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

from pybench.harness.errors import InstanceError, LeftoverError
from pybench.harness.measure.base import Measurement, MeasurementSettings, Reader, Reading, read_nothing
from pybench.harness.measure.error import estimated_error, rejections
from pybench.harness.runner.lateness import LANE
from pybench.harness.runner.tuning import is_held

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue, Schedule, Step, TargetChoice, Workload
    from pybench.harness.runner.calibration import Latency
    from pybench.harness.runner.interruption import Interruption
    from pybench.harness.runner.step_clock import StepClock
    from pybench.harness.targets.base import Instance, Target

LONGEST_REASON: Final = 16_384
"""Characters of a failed sample's reason, log included."""

Settings = TypeVar("Settings", bound=MeasurementSettings)
TargetOpener = Callable[["TargetChoice", "Workload", int], "Target"]
"""Gives a target that is prepared for a workload; the number tells several of them apart."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A reading with its estimated error, and why it is rejected, if it is."""

    reading: Reading
    error: float = 0.0
    rejection: str = ""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a step is carried out, and of which metric a sample fails if that fails."""

    carry_out: Callable[[Bench], None]
    failure: tuple[str, str]
    """Metric and unit, of a step that came to nothing."""
    stop_failure: tuple[str, str]
    """The same where an instance could not be stopped as it should."""
    settings: MeasurementSettings = field(default_factory=MeasurementSettings)

    @classmethod
    def of_readers(cls, measurements: Sequence[Measurement]) -> Conduct:
        """One launch, whose instance all of these read."""

        def at_stopped(instance: Instance) -> list[Reading]:
            return [reading for each in measurements for reading in each.at_stopped(instance)]

        def carry_out(bench: Bench) -> None:
            instance = bench.launch(at_stopped=at_stopped)
            readings: list[Reading] = []
            try:
                for measurement in measurements:
                    readings += measurement.at_ready(instance)
            finally:
                # Together, because the parts of a start are judged with the whole.
                bench.record(*readings)

        return cls(carry_out, ("startup.ready", "s"), ("teardown", "s"))

    @classmethod
    def of_procedure(cls, measurement: Measurement, settings: MeasurementSettings) -> Conduct:
        """What the measurement does by itself."""
        if measurement.procedure is None:
            raise ValueError(f"{measurement.name} has no procedure")
        failure = (measurement.metrics[0].name, measurement.metrics[0].unit)
        return cls(measurement.procedure, failure, failure, settings)


@dataclass(slots=True, eq=False)
class _Launch:
    """Something that was, or is about to be, launched."""

    at_stopped: Reader
    instance: list[Instance] = field(default_factory=list)
    """One, once it is ready."""


class Bench:
    """What one step has at hand.

    Whatever is launched through it is ended with the step, however that ends: in the reverse order of the
    launches, each verified. Ctrl-C cuts a launch or a reading short, and never a stop.
    """

    def __init__(
        self,
        step: Step,
        conduct: Conduct,
        schedule: Schedule,
        *,
        own_target: Target,
        open_target: TargetOpener,
        clock: StepClock,
        interruption: Interruption,
        calibration: Mapping[str, Latency],
        qualifiers: Mapping[str, str],
    ) -> None:
        self.step = step
        self.schedule = schedule
        self.judged: list[Judged] = []
        """What was recorded so far."""
        self.qualifiers = dict(qualifiers)
        """Said beside every sample of the step."""
        self._conduct = conduct
        self._own_target = own_target
        self._open_target = open_target
        self._clock = clock
        self._interruption = interruption
        self._calibration = calibration
        self._thread = threading.current_thread()
        self._launches: list[_Launch] = []
        self.is_ending = False
        """Whether what `in_parallel` does is to end."""
        self._lateness = 0.0
        self._cut_short = False

    @property
    def interruption(self) -> Interruption:
        """For a procedure that makes what must not be cut short while it is made."""
        return self._interruption

    @property
    def workload(self) -> Workload:
        """What the step is about."""
        return self.step.workload

    @property
    def target(self) -> TargetChoice:
        """Where."""
        return self.step.target

    @property
    def parameters(self) -> Mapping[str, ParameterValue]:
        """The values of the scenario's parameters in this step."""
        return self.step.combination.parameters

    def options(self, kind: type[Settings]) -> Settings:
        """The measurement's options."""
        settings = self._conduct.settings
        if not isinstance(settings, kind):
            raise TypeError(f"the options are {type(settings).__name__}, not {kind.__name__}")
        return settings

    def open(
        self, workload: Workload | None = None, target: TargetChoice | None = None, number: int = 1
    ) -> Target:
        """A further target beside the step's own, prepared; kept for later steps of the run.

        Args:
            workload: by default the step's.
            target: by default the step's.
            number: several of the same are told apart by it.

        Raises:
            HostError: this host cannot run it.
            InputError: the workload cannot run on it.
        """
        return self._open_target(target or self.target, workload or self.workload, number)

    def launch(self, on: Target | None = None, at_stopped: Reader = read_nothing) -> Instance:
        """Start one instance and wait until it is ready; several threads may, each on a target of its own.

        Args:
            on: a target of `open`; by default the step's own.
            at_stopped: what to read of it once it is stopped, whoever stops it.

        Raises:
            InstanceError: it failed, or was not ready in time; nothing is left of it.
        """
        target = on or self._own_target
        launch = _Launch(at_stopped)
        self._launches.append(launch)
        if threading.current_thread() is not self._thread:
            launch.instance.append(target.launch(self.schedule.ready_timeout))
            return self._launched(target, launch)
        self._clock.launching()
        # One call that launches and stores, without a line of Python in between: a signal cannot arrive
        # after the instance exists and before it is known here.
        launch.instance.extend(map(target.launch, (self.schedule.ready_timeout,)))
        self._lateness = self._clock.launched()
        return self._launched(target, launch)

    def _launched(self, target: Target, launch: _Launch) -> Instance:
        instance = launch.instance[0]
        if target is self._own_target:
            self.qualifiers = {**instance.qualifiers, **self.qualifiers}
        return instance

    def in_parallel(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Do several things at once, each in a thread of its own, and wait for all of them.

        The spans recorded next are judged by how late the harness was meanwhile. When one fails, or Ctrl-C
        comes, `is_ending` tells the others, and they are waited for.

        Raises:
            BaseException: what the first of them that failed has raised.
        """
        errors: list[BaseException] = []

        def do(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException as error:
                errors.append(error)
                self.is_ending = True

        threads = [Thread(target=do, args=(job,), name=f"{LANE}-{n}") for n, job in enumerate(jobs)]
        self._clock.launching()
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            with self._interruption.deferred():
                self.is_ending = True
                for thread in threads:
                    if thread.ident is not None:
                        thread.join()
            self._lateness = self._clock.launched()
            self.is_ending = False
        if errors:
            raise errors[0]

    def stop(self, instance: Instance) -> None:
        """End an instance and verify that nothing is left of it.

        Raises:
            InstanceError: it had died or hung before; nothing is left of it.
            LeftoverError: something survived.
        """
        launch = next(
            each for each in tuple(self._launches) if any(found is instance for found in each.instance)
        )
        if threading.current_thread() is not self._thread:
            # Where no signal comes.
            self._launches.remove(launch)
            instance.stop(self.schedule.stop_timeout)
            return
        with self._interruption.deferred():
            self._launches.remove(launch)
            self._end(launch)

    def settle(self) -> None:
        """Wait for the host to be quiet, as the schedule says.

        Raises:
            HostError: the caches cannot be dropped any more.
        """
        self._clock.settle(again=True)

    def record(self, *readings: Reading) -> None:
        """Keep readings; what is recorded together is judged together.

        Spans are judged by how late the harness was at the last launch or stop.
        """
        self.judged += self._judge(readings)

    def carry_out(self) -> None:
        """Let the conduct do its work; what fails it becomes a failed sample.

        Raises:
            KeyboardInterrupt: it was cut short.
        """
        try:
            self._conduct.carry_out(self)
            self._clock.measured()
            self._check_processors()
        except InstanceError as error:
            self.judged.append(_failed(*self._conduct.failure, error))
        except LeftoverError as error:
            self.judged.append(_failed(*self._conduct.stop_failure, error))
            raise
        except BaseException:
            self._cut_short = True
            raise

    def close(self) -> None:
        """End whatever still runs; an instance that had died becomes a failed sample.

        Raises:
            LeftoverError: something survived; all others were ended, too.
        """
        leftover: LeftoverError | None = None
        while self._launches:
            try:
                self._end(self._launches.pop())
            except InstanceError as error:
                self.judged.append(_failed(*self._conduct.stop_failure, error))
            except LeftoverError as error:
                self.judged.append(_failed(*self._conduct.stop_failure, error))
                leftover = leftover or error
        if leftover is not None:
            raise leftover

    def _end(self, launch: _Launch) -> None:
        for instance in launch.instance:
            self._clock.stopping()
            try:
                instance.stop(self.schedule.stop_timeout)
            finally:
                self._lateness = self._clock.stopped()
            # What a signal cut short before anything was read of it is no launch that counts.
            if self.judged or not self._cut_short:
                self.record(*launch.at_stopped(instance))

    def _judge(self, readings: Sequence[Reading]) -> list[Judged]:
        errors = [estimated_error(reading, self._calibration, self._lateness) for reading in readings]
        return list(map(Judged, readings, errors, rejections(readings, errors)))

    def _check_processors(self) -> None:
        cpus = self.schedule.cpus
        running = [instance for launch in self._launches for instance in launch.instance]
        if cpus and not all(is_held(instance.processes, cpus) for instance in running):
            self.qualifiers["cpus"] = "not held"


def _failed(metric: str, unit: str, error: InstanceError | LeftoverError) -> Judged:
    reason = error.message
    if isinstance(error, InstanceError) and error.log:
        # The end of a log tells more than its beginning.
        reason = f"{reason}\n{error.log[-LONGEST_REASON:]}"
    return Judged(Reading(metric, unit, None, "none", 0.0, reason))
