"""The proof that the gate sees a leaked PID: audits of a container, and of a process in its place.

What is injected is what a container would show that had lost its pid namespace: a bare process is asked the
same questions, and its answers are held against the container's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.carry_out import Request, carry_out
from pybench.harness.audit.catalogue import choose
from pybench.harness.audit.record import samples
from pybench.harness.audit.subjects.container import ContainerMaker
from pybench.harness.audit.subjects.process import ProcessMaker
from pybench.harness.gate.check import GateSettings, Measured, gate
from pybench.harness.gate.injection import LEAK, LEAK_CONTROL
from pybench.harness.gate.self_test import Trial

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.harness.audit.subjects.base import Subject
    from pybench.vm_images import Image

IMAGE: Final = "debian"
"""One with python3, in which the questions are asked."""
_CATEGORY: Final = "pid"
_TARGET: Final = "container"
_AGAIN: Final = "container.again"


@dataclass(frozen=True, slots=True)
class _Again:
    """A second container, under a name of its own."""

    maker: ContainerMaker
    label: str = _AGAIN

    @property
    def kind(self) -> Kind:
        """Of the same class."""
        return self.maker.kind

    def opened(self, planting: Planting, image: Image) -> AbstractContextManager[Iterator[Subject]]:
        """As the container's own."""
        return self.maker.opened(planting, image)


def leak_trials(settings: GateSettings, tell: Callable[[str], None]) -> list[Trial]:
    """What the gate says of a container audited twice, and of a bare process in its place.

    Raises:
        HostError: the image cannot be built, or a container cannot be run here.
    """
    process = ProcessMaker()
    request = Request(targets=(_TARGET,), image=IMAGE, probes=choose((), (_CATEGORY,)))
    audit = carry_out(
        request, [ContainerMaker(), _Again(ContainerMaker()), process], lambda _, text: tell(text)
    )
    by_target = {
        label: [replace(sample, target=_TARGET) for sample in samples(audit) if sample.target == label]
        for label in (_TARGET, _AGAIN, process.label)
    }
    before = Measured("as it is", by_target[_TARGET])
    pairs = ((LEAK_CONTROL, _AGAIN), (LEAK, process.label))
    return [
        Trial(_TARGET, injection, gate(before, Measured(injection.name, by_target[label]), settings))
        for injection, label in pairs
    ]
