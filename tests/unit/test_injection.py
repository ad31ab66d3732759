"""An injected delay moves the marks that a real one in the same phase would move."""

from __future__ import annotations

import pytest

from pybench.harness.gate.injection import InjectedInstance
from pybench.harness.model import Mark
from pybench.harness.targets.mock import MockInstance

INSTANTS = {"preparing": -5, "request": 0, "clone": 40, "sandbox": 60, "exec": 90, "ready": 100}


def shifts(phase: str, added: int = 1000) -> dict[str, int]:
    """How much later each mark is with a delay, while the instance runs and after it has stopped."""
    marks = tuple(Mark(name, 1000 + at, "pretended", 1e-9) for name, at in INSTANTS.items())
    instance = MockInstance(marks)
    injected = InjectedInstance(instance, added, phase, 0)
    injected.stop(1.0)
    return {
        after.name: after.at - before.at for before, after in zip(instance.marks, injected.marks, strict=True)
    }


@pytest.mark.parametrize("phase", ["clone", "sandbox", "exec", "ready"])
def test_a_delay_of_one_phase_moves_its_mark_and_all_later_ones(phase: str) -> None:
    """What precedes stays, and what follows takes as long as it did."""
    names = [*INSTANTS, "stopping", "stopped"]
    first = names.index(phase)
    assert shifts(phase) == {name: 1000 * (at >= first) for at, name in enumerate(names)}


def test_a_phase_that_the_target_has_not_is_delayed_at_the_end() -> None:
    """The start is as much slower on every target."""
    assert shifts("kernel") == shifts("ready")


def test_a_delay_of_all_phases_is_shared_by_their_length() -> None:
    """Each takes a tenth longer, if the whole does."""
    assert shifts("", added=10) == {
        "preparing": 0, "request": 0, "clone": 4, "sandbox": 6, "exec": 9, "ready": 10,
        "stopping": 10, "stopped": 10,
    }  # fmt: skip
