"""The gate fires on what is worse, by enough and for sure, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from gate_runs import BASE, night_samples

from pybench.harness.comparison.changepoints import change_points
from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.nights import Night, Series
from pybench.harness.comparison.pace import Pace
from pybench.harness.comparison.runs import HOST
from pybench.harness.gate.check import GateResult, GateSettings, Measured, gate
from pybench.harness.model import Sample
from pybench.harness.stats import CellKey

READY: CellKey = ("ready", "container", "startup.ready", "s", "")


def held(candidate: Sequence[Sample], settings: GateSettings | None = None) -> GateResult:
    """What the gate says of a candidate against an unchanged baseline."""
    return gate(Measured("base", night_samples(1)), Measured("new", candidate), settings or GateSettings())


def kinds(result: GateResult) -> set[tuple[str, str]]:
    """Kind and metric of every finding."""
    return {(found.kind, found.cell[2]) for found in result.findings}


def test_nothing_changed_passes() -> None:
    """A night like the one before has no finding, and phases are not gated."""
    result = held(night_samples(2))
    assert (result.outcome, result.findings) == ("pass", ())
    assert {each.change.cell[2] for each in result.cells} == {"startup.ready", "memory.host.cgroup"}


def test_a_regression_is_found_and_attributed() -> None:
    """A start that takes 10 % longer fails the gate, and the phase that is to blame is named."""
    factors = {"startup.ready": 1.1, "startup.phase.exec": 1.125}
    result = held(night_samples(2, factors))
    assert (result.outcome, kinds(result)) == ("regression", {("regression", "startup.ready")})
    (attribution,) = result.attributions
    assert max(attribution.phases, key=lambda phase: phase.value).phase == "exec"


def test_getting_better_passes() -> None:
    """An improvement is no finding."""
    result = held(night_samples(2, {"startup.ready": 0.8, "memory.host.cgroup": 0.8}))
    assert result.outcome == "pass"
    assert {each.verdict for each in result.cells} == {"faster", "smaller"}


def test_two_mebibytes_are_always_found() -> None:
    """In each of 20 nights."""
    factor = (700e3 + 2 * 2**20) / 700e3
    for seed in range(2, 22):
        result = held(night_samples(seed, {"memory.host.cgroup": factor}))
        assert ("regression", "memory.host.cgroup") in kinds(result)


@pytest.mark.parametrize("limit", [Limit(0.15, 0.0), Limit(0.0, 0.3e-3)])
def test_a_change_within_either_limit_passes(limit: Limit) -> None:
    """Supported or not."""
    settings = GateSettings(Limits(of_unit={"s": limit}), metrics=("startup.ready",))
    assert held(night_samples(2, {"startup.ready": 1.1}), settings).outcome == "pass"


def test_a_maximum_holds_whatever_the_baseline() -> None:
    """A median above it is a finding though nothing changed."""
    limit = Limit(0.03, 20e-6, maximum=1.4e-3)
    result = held(night_samples(2), GateSettings(Limits(of_metric={"startup.ready": limit})))
    assert (result.outcome, kinds(result)) == ("regression", {("maximum", "startup.ready")})


def test_only_chosen_metrics_are_gated() -> None:
    """Patterns choose them, phases too if they are asked for."""
    worse = night_samples(2, dict.fromkeys((metric for metric, _ in BASE), 1.2))
    assert kinds(held(worse, GateSettings(metrics=("memory.*",)))) == {("regression", "memory.host.cgroup")}
    assert ("regression", "startup.phase.exec") in kinds(held(worse, GateSettings(metrics=("*",))))


def test_a_change_without_support_is_inconclusive() -> None:
    """A few samples that look much worse are no regression, but the gate does not pass either."""
    few = [sample for sample in night_samples(2, {"startup.ready": 1.2}) if sample.order < 3]
    result = gate(
        Measured("base", [sample for sample in night_samples(1) if sample.order < 3]),
        Measured("new", few),
        GateSettings(),
    )
    assert (result.outcome, kinds(result)) == ("inconclusive", {("unsupported", "startup.ready")})
    assert {each.change.cell[2] for each in result.blind} == {"startup.ready", "memory.host.cgroup"}


def test_failing_launches_are_a_regression() -> None:
    """All of them, or supportedly more than before; one among many is not."""

    def failing(every: int) -> list[Sample]:
        return [
            replace(sample, value=None, status="failed")
            if sample.metric == "startup.ready" and sample.order % every == 0
            else sample
            for sample in night_samples(2)
        ]

    assert kinds(held(failing(1))) == {("failures", "startup.ready")}
    assert kinds(held(failing(4))) == {("failures", "startup.ready")}
    assert held(failing(60)).outcome == "pass"


def test_a_launch_that_was_rejected_did_not_fail() -> None:
    """Rejected samples count as launches: they neither hide failures nor leave the few that failed as all."""

    def on_a_busy_host(failing: int) -> list[Sample]:
        return [
            replace(sample, value=None, status="failed")
            if sample.order % 30 < failing
            else replace(sample, status="rejected")
            if sample.order % 30 < 29
            else sample
            for sample in night_samples(2)
            if sample.metric == "startup.ready"
        ]

    settings = GateSettings(metrics=("startup.ready",))
    before = Measured("before", on_a_busy_host(0))
    outcomes = [gate(before, Measured("after", on_a_busy_host(n)), settings) for n in (1, 8)]
    assert [kinds(each) & {("failures", "startup.ready")} for each in outcomes] == [
        set(),
        {("failures", "startup.ready")},
    ]


def test_a_cell_that_is_gone_is_inconclusive() -> None:
    """One that only the baseline has cannot be judged; one that only the candidate has is new."""
    without = [sample for sample in night_samples(2) if sample.metric != "memory.host.cgroup"]
    assert kinds(held(without)) == {("missing", "memory.host.cgroup")}
    assert gate(Measured("b", without), Measured("c", night_samples(2)), GateSettings()).outcome == "pass"
    assert gate(Measured("b", []), Measured("c", []), GateSettings()).outcome == "pass"


def test_slow_drift_is_found_against_an_older_baseline() -> None:
    """Two per cent since yesterday are within the limit, ten since last month are not."""
    now = night_samples(3, {"startup.ready": 1.1})
    result = gate(
        Measured("yesterday", night_samples(2, {"startup.ready": 1.08})),
        Measured("now", now),
        GateSettings(),
        older=Measured("last month", night_samples(1)),
    )
    assert (result.outcome, kinds(result)) == ("regression", {("drift", "startup.ready")})
    assert result.findings[0].against == "last month"


QUIET, SLOWED = Pace(17e-6, 1e-6), Pace(22e-6, 3e-6)
"""A host that is left alone, and one that others slow down by three tenths."""


def on_hosts(before: Pace | None, after: Pace | None, factor: float, **others: float) -> GateResult:
    """A start that took this many times as long, and the paces of the host on both sides."""
    factors = {"startup.ready": factor, **others}
    baseline = Measured("base", night_samples(1), before)
    return gate(baseline, Measured("new", night_samples(2, factors), after), GateSettings())


def test_what_the_host_explains_is_no_regression() -> None:
    """A fifth more on a host slower by three tenths cannot be told; on one as fast it can, and a half can."""
    slowed = on_hosts(QUIET, SLOWED, 1.2)
    assert (slowed.outcome, kinds(slowed)) == ("inconclusive", {("host", "startup.ready")})
    assert slowed.slowdown.median == pytest.approx(5 / 17)
    for before, after, factor in (
        (QUIET, QUIET, 1.2),
        (SLOWED, SLOWED, 1.2),
        (None, SLOWED, 1.2),
        (QUIET, None, 1.2),
        (SLOWED, QUIET, 1.2),
        (QUIET, SLOWED, 1.5),
    ):
        found = on_hosts(before, after, factor)
        assert (found.outcome, kinds(found)) == ("regression", {("regression", "startup.ready")})


def test_a_host_explains_no_memory_and_no_failure() -> None:
    """Two mebibytes more are found on a slower host as on any."""
    found = on_hosts(QUIET, SLOWED, 1.2, **{"memory.host.cgroup": 4.0})
    assert found.outcome == "regression"
    assert ("regression", "memory.host.cgroup") in kinds(found)


def test_a_faster_host_makes_nothing_faster() -> None:
    """What is told as better is no more than what exceeds the host's own change."""
    (ready,) = (each for each in on_hosts(SLOWED, QUIET, 0.85).cells if each.change.cell == READY)
    assert (ready.verdict, ready.reason) == ("inconclusive", HOST)
    (ready,) = (each for each in on_hosts(QUIET, QUIET, 0.85).cells if each.change.cell == READY)
    assert ready.verdict == "faster"


