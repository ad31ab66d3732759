"""A verdict needs support and size, cell by cell; phases say where a change comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from report_runs import failed_sample, make_samples, value_sample

from pybench.harness.comparison.base import base_test
from pybench.harness.comparison.cells import change
from pybench.harness.comparison.limits import Limit, Limits
from pybench.harness.comparison.ranks import mann_whitney
from pybench.harness.comparison.runs import Comparison, Judged, compare
from pybench.harness.model import Sample

CONTAINER = {"container": 60}


def changed(samples: Sequence[Sample], factor: float, *metrics: str) -> list[Sample]:
    """The samples with some metrics multiplied."""
    return [
        replace(sample, value=sample.value * factor) if sample.metric in metrics and sample.value else sample
        for sample in samples
    ]


def cell(comparison: Comparison, metric: str, target: str = "container") -> Judged:
    """One cell of a comparison."""
    return next(each for each in comparison.cells if each.change.cell[1:3] == (target, metric))


def pretended(values: Sequence[float], unit: str = "s") -> list[Sample]:
    """Samples of one cell."""
    return [replace(value_sample("t", value, order=at), unit=unit) for at, value in enumerate(values)]


def noise(n: int, seed: int, spread: float = 0.02) -> list[float]:
    """Values around one second."""
    return [float(value) for value in np.random.default_rng(seed).lognormal(0, spread, n)]


def test_a_run_is_the_same_as_itself() -> None:
    """Nothing is called changed, and a tight cell is called the same."""
    samples = make_samples()
    comparison = compare(samples, samples)
    assert {each.verdict for each in comparison.cells} <= {"same", "inconclusive"}
    assert cell(comparison, "memory.host.pss").verdict == "same"
    assert all(each.change.shift is not None and each.change.shift.value == 0 for each in comparison.cells)


def test_a_change_is_found_and_named_by_its_direction() -> None:
    """Slower and faster for times, larger and smaller for memory; only what changed is called changed."""
    before = make_samples(CONTAINER, seed=1)
    after = changed(make_samples(CONTAINER, seed=2), 1.3, "startup.ready")
    after = changed(after, 1.1, "memory.host.pss")
    there, back = compare(before, after), compare(after, before)
    assert (cell(there, "startup.ready").verdict, cell(there, "startup.ready").worse) == ("slower", True)
    assert (cell(back, "startup.ready").verdict, cell(back, "startup.ready").worse) == ("faster", False)
    assert (cell(there, "memory.host.pss").verdict, cell(there, "memory.host.pss").worse) == ("larger", True)
    assert (cell(back, "memory.host.pss").verdict, cell(back, "memory.host.pss").worse) == ("smaller", False)
    assert cell(there, "teardown").verdict in {"same", "inconclusive"}


def test_a_higher_rate_is_faster() -> None:
    """For a rate more is better."""
    judged = compare(pretended(noise(30, 1), "1/s"), pretended([v * 1.2 for v in noise(30, 2)], "1/s")).cells[
        0
    ]
    assert (judged.verdict, judged.worse) == ("faster", False)


def test_a_supported_change_must_be_larger_than_both_limits() -> None:
    """Below the relative limit or the absolute floor it is no change, however small its p-value."""
    before, after = pretended(noise(100, 1)), pretended([value * 1.1 for value in noise(100, 2)])

    def verdict(limit: Limit) -> str:
        return compare(before, after, Limits(of_unit={"s": limit})).cells[0].verdict

    assert verdict(Limit(0.05, 0.0)) == "slower"
    assert verdict(Limit(0.15, 0.0)) == "same"
    assert verdict(Limit(0.0, 0.15)) == "same"
    shift = compare(before, after).cells[0].change.shift
    assert shift is not None
    judged = compare(before, after, Limits(of_unit={"s": Limit(0.0, shift.value * 1.02)})).cells[0]
    assert (judged.verdict, judged.adjusted.shift < 1e-6) == ("inconclusive", True)
    assert "smaller than the limit" in judged.reason


def test_cells_differ_by_their_parameters() -> None:
    """One that became slower at one value of a parameter is not mixed with another that did not."""

    def at(size: str, values: Sequence[float]) -> list[Sample]:
        return [
            replace(sample, metric=metric, parameters={"memory": size})
            for metric in ("startup.ready", "startup.phase.ready")
            for sample in pretended(values)
        ]

    before = [*at("1GiB", noise(40, 1)), *at("2GiB", noise(40, 2))]
    after = [*at("1GiB", noise(40, 3)), *at("2GiB", [value * 1.5 for value in noise(40, 4)])]
    comparison = compare(before, after)
    verdicts = {each.change.cell[4]: each.verdict for each in comparison.cells}
    assert verdicts == {"memory=1GiB": "same", "memory=2GiB": "slower"}
    moved = {each.parameters: each.total.value for each in comparison.attributions}
    assert moved["memory=1GiB"] == pytest.approx(0, abs=0.05)
    assert moved["memory=2GiB"] == pytest.approx(0.5, abs=0.05)


def test_the_most_specific_limit_counts() -> None:
    """That of the cell, with its parameters or any, before that of the metric before that of the unit."""
    key = ("w", "t", "startup.ready", "s", "memory=1")
    unit, metric, one = Limit(0.1, 0), Limit(0.2, 0), Limit(0.3, 0)
    assert Limits({"s": unit}).of(key) == unit
    assert Limits({"s": unit}, {"startup.ready": metric}).of(key) == metric
    for label in ("memory=1", ""):
        of_cell = {("w", "t", "startup.ready", label): one, ("w", "t", "startup.ready", "memory=2"): unit}
        assert Limits({"s": unit}, {"startup.ready": metric}, of_cell).of(key) == one
    assert Limits().of(("w", "t", "m", "things", "")).absolute == 0


def test_a_tail_alone_is_a_change() -> None:
    """One launch in eight takes twice as long: the median stays, the verdict does not."""
    values = [value * (2 if at % 8 == 0 else 1) for at, value in enumerate(noise(80, 2))]
    judged = compare(pretended(noise(80, 1)), pretended(values)).cells[0]
    assert (judged.verdict, judged.reason) == ("slower", "tail")
    assert len(judged.change.candidate.modes) == 2
    assert len(judged.change.baseline.modes) == 1


QUICK = [1 + 0.004 * at for at in range(20)]
"""Half of some times; the other half met with something, and says little of the whole."""
LATER = [value + 0.06 for value in QUICK]
DISTURBED = [1.45 + 0.004 * at for at in range(20)]
LESS_DISTURBED = [1.4 + 0.004 * at for at in range(20)]


def turned(values: Sequence[float], unit: str) -> list[Sample]:
    """As times, or as rates, which are disturbed downwards."""
    return pretended(values if unit == "s" else [2.2 - value for value in values], unit)


@pytest.mark.parametrize("unit", ["s", "1/s"])
def test_the_best_values_alone_show_a_shift(unit: str) -> None:
    """What disturbs half of them hides it from the middle; it is told by the base, with its own interval."""
    # The tail of rates is where they are best, and shows it as well; with so wide a limit it does not count.
    limits = Limits(of_unit={unit: Limit(0.03, 0.0, tail=1.0)})
    before = turned([*QUICK, *DISTURBED], unit)
    judged = compare(before, turned([*LATER, *LESS_DISTURBED], unit), limits).cells[0]
    assert (judged.verdict, judged.worse, judged.reason) == ("slower", True, "base")
    assert judged.adjusted.shift > 0.05 >= judged.adjusted.base
    assert judged.change.movement is not None
    assert judged.telling == (judged.change.movement.base, judged.adjusted.base)
    assert judged.telling is not None
    assert abs(judged.telling[0].value) == pytest.approx(0.06, abs=0.01)


def test_a_change_of_the_base_below_the_limit_is_told_as_its_own() -> None:
    """Inconclusive, and said to be the base's; where the cell is the same, the middle's figures are told."""
    before, after = pretended([*QUICK, *DISTURBED]), pretended([*LATER, *LESS_DISTURBED])
    judged = compare(before, after, Limits(of_unit={"s": Limit(0.0, 0.053, tail=1.0)})).cells[0]
    assert (judged.verdict, judged.told_by) == ("inconclusive", "base")
    assert judged.change.movement is not None
    assert judged.telling == (judged.change.movement.base, judged.adjusted.base)
    assert judged.only_the_limit_hides
    same = compare(before, after, Limits(of_unit={"s": Limit(0.5, 0.0)})).cells[0]
    assert (same.verdict, same.told_by) == ("same", "")
    assert same.telling == (judged.change.movement.shift, same.adjusted.shift)


def test_what_gets_worse_outweighs_what_gets_better_beside_it() -> None:
    """Where the middle shows nothing, a base for the worse is not hidden by a tail for the better."""
    before = pretended([*QUICK, *DISTURBED[:12], *[2.5] * 8])
    judged = compare(before, pretended([*LATER, *LESS_DISTURBED])).cells[0]
    assert judged.adjusted.shift > 0.05
    assert max(judged.adjusted.tail, judged.adjusted.base) <= 0.05
    assert (judged.verdict, judged.worse, judged.reason) == ("slower", True, "base")


def test_tests_that_can_find_nothing_count_for_nothing() -> None:
    """Cells that are always the same and tests that need more values do not make the others' harder."""
    before, after = pretended(noise(12, 1)), pretended(noise(12, 2))
    constant = [replace(each, metric="always", value=1.0) for each in before]
    alone, beside = compare(before, after).cells[0], compare([*before, *constant], [*after, *constant])
    assert alone.change.movement is not None
    assert alone.adjusted.shift == alone.change.movement.tests.shift
    assert alone.adjusted[1:] == (1, 1, 1)
    assert cell(beside, "startup.ready", "t").adjusted == alone.adjusted
    assert cell(beside, "startup.ready", "t").detectable == alone.detectable
    assert cell(beside, "always", "t").adjusted == (1, 1, 1, 1)


