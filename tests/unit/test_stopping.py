"""Warm-ups end when launches get no faster, repetitions when there are enough, failures before long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from pybench.harness.model import (
    MeasurementChoice,
    Sample,
    SampleStatus,
    Scenario,
    Schedule,
    Step,
    Stop,
    TargetChoice,
    Workload,
    combine,
)
from pybench.harness.plan import plan
from pybench.harness.runner.stopping import Stopping

WORKLOAD = Workload("w", "minimal", ("/bin/workload",))


def scenario(schedule: Schedule, *targets: TargetChoice) -> Scenario:
    """One workload on some targets."""
    choices = targets or (TargetChoice("a", "mock", 40), TargetChoice("b", "mock", 40))
    return Scenario(
        "s", "", "s.yaml", combine([WORKLOAD], choices), (MeasurementChoice("startup"),), schedule
    )


def sample(step: Step, value: float | None, status: SampleStatus = "ok") -> Sample:
    """The one sample of a step."""
    metric = "startup.ready"
    where = (step.workload.name, step.target.name, metric, "s", value, step.repetition, step.warmup)
    return Sample(*where, step.order, "pipe", 1e-9, {}, status=status)


def carried_out(
    wanted: Scenario,
    value: Callable[[Step], float | None],
    status: Callable[[Step], SampleStatus] = lambda _: "ok",
    seconds: float = 0.0,
) -> list[Step]:
    """The steps that are carried out, replacements included, if each takes so many seconds."""
    stopping = Stopping(wanted)
    done: list[Step] = []
    steps = plan(wanted)
    while steps:
        for step in steps:
            if stopping.needs(step, len(done) * seconds):
                done.append(step)
                measured = value(step)
                found = sample(step, measured, "failed" if measured is None else status(step))
                stopping.observe(step, measured or 0.0, [found])
        steps = stopping.replacements(steps[-1].order + 1)
    return done


def warmups(values: list[float], schedule: Schedule) -> int:
    """How many warm-ups a series of launch times takes."""
    wanted = scenario(schedule, TargetChoice("a", "mock", 1))
    steps = carried_out(wanted, lambda step: values[step.repetition] if step.warmup else 1.0)
    return sum(step.warmup for step in steps)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9, 5, 4, 3, 2, 1.9, 1.8, 1.7, 1.6, 1.5], 10),  # faster to the end
        ([9, 5, 4, 4.1, 4.2, 1, 1, 1, 1, 1], 5),  # steady after the third
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 3),  # never faster
        ([4, 4, 4, 4, 4, 4, 4, 4, 4, 4], 3),  # always the same
        ([9, 8, 8.5, 7, 7.5, 7.2, 1, 1, 1, 1], 6),  # one slower launch does not end it
    ],
)
def test_warming_up_goes_on_while_launches_get_faster(values: list[float], expected: int) -> None:
    """Two launches in a row that set no record end it."""
    assert warmups(values, Schedule(warmups=1, warmups_at_most=10)) == expected


def test_warmups_have_bounds() -> None:
    """At least as many as `warmups`; exactly these without `warmups_at_most`, or where the target says so."""
    assert warmups([1.0] * 10, Schedule(warmups=6, warmups_at_most=10)) == 6
    assert warmups([9.0 - n for n in range(9)], Schedule(warmups=2)) == 2
    wanted = scenario(Schedule(warmups=1, warmups_at_most=9), TargetChoice("a", "mock", 1, {}, 2))
    assert sum(step.warmup for step in carried_out(wanted, lambda step: 9.0 - step.repetition)) == 2


def test_a_precise_combination_stops_and_the_others_go_on() -> None:
    """The narrow one ends as soon as it may, the wide one takes all its repetitions."""
    random = np.random.default_rng(3)
    spread = {"a": 0.005, "b": 0.8}
    schedule = Schedule(warmups=0, stop=Stop(precision=0.05, at_least=12))
    steps = carried_out(scenario(schedule), lambda step: float(random.lognormal(0, spread[step.target.name])))
    assert Counter(step.target.name for step in steps) == {"a": 12, "b": 40}


def test_time_ends_a_run_for_all_alike() -> None:
    """No further repetition begins; the targets differ by one at most."""
    schedule = Schedule(warmups=1, stop=Stop(time=10.0))
    counts = Counter(step.target.name for step in carried_out(scenario(schedule), lambda _: 1.0, seconds=0.5))
    assert sum(counts.values()) == 20
    assert abs(counts["a"] - counts["b"]) <= 1


def test_what_always_fails_is_given_up() -> None:
    """After so many failures in a row; one success begins the count anew."""
    schedule = Schedule(warmups=0, give_up_after=3)
    steps = carried_out(
        scenario(schedule),
        lambda step: None if step.target.name == "a" or step.repetition % 3 else 1.0,
    )
    assert Counter(step.target.name for step in steps) == {"a": 3, "b": 40}


def test_rejected_samples_are_replaced_within_bounds() -> None:
    """A fifth rejected is made up for; if all are rejected, half as many again are tried and no more."""
    one = scenario(Schedule(warmups=0), TargetChoice("a", "mock", 40))
    some = carried_out(one, lambda _: 1.0, lambda step: "rejected" if step.repetition % 5 == 0 else "ok")
    assert sum(step.repetition % 5 != 0 for step in some) == 40
    assert [step.order for step in some] == list(range(len(some)))
    assert [step.repetition for step in some] == list(range(len(some)))
    assert len(carried_out(one, lambda _: 1.0, lambda _: "rejected")) == 60


def test_replacements_alternate() -> None:
    """Two targets whose samples were rejected take turns."""
    both = scenario(Schedule(warmups=0), TargetChoice("a", "mock", 4), TargetChoice("b", "mock", 4))
    steps = carried_out(both, lambda _: 1.0, lambda step: "rejected" if step.repetition < 2 else "ok")
    assert [step.target.name for step in steps[8:]] == ["a", "b", "a", "b"]
