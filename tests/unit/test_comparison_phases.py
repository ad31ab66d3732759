"""What the other phases of a launch tell of one: the test keeps its level, and finds what is in one phase."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gate_runs import MEDIANS, START, launches, night_samples, samples_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.pace import Slowdown
from pybench.harness.comparison.phases import phase_shift
from pybench.harness.comparison.runs import Comparison, Judged, compare

FEWEST = 20


def start_of(comparison: Comparison) -> Judged:
    """The whole start."""
    return next(each for each in comparison.cells if each.change.cell[2] == "startup.ready")


@pytest.mark.parametrize(("m", "n"), [(20, 20), (60, 60), (40, 120)])
def test_it_keeps_its_level(m: int, n: int) -> None:
    """Of 1,000 simulated pairs of which nothing changed, no more are called so than the level says."""
    generator = np.random.default_rng(1)
    found = [phase_shift(launches(generator, m), launches(generator, n), FEWEST) for _ in range(1000)]
    called = np.mean([each is not None and each.p <= 0.05 for each in found])
    assert 0.01 < called <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("phase", MEDIANS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_of_one_phase_is_found_there(phase: str, sign: int) -> None:
    """Five per cent of the start, in any of its phases, are found, in the right one, and told rightly."""
    generator = np.random.default_rng(2)
    change = sign * 0.05 * START
    covered = 0
    for _ in range(100):
        found = phase_shift(launches(generator), launches(generator, added={phase: change}), FEWEST)
        assert found is not None
        assert (found.phase, found.p < 1e-3) == (phase, True)
        covered += found.shift.low <= change <= found.shift.high
    assert covered >= 88


def test_of_many_launches_it_is_the_right_phase_too() -> None:
    """Where every test is as certain as a number can be, the largest effect is the change."""
    generator = np.random.default_rng(7)
    found = phase_shift(launches(generator, 20_000), launches(generator, 20_000, {"exec": 60e-6}), FEWEST)
    assert found is not None
    assert (found.phase, found.p) == ("exec", 0.0)


def test_a_whole_launch_that_changes_is_left_to_the_other_tests() -> None:
    """What all phases have in common is what a host does, and no phase's own."""
    generator = np.random.default_rng(3)
    slower = {name: values * 1.1 for name, values in launches(generator, 200).items()}
    found = phase_shift(launches(generator, 200), slower, FEWEST)
    assert found is not None
    assert abs(found.shift.value) < 0.01 * START


POSITIVE = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(deadline=None, max_examples=25)
@given(POSITIVE, st.sampled_from([0.25, 2.0, 64.0]))
def test_sides_units_and_orders_do_not_matter(generator: np.random.Generator, scale: float) -> None:
    """Exchanging the sides turns the shift, a unit scales it, the order of launches and phases is nothing."""
    x, y = launches(generator, 30), launches(generator, 30, {"sandbox": 40e-6})
    there, back = phase_shift(x, y, FEWEST), phase_shift(y, x, FEWEST)
    assert there is not None
    assert back is not None
    assert there.phase == back.phase
    assert there.p == pytest.approx(back.p)
    assert there.shift.value == pytest.approx(-back.shift.value)
    scaled = phase_shift(
        {name: values * scale for name, values in x.items()},
        {name: values * scale for name, values in y.items()},
        FEWEST,
    )
    assert scaled is not None
    assert scaled.shift.value == pytest.approx(there.shift.value * scale)
    shuffled = generator.permutation(30)
    turned = phase_shift(
        {name: values[shuffled] for name, values in reversed(x.items())}, dict(reversed(y.items())), FEWEST
    )
    assert turned is not None
    assert turned.shift[:3] == pytest.approx(there.shift[:3])


def test_nothing_is_told_where_there_is_too_little() -> None:
    """Other phases, one alone that varies, or too few launches: there is nothing to tell it by."""
    generator = np.random.default_rng(4)
    x, y = launches(generator), launches(generator)
    assert phase_shift(x, {**y, "kernel": y["exec"]}, FEWEST) is None
    assert phase_shift(x, {name: values[:19] for name, values in y.items()}, FEWEST) is None
    nothing = dict.fromkeys(MEDIANS, np.zeros(60))
    assert phase_shift({**nothing, "exec": x["exec"]}, {**nothing, "exec": y["exec"]}, FEWEST) is None
    assert phase_shift({}, {}, FEWEST) is None


def test_starts_that_hardly_ever_differ_are_judged_whole() -> None:
    """Where one launch alone took longer nothing scatters, and a phase has no share of it."""
    x = {name: np.full(30, median) for name, median in MEDIANS.items()}
    y = {name: values * np.where(np.arange(30) == 3, 2.0, 1.0) for name, values in x.items()}
    found = phase_shift(x, y, FEWEST)
    assert found is not None
    assert (found.shift.value, found.p, found.scatter) == (0.0, 1.0, 1.0)