@pytest.mark.parametrize(("unit", "worst"), [("s", 1.5), ("1/s", 1 / 1.5)])
def test_a_tenth_that_became_worse_is_found_at_its_end(unit: str, worst: float) -> None:
    """Of times the longest, of rates the lowest; what the best tenth does is nobody's regression."""
    before = noise(200, 1)
    after = [value * (worst if at % 8 == 0 else 1.0) for at, value in enumerate(noise(200, 2))]
    judged = compare(pretended(before, unit), pretended(after, unit)).cells[0]
    assert (judged.verdict, judged.worse, judged.reason) == ("slower", True, "tail")
    other = [value / (worst if at % 8 == 0 else 1.0) for at, value in enumerate(noise(200, 2))]
    assert not compare(pretended(before, unit), pretended(other, unit)).cells[0].worse


def test_the_best_of_values_in_steps_tell_nothing_more() -> None:
    """Sizes come in pages: their shift and tail are tested, and no more."""
    generator = np.random.default_rng(3)
    before, after = (pretended(list(4096.0 * generator.integers(50, 53, 60)), "B") for _ in range(2))
    judged = compare(before, after).cells[0]
    moved = judged.change.movement
    assert moved is not None
    assert (moved.base, moved.tests.base, judged.adjusted.base) == (None, None, 1)
    assert moved.tests.tail is not None