def test_a_tail_of_the_hosts_own_is_no_regression() -> None:
    """Where a quarter of the launches met a slower host, as its pace says, their times are no finding."""
    longer = [
        replace(each, value=(each.value or 0) * (1.4 if each.order % 4 == 0 and each.unit == "s" else 1))
        for each in night_samples(2)
    ]

    def found(after: Pace) -> set[tuple[str, str]]:
        return kinds(
            gate(Measured("a", night_samples(1), QUIET), Measured("b", longer, after), GateSettings())
        )

    assert found(QUIET) == {("regression", "startup.ready")}
    assert found(Pace(QUIET.median, 9e-6)) == {("host", "startup.ready")}


def level(medians: Sequence[float], tails: Sequence[float] = ()) -> Series:
    """A series of nights of one cell; without other tails of a tenth of the median."""
    known = tails or [0.1 * median for median in medians]
    return {READY: [Night(f"night-{at}", *each) for at, each in enumerate(zip(medians, known, strict=True))]}


def test_a_new_level_keeps_failing_for_some_nights() -> None:
    """A step that each night is too noisy to show is found after three nights, and told for a week."""
    generator = np.random.default_rng(1)
    before = list(generator.normal(1.5e-3, 1e-5, 20))
    same = Measured("x", night_samples(1))

    def found(nights: int) -> GateResult:
        after = list(generator.normal(1.65e-3, 1e-5, nights))
        return gate(same, Measured("y", night_samples(2)), GateSettings(), series=level([*before, *after]))

    assert found(2).outcome == "pass"
    for nights in (3, 7):
        result = found(nights)
        assert kinds(result) == {("change point", "startup.ready")}
        assert result.findings[0].against == "night-20"
    assert found(8).outcome == "pass"


