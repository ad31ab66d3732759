"""What follows from what the host counts while a guest uses something up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from pybench.harness.audit.answer import Answer
from pybench.harness.audit.catalogue import find
from pybench.harness.audit.core_dumps import is_given_to_a_program
from pybench.harness.audit.model import Outcome, Verdict
from pybench.harness.audit.observation import Observation
from pybench.harness.audit.probes import limits
from pybench.harness.audit.watch import Watch, handled_packets
from pybench.runtime.container.cgroup.base import Limits

PROMISED = Limits(memory=100)
HANDLER = "|/usr/lib/systemd/systemd-coredump %P"


@dataclass
class Instance:
    """What these probes look at of an instance."""

    shared: bool = False
    own_kernel: bool = False
    limits: Limits = PROMISED


def judged(probe: str, instance: Instance, watched: Watch, **facts: int | bool) -> Verdict:
    """A probe's verdict on what a guest has answered."""
    answer = Answer(probe=probe, status="done", facts=dict(facts))
    nothing = cast("Any", None)
    observation = Observation(answer, cast("Any", instance), None, nothing, {}, None, watched)
    return find(probe).judge(observation)


@pytest.mark.parametrize(
    ("instance", "outcome"),
    [
        (Instance(shared=True), Outcome.LEAK),
        (Instance(), Outcome.SHARED),
        (Instance(own_kernel=True), Outcome.ISOLATED),
    ],
)
def test_crashes_start_a_program_on_the_host(
    instance: Instance, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that takes cores runs outside of all limits, at the wish of whoever shares the kernel."""
    monkeypatch.setattr(limits, "core_pattern", lambda: HANDLER)
    dumped = 0 if instance.own_kernel else 4
    verdict = judged("R8", instance, Watch(packets=[7, 7]), sent=0, dumped=dumped)
    assert verdict.outcome is outcome
    assert [HANDLER in line for line in verdict.evidence] == [True] * bool(dumped)


def test_packets_that_the_host_handles_are_counted_one_by_one() -> None:
    """At least as many as were sent; fewer means that they went elsewhere."""
    assert judged("R8", Instance(), Watch(packets=[5, 15]), sent=10, dumped=0).outcome is Outcome.SHARED
    assert judged("R8", Instance(), Watch(packets=[5, 14]), sent=10, dumped=0).outcome is Outcome.ISOLATED
    assert handled_packets() >= 0


@pytest.mark.parametrize(
    ("pattern", "given"),
    [("core", False), ("/var/cores/%p", False), ("", False), (HANDLER, True), ("@/run/cores.sock", True)],
)
def test_a_core_goes_to_a_file_or_to_a_program(pattern: str, given: bool) -> None:
    """As core(5) reads the pattern."""
    assert is_given_to_a_program(pattern) is given


@pytest.mark.parametrize(
    ("touched", "swapped", "outcome"),
    [(120, 30, Outcome.LEAK), (100, 30, Outcome.ISOLATED), (120, 0, Outcome.ISOLATED)],
)
def test_swap_is_a_leak_if_it_adds_to_what_was_promised(
    touched: int, swapped: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is swapped out within the limit is not more of it, and what is not swapped is R2's question."""
    monkeypatch.setattr(limits, "_host_swaps", lambda: True)
    assert judged("R3", Instance(), Watch(), touched=touched, swapped=swapped).outcome is outcome


def test_without_swap_on_the_host_there_is_none_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no isolation: the question cannot be asked."""
    monkeypatch.setattr(limits, "_host_swaps", lambda: False)
    assert judged("R3", Instance(), Watch(), touched=0, swapped=0).outcome is Outcome.NOT_APPLICABLE
