"""The times of one step after another: what was waited for, measured, and the harness's own work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pybench.harness import conditions
from pybench.harness.model import Conditions
from pybench.harness.runner.lateness import Lateness
from pybench.harness.runner.pace import PaceMaker
from pybench.harness.runner.settle import Settling
from pybench.harness.runner.tuning import drop_caches

if TYPE_CHECKING:
    from pybench.harness.model import Schedule


class StepClock:
    """Told of each moment of a step as it comes; keeps what becomes the step's conditions."""

    def __init__(self, schedule: Schedule, observer: conditions.HostObserver) -> None:
        self._cold = schedule.caches == "cold"
        self._observer = observer
        self._settling = Settling(schedule.settle, observer)
        self._lateness = Lateness()
        self._pace_maker = PaceMaker()
        self._began = self._step_began = time.monotonic()
        self._launching = self._first_launching = self._cpu = 0.0
        self._stopped: float | None = None
        self._is_first = True
        self._values: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the first step could begin."""
        return time.monotonic() - self._began

    @property
    def step_seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self._step_began

    @property
    def launch_seconds(self) -> float:
        """Of the last launch that succeeded."""
        return self._values.get(conditions.LAUNCH_SECONDS, 0.0)

    def settle(self, *, again: bool = False) -> None:
        """A step begins: wait for the host, make the caches cold if that is asked for.

        Args:
            again: the step has begun already.

        Raises:
            HostError: the caches cannot be dropped any more.
        """
        began = time.monotonic()
        quiet = self._settling.wait(self._stopped)
        if self._cold:
            drop_caches()
        waited = time.monotonic() - began
        if not again:
            self._step_began = began
            self._is_first = True
            self._values = {**self._observer.observe(), conditions.WAITED_SECONDS: 0, conditions.UNSETTLED: 0}
        self._values[conditions.WAITED_SECONDS] += waited
        self._values[conditions.UNSETTLED] = max(self._values[conditions.UNSETTLED], float(not quiet))
        self._values[conditions.PACE] = self._pace_maker.seconds()

    def launching(self) -> None:
        """The target is about to be asked for an instance."""
        self._lateness.seconds()
        self._launching = time.monotonic()
        if not self._is_first:
            return
        self._is_first = False
        self._cpu = time.process_time()
        self._first_launching = self._launching
        if self._stopped is not None:
            waited = self._values[conditions.WAITED_SECONDS]
            self._values[conditions.OWN_SECONDS] = self._launching - self._stopped - waited

    def launched(self) -> float:
        """The instance is ready; how late the harness was meanwhile, in seconds."""
        self._values[conditions.LAUNCH_SECONDS] = time.monotonic() - self._launching
        return self._lateness.seconds()

    def measured(self) -> None:
        """Everything that the step is for has been measured."""
        self._values[conditions.MEASURED_SECONDS] = time.monotonic() - self._first_launching
        self._values[conditions.HARNESS_CPU] = time.process_time() - self._cpu

    def stopping(self) -> None:
        """The instance is about to be stopped."""
        self._lateness.seconds()

    def stopped(self) -> float:
        """Nothing is left of the instance; how late the harness was meanwhile, in seconds."""
        self._stopped = time.monotonic()
        return self._lateness.seconds()

    def step_conditions(self, order: int) -> Conditions:
        """What is kept of the step."""
        return Conditions(order, {**self._values, conditions.STEP_SECONDS: self.step_seconds})