def test_a_level_that_the_host_has_changed_is_none() -> None:
    """Three slower nights on a slower host are no new level, nor is what crept in with the host a drift."""
    same = Measured("x", night_samples(1))

    def found(after: Pace) -> set[tuple[str, str]]:
        generator = np.random.default_rng(1)
        medians = [*generator.normal(1.5e-3, 1e-5, 20), *generator.normal(1.65e-3, 1e-5, 4)]
        paces = [QUIET] * 20 + [after] * 4
        nights = {
            READY: [
                Night(f"night-{at}", float(median), 1.5e-4, pace)
                for at, (median, pace) in enumerate(zip(medians, paces, strict=True))
            ]
        }
        return kinds(gate(same, Measured("y", night_samples(2)), GateSettings(), series=nights))

    assert found(QUIET) == {("change point", "startup.ready")}
    assert found(SLOWED) == set()


def test_what_crept_in_with_the_host_is_no_drift() -> None:
    """A host that slowly fills with neighbours slows every night a little."""
    usual, now = night_samples(2, {"startup.ready": 1.08}), night_samples(3, {"startup.ready": 1.1})

    def found(last: Pace) -> set[tuple[str, str]]:
        shares = [at / 11 for at in range(12)]
        nights = {
            READY: [
                Night(
                    f"night-{at}",
                    1.5e-3 * (1 + 0.1 * share),
                    1.5e-4,
                    Pace(QUIET.median + share * (last.median - QUIET.median), QUIET.tail),
                )
                for at, share in enumerate(shares)
            ]
        }
        # The candidate itself had a pace as at the beginning, so that only the nights tell.
        older, before = Measured("night-0", night_samples(1), QUIET), Measured("b", usual, QUIET)
        return kinds(gate(before, Measured("now", now, QUIET), GateSettings(), older, nights))

    assert found(QUIET) == {("drift", "startup.ready")}
    assert found(SLOWED) == set()