def test_one_sided_and_empty_cells_are_said_to_be() -> None:
    """A cell that one run lacks, or whose launches all failed, is inconclusive with the reason."""
    both = pretended(noise(10, 1))
    absent = compare(both, []).cells[0]
    assert (absent.verdict, absent.change.shift) == ("inconclusive", None)
    assert "the candidate has no value" in absent.reason
    assert "the baseline has no value" in compare([], both).cells[0].reason
    failed = [failed_sample("t", "no", order=order) for order in range(10)]
    broken = compare(both, failed).cells[0].change
    assert (broken.candidate.n, broken.candidate.failed) == (0, 10)
    assert math.isnan(broken.candidate.median)
    assert broken.failure_p < 1e-4
    assert compare([], []).cells == ()
    assert compare([replace(sample, warmup=True) for sample in both], []).cells == ()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_enters_no_figure(value: float) -> None:
    """NaN and infinity are left out on either side."""
    good = pretended(noise(10, 1))
    judged = compare([*good, value_sample("t", value)], good).cells[0]
    assert judged.change.baseline.n == 10
    assert judged.change.shift is not None
    assert judged.change.shift.value == 0


def test_the_detectable_shift_is_detected_as_often_as_it_says() -> None:
    """A shift of that size is supported in 80 % of simulated comparisons, within the simulation's error."""
    generator = np.random.default_rng(4)
    sizes = []
    for _ in range(40):
        x, y = generator.lognormal(0, 0.1, 19), generator.lognormal(0, 0.1, 19)
        detectable = change(("w", "t", "m", "s", ""), pretended(list(x)), pretended(list(y))).detectable(0.05)
        assert detectable is not None
        sizes.append(detectable)
    typical = float(np.median(sizes))
    found = sum(
        mann_whitney(generator.lognormal(0, 0.1, 19), generator.lognormal(0, 0.1, 19) + typical) <= 0.05
        for _ in range(1000)
    )
    assert found / 1000 == pytest.approx(0.8, abs=0.06)
    assert compare(pretended([1.0, 2.0]), pretended([1.0, 2.0])).cells[0].detectable is None


