"""The plan is exact, interleaved, even and reproducible."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from pybench.harness.model import (
    MeasurementChoice,
    Scenario,
    Schedule,
    Step,
    TargetChoice,
    Workload,
    combine,
)
from pybench.harness.plan import plan

WORKLOAD = Workload("ready", "minimal", ("/bin/workload",))


def scenario(
    repetitions: list[int], *, warmups: int = 1, seed: int = 1, workloads: int = 1, own: int | None = None
) -> Scenario:
    """A scenario with one target per entry; `own` is the first target's number of warm-ups."""
    targets = tuple(
        TargetChoice(f"t{index}", "mock", count, {}, own if index == 0 else None)
        for index, count in enumerate(repetitions)
    )
    names = tuple(Workload(f"w{index}", "minimal", ("/bin/workload",)) for index in range(workloads))
    schedule = Schedule(warmups=warmups, seed=seed)
    return Scenario("s", "", "s.yaml", combine(names, targets), (MeasurementChoice("startup"),), schedule)


def rounds(steps: tuple[Step, ...]) -> list[list[str]]:
    """The measured launches, by repetition, of a plan whose targets all have the same number of them."""
    measured = [step for step in steps if not step.warmup]
    last = max(step.repetition for step in measured)
    return [[step.target.name for step in measured if step.repetition == n] for n in range(last + 1)]


counts = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(counts, st.integers(0, 4), st.integers(0, 2**63 - 1), st.integers(1, 3))
def test_every_launch_is_planned_once(
    repetitions: list[int], warmups: int, seed: int, workloads: int
) -> None:
    """Each (workload, target) gets its warm-ups and repetitions, numbered from 0, and nothing else."""
    steps = plan(scenario(repetitions, warmups=warmups, seed=seed, workloads=workloads))
    expected = Counter(
        (f"w{workload}", f"t{target}", warmup, repetition)
        for workload in range(workloads)
        for target, count in enumerate(repetitions)
        for warmup, total in ((True, warmups), (False, count))
        for repetition in range(total)
    )
    assert Counter((s.workload.name, s.target.name, s.warmup, s.repetition) for s in steps) == expected
    assert [step.order for step in steps] == list(range(len(steps)))


@given(counts, st.integers(0, 3), st.integers(0, 1000))
def test_the_same_seed_gives_the_same_plan(repetitions: list[int], warmups: int, seed: int) -> None:
    """A plan depends on the scenario and its seed alone."""
    assert plan(scenario(repetitions, warmups=warmups, seed=seed)) == plan(
        scenario(repetitions, warmups=warmups, seed=seed)
    )


def test_the_order_depends_on_the_seed() -> None:
    """Over some seeds, every target comes first at least once."""
    firsts = {plan(scenario([5, 5, 5, 5], seed=seed))[0].target.name for seed in range(40)}
    assert firsts == {"t0", "t1", "t2", "t3"}


def test_a_known_plan_stays_as_it_is() -> None:
    """The order for a seed is part of the contract: stored runs can be repeated by a later version."""
    names = [step.target.name for step in plan(scenario([2, 2, 1], warmups=0, seed=7))]
    assert names == ["t1", "t0", "t2", "t0", "t1"]


@given(counts, st.integers(1, 4), st.integers(0, 1000))
def test_warmups_come_first(repetitions: list[int], warmups: int, seed: int) -> None:
    """No measured launch precedes a warm-up."""
    flags = [step.warmup for step in plan(scenario(repetitions, warmups=warmups, seed=seed))]
    assert flags == sorted(flags, reverse=True)


def test_a_target_may_have_warmups_of_its_own() -> None:
    """The target's number replaces the schedule's, for that target only."""
    steps = plan(scenario([3, 3], warmups=2, own=0))
    assert Counter(step.target.name for step in steps if step.warmup) == {"t1": 2}


@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 1000))
def test_targets_alternate_and_the_order_flips(targets: int, count: int, seed: int) -> None:
    """Within a repetition each target is launched once, and the next repetition runs backwards."""
    order = rounds(plan(scenario([count] * targets, seed=seed)))
    assert all(sorted(names) == sorted(order[0]) for names in order)
    assert all(names == list(reversed(before)) for before, names in pairwise(order))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 100))
def test_fewer_repetitions_are_spread_evenly(few: int, many: int, seed: int) -> None:
    """At every moment the rarer target has had its share of launches, to within one launch of each."""
    few, many = sorted((few, many))
    done = Counter[str]()
    for step in plan(scenario([few, many], warmups=0, seed=seed)):
        done[step.target.name] += 1
        assert abs(done["t0"] - done["t1"] * few / many) <= 1 + few / many


@given(st.integers(2, 20), st.integers(2, 4), st.integers(0, 100))
def test_a_rare_target_meets_both_orders(few: int, stride: int, seed: int) -> None:
    """A target that takes part in every n-th repetition finds the others' order flipped each time."""
    steps = plan(scenario([few, few * stride, few * stride], warmups=0, seed=seed))
    places = [step.order for step in steps if step.target.name == "t0"]
    assume(places[0] > 0)
    between = [(steps[place - 1], steps[place + 1]) for place in places if place + 1 < len(steps)]
    # Only in the middle of the order do its neighbours tell which repetition it belongs to.
    assume(len(between) == few and all(one.repetition == other.repetition for one, other in between))
    orders = [one.target.name for one, _ in between]
    assert all(one != other for one, other in pairwise(orders))
