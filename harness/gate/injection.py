"""Known regressions that any target can be made to show, so that the gate can be seen to catch them.

An injected target launches the real one and changes what is observed of it: the clock really passes, the
marks move by as much, and the memory that is read is larger. Everything after that (measurement, store,
statistics, verdict) is what an ordinary run goes through.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.errors import InstanceError

if TYPE_CHECKING:
    from pybench.harness.model import Mark, Workload
    from pybench.harness.targets.base import ImageFiles, Instance, Target


@dataclass(frozen=True, slots=True)
class Injection:
    """One known regression; the default is none, the control that must not raise an alarm."""

    name: str
    description: str
    delay: float = 0.0
    """Of the span from request to ready, added to every launch."""
    phase: str = "exec"
    """In which the delay passes: its mark and all later ones move. Empty for all, each by its share."""
    memory: int = 0
    """Bytes, added to what the instance's group is charged."""
    detour: float = 0.0
    """Of the same span, added to every `every`th launch alone."""
    fails: bool = False
    """Every `every`th launch fails."""
    every: int = 4
    leaks: bool = False
    """A process of the host can be seen from inside."""

    @property
    def is_none(self) -> bool:
        """Whether it is a control, in which nothing must be found."""
        return not (self.delay or self.memory or self.detour or self.fails or self.leaks)


CONTROL: Final = Injection("control", "nothing")
INJECTIONS: Final = (
    Injection("delay", "spawn slower by 10 %", delay=0.1),
    Injection("memory", "2 MiB more in the instance's group", memory=2 * 2**20),
    Injection("detour", "every fourth launch takes three times as long", detour=2.0),
    Injection("failures", "every fourth launch fails", fails=True),
)
LEAK_CONTROL: Final = Injection("audit", "nothing, audited twice")
LEAK: Final = Injection("leaked PID", "a process of the host is within reach", leaks=True)
"""Of a container alone; not launched by the runner, but audited."""


class InjectedTarget:
    """A target with a regression."""

    def __init__(self, target: Target, injection: Injection) -> None:
        self._target = target
        self._injection = injection
        self._launches = 0

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """As the target does."""
        self._target.prepare(workload, image)

    def launch(self, timeout: float) -> Instance:
        """Launch, then let the regression happen."""
        chosen = self._launches % self._injection.every == self._injection.every - 1
        self._launches += 1
        instance = self._target.launch(timeout)
        if self._injection.fails and chosen:
            instance.stop(timeout)
            raise InstanceError("this launch was injected to fail")
        marks = {mark.name: mark.at for mark in instance.marks}
        share = self._injection.delay + (self._injection.detour if chosen else 0.0)
        added = round((marks["ready"] - marks["request"]) * share)
        time.sleep(added / 1e9)
        return InjectedInstance(instance, added, self._injection.phase, self._injection.memory)

    def cleanup(self) -> None:
        """As the target does."""
        self._target.cleanup()


@dataclass(frozen=True, slots=True)
class InjectedInstance:
    """An instance of which later and more is observed."""

    instance: Instance
    added: int
    """Nanoseconds."""
    phase: str
    """The one that takes longer, `ready` where the target has none of this name; empty for all of them."""
    memory: int

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the instance has
        """What else the instance can tell or do, so that the same is measured as without an injection."""
        return getattr(self.instance, name)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The instance's, later from that of the phase on."""
        marks = self.instance.marks
        at = {mark.name: mark.at for mark in marks}
        begin, end = at["request"], at["ready"]
        if self.phase:
            # All of it passes right before the mark that ends the phase.
            end = at.get(self.phase, end)
            begin = end - 1
        shares = (min(1.0, max(0.0, (mark.at - begin) / (end - begin))) for mark in marks)
        return tuple(
            replace(mark, at=mark.at + round(self.added * share))
            for mark, share in zip(marks, shares, strict=True)
        )

    @property
    def processes(self) -> tuple[int, ...]:
        """The instance's."""
        return self.instance.processes

    @property
    def cgroup_memory(self) -> int | None:
        """What the instance's group is charged, and what was added to it."""
        charged = self.instance.cgroup_memory
        return None if charged is None else charged + self.memory

    @property
    def qualifiers(self) -> Mapping[str, str]:
        """The instance's: a regression does not announce itself."""
        return self.instance.qualifiers

    @property
    def output(self) -> str:
        """The instance's."""
        return self.instance.output

    @property
    def ended(self) -> str:
        """The instance's."""
        return self.instance.ended

    def stop(self, timeout: float) -> None:
        """As the instance does."""
        self.instance.stop(timeout)