def test_a_phase_that_takes_no_time_is_left_out() -> None:
    """Ready at the first instruction: the phase is there, and always 0."""
    generator = np.random.default_rng(5)
    x, y = launches(generator), launches(generator, added={"exec": 80e-6})
    plain = phase_shift(x, y, FEWEST)
    with_nothing = phase_shift({**x, "ready": np.zeros(60)}, {**y, "ready": np.zeros(60)}, FEWEST)
    assert plain == with_nothing


def test_a_phase_shows_what_the_whole_start_does_not() -> None:
    """On a host that disturbs every launch the start is slower by its phase alone, which is named."""
    found = {"phase": 0, "start": 0}
    for seed in range(20):
        generator = np.random.default_rng(seed)
        x, y = launches(generator), launches(generator, added={"clone": 0.05 * START})
        judged = start_of(compare(samples_of(x), samples_of(y)))
        assert (judged.verdict, judged.worse) == ("slower", True)
        found["start"] += max(judged.adjusted.shift, judged.adjusted.base) <= 0.05
        if judged.reason == "phase":
            found["phase"] += 1
            assert judged.told_by == "phase clone given the others"
            assert judged.telling is not None
            assert judged.telling[0].value == pytest.approx(0.05 * START, rel=0.5)
    assert found["phase"] >= 5


def test_what_another_phase_makes_up_for_is_no_change() -> None:
    """Work that moved from one phase to another left the start as it was."""
    generator = np.random.default_rng(6)
    moved = 0.1 * START
    x, y = launches(generator, 600), launches(generator, 600, {"clone": -moved, "sandbox": moved})
    judged = start_of(compare(samples_of(x), samples_of(y)))
    assert judged.adjusted.phase < 1e-3
    assert judged.verdict == "same"


def test_what_is_mostly_made_up_for_is_told_by_the_start() -> None:
    """What is left of it lies within the limit, and so does the change that is told."""
    generator = np.random.default_rng(6)
    moved = {"clone": -0.1 * START, "sandbox": 0.12 * START}
    x, y = launches(generator, 2000), launches(generator, 2000, moved)
    judged = start_of(compare(samples_of(x), samples_of(y), Limits(of_unit={"s": Limit(0.022, 0.0)})))
    assert (judged.verdict, judged.only_the_limit_hides) == ("inconclusive", True)
    assert judged.telling is not None
    assert 0 < judged.telling[0].value < judged.margin


def test_a_phase_that_became_faster_makes_no_other_one_slower() -> None:
    """The others take as long as they did, though more than what the faster one tells of them."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        x, y = launches(generator), launches(generator, added={"clone": -0.15 * START})
        assert not any(each.worse for each in compare(samples_of(x), samples_of(y)).cells)


def test_a_phase_is_found_on_a_host_that_became_slower() -> None:
    """All phases are slower by what the host explains, one by more; the host alone explains no regression."""
    slowdown = Slowdown(0.2, 0.0)
    named = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        x = samples_of(launches(generator))
        slower = {name: values * 1.2 for name, values in launches(generator).items()}
        one = {**slower, "exec": slower["exec"] + 0.06 * START}
        of_host, of_phase = (
            start_of(compare(x, samples_of(each), slowdown=slowdown)) for each in (slower, one)
        )
        assert (of_host.verdict, of_host.worse) == ("inconclusive", False)
        assert of_phase.worse
        named += of_phase.told_by == "phase exec given the others"
    assert named >= 2, "the others were plain enough without it"


def test_a_limit_that_nights_made_wider_counts_for_a_phase_by_its_scatter() -> None:
    """Whole nights differ by as little more in a phase as launches do; what somebody has set is left."""
    learnt, chosen = Limit(0.15, 0.0, usual=0.03), Limit(0.15, 0.0)
    assert learnt.phase_margin(2.0, 0.1) == pytest.approx(0.06)
    assert learnt.phase_margin(2.0, 0.4) == pytest.approx(0.12)
    assert learnt.phase_margin(2.0, 1.0) == learnt.margin(2.0)
    assert chosen.phase_margin(2.0, 0.1) == chosen.margin(2.0)
    assert Limit(0.03, 1.0, usual=0.03).phase_margin(2.0, 0.1) == 1.0


def test_starts_of_one_thing_have_no_change() -> None:
    """Neither two halves of the same nights nor phases that add up to less than their start."""
    comparison = compare(night_samples(1), night_samples(2))
    assert not any(each.worse for each in comparison.cells)