def test_the_base_detects_as_often_as_it_says() -> None:
    """Where the best values tell more, the detectable shift is theirs."""
    generator = np.random.default_rng(4)
    cell_key = ("w", "t", "m", "s", "")
    sizes = [
        change(cell_key, pretended(list(x)), pretended(list(y))).detectable(0.05)
        for x, y in generator.gumbel(0, 1, (40, 2, 40))
    ]
    typical = float(np.median([size for size in sizes if size is not None]))
    pairs = generator.gumbel(0, 1, (1000, 2, 40))
    assert sum(base_test(x, y + typical) <= 0.05 for x, y in pairs) / 1000 == pytest.approx(0.8, abs=0.06)
    assert sum(mann_whitney(x, y + typical) <= 0.05 for x, y in pairs) / 1000 < 0.74


def test_a_change_is_attributed_to_its_phase() -> None:
    """The phase that became slower carries the change, and all phases add up to the total."""
    before = make_samples(CONTAINER, seed=1)
    after = changed(make_samples(CONTAINER, seed=2), 1.5, "startup.phase.sandbox")
    (found,) = compare(before, after).attributions
    parts = {each.phase: each for each in found.phases}
    assert list(parts) == ["sandbox", "exec", "ready"]
    assert parts["sandbox"].low > 0.5e-3
    assert parts["exec"].low < 0 < parts["exec"].high
    assert found.total.value == pytest.approx(sum(each.value for each in found.phases))
    assert found.total.low < found.total.value < found.total.high


def test_a_phase_that_appears_is_attributed_whole() -> None:
    """A phase that the baseline does not have took no time there, and the reverse."""
    before = make_samples(CONTAINER, seed=1)
    after = [sample for sample in before if sample.metric != "startup.phase.exec"]
    (gone,), (appeared,) = compare(before, after).attributions, compare(after, before).attributions
    assert {each.phase: each.value for each in gone.phases}["exec"] < -0.4e-3
    assert {each.phase: each.value for each in appeared.phases}["exec"] > 0.4e-3