def test_a_change_point_is_placed_and_a_spike_is_none() -> None:
    """The first run of the new level is found; one wild run, or two, make no level."""
    generator = np.random.default_rng(2)
    steady = generator.normal(1.0, 0.01, 40)
    stepped = steady + np.where(np.arange(40) >= 25, 0.1, 0.0)
    (point,) = change_points(list(stepped))
    assert (point.position, point.length) == (25, 15)
    assert (point.before, point.after) == pytest.approx((1.0, 1.1), abs=0.01)
    spiked = steady.copy()
    spiked[20] = 5.0
    assert change_points(list(spiked)) == []
    assert change_points([1.0] * 40) == []
    assert change_points([1.0, 2.0] * 4) == []


def test_change_points_are_rarely_false() -> None:
    """Of 100 simulated series without a change, at most 3 % have a point."""
    generator = np.random.default_rng(3)
    assert sum(bool(change_points(list(generator.normal(0, 1, 24)))) for _ in range(100)) <= 3


def test_false_alarms_are_at_most_one_in_a_hundred_nights() -> None:
    """Of 200 simulated nights without a change, none or one or two fail, though no limit helps."""
    settings = GateSettings(Limits(of_unit={"s": Limit(0.0, 0.0), "B": Limit(0.0, 0.0)}))
    alarms = sum(
        gate(
            Measured("a", night_samples(2 * seed, n=25)),
            Measured("b", night_samples(2 * seed + 1, n=25)),
            settings,
        ).outcome
        == "regression"
        for seed in range(200)
    )
    assert alarms / 200 <= 0.01 + math.sqrt(0.01 * 0.99 / 200)


def test_five_per_cent_are_found_at_sixty_repetitions() -> None:
    """In at least 95 of 100 simulated nights of a host whose launches scatter by 4.5 %."""
    settings = GateSettings(metrics=("startup.ready",))
    found = 0
    for seed in range(100):
        before = night_samples(2 * seed, spread=0.045)
        after = night_samples(2 * seed + 1, {"startup.ready": 1.05}, spread=0.045)
        found += gate(Measured("a", before), Measured("b", after), settings).outcome == "regression"
    assert found >= 95


def test_one_lucky_night_is_no_drift() -> None:
    """The oldest baseline was better than all that followed it, or tonight is worse than those before."""
    now, usual = night_samples(3, {"startup.ready": 1.1}), night_samples(2, {"startup.ready": 1.08})
    older = Measured("night-0", night_samples(1))

    def found(shares: Sequence[float]) -> set[tuple[str, str]]:
        nights = level([1.5e-3 * share for share in shares])
        return kinds(gate(Measured("b", usual), Measured("now", now), GateSettings(), older, nights))

    assert found([1.0, *[1.1] * 11]) == set()
    assert found([*[1.0] * 11, 1.1]) == set()
    assert found([1 + 0.1 * at / 11 for at in range(12)]) == {("drift", "startup.ready")}
    assert found([1.0, 1.1]) == {("drift", "startup.ready")}


def test_one_short_tail_is_no_drift_either() -> None:
    """Every fourth launch takes three times as long, which the oldest baseline alone was spared."""

    def with_tail(seed: int) -> list[Sample]:
        return [
            replace(each, value=(each.value or 0) * (3 if each.repetition % 4 == 0 else 1))
            for each in night_samples(seed)
        ]

    older, usual, now = Measured("night-0", night_samples(1)), with_tail(2), with_tail(3)

    def found(tails: Sequence[float]) -> set[tuple[str, str]]:
        nights = level([1.5e-3] * len(tails), [1.5e-3 * tail for tail in tails])
        result = gate(Measured("b", usual), Measured("now", now), GateSettings(), older, nights)
        return {each for each in kinds(result) if each[1] == READY[2]}

    assert found([0.04, *[2.0] * 11]) == set()
    assert found([0.04 + 2 * at / 11 for at in range(12)]) == {("drift", READY[2])}
