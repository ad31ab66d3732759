"""The decision table: scores, totals and the ranking by the reader's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import failed_sample, make_run, make_samples, value_sample

from pybench.harness.model import Sample
from pybench.reports.analysis import analyse
from pybench.reports.decision import Decision, decision, ranking, score_text


def decided(samples: Sequence[Sample]) -> Decision:
    """The decision table of these samples, which has to be there."""
    found = decision(analyse(make_run(), samples))
    assert found is not None
    return found


def valued(target: str, metric: str, value: float, unit: str = "s") -> Sample:
    """One sample of a metric."""
    return replace(value_sample(target, value, metric=metric), unit=unit)


PAIR = [
    valued("container", "startup.ready", 0.004),
    valued("vm", "startup.ready", 0.4),
    valued("container", "memory.host.pss", 8e6, "B"),
    valued("vm", "memory.host.pss", 2e6, "B"),
]
"""The container starts a hundred times faster, the virtual machine takes a quarter of the memory."""


def test_scores_are_distances_to_the_best() -> None:
    """The best target of a criterion has 1, another its ratio to that, whether less or more is better."""
    rates = [valued("container", "rate.best", 200.0, "1/s"), valued("vm", "rate.best", 20.0, "1/s")]
    lines = {line.criterion.id: line for line in decided([*PAIR, *rates]).lines}
    scores = {
        name: [each.score.value if each.score else None for each in line.judgements]
        for name, line in lines.items()
    }
    assert scores["start"] == pytest.approx([1.0, 0.01])
    assert scores["memory"] == pytest.approx([0.25, 1.0])
    assert scores["rate"] == pytest.approx([1.0, 0.1])


def test_the_total_is_the_weighted_geometric_mean() -> None:
    """Weights 1 and 3 of scores 0.01 and 1 give the fourth root of 0.01."""
    places = ranking(decided(PAIR), {"start": 1, "memory": 3})
    totals = {place.target: place.total.value for place in places}
    assert totals == pytest.approx({"vm": 0.01**0.25, "container": 0.25**0.75})
    assert [place.target for place in places] == ["container", "vm"]


def test_weights_decide_the_order() -> None:
    """Whoever cares for memory alone gets the other order than whoever cares for the start alone."""
    table = decided(PAIR)
    assert [place.target for place in ranking(table, {"start": 5, "memory": 0})] == ["container", "vm"]
    assert [place.target for place in ranking(table, {"start": 0, "memory": 5})] == ["vm", "container"]
    assert ranking(table, {"start": 0, "memory": 0}) == ()


@given(factor=st.floats(1e-6, 1e6), start=st.integers(0, 5), memory=st.integers(1, 5))
def test_the_order_does_not_depend_on_the_unit(factor: float, start: int, memory: int) -> None:
    """Measuring one criterion in another unit changes no total."""
    scaled = [
        replace(each, value=each.value * factor) if each.metric == "startup.ready" and each.value else each
        for each in PAIR
    ]
    weights = {"start": start, "memory": memory}
    before, after = ranking(decided(PAIR), weights), ranking(decided(scaled), weights)
    assert [place.target for place in before] == [place.target for place in after]
    assert [place.total.value for place in before] == pytest.approx([place.total.value for place in after])


def test_references_are_ranked_on_request_only() -> None:
    """The floor cannot be chosen; the bare process is in the table, and ranked if the reader says so."""
    table = decided(make_samples())
    assert table.targets == ("process", "container", "vm")
    assert [place.target for place in ranking(table, table.weights)] == ["container", "vm"]
    assert ranking(table, table.weights, (True, True, True))[0].target == "process"


def test_the_emulation_is_said_beside_the_target() -> None:
    """The table names TCG emulation where its numbers come from it."""
    table = decided(make_samples())
    assert dict(zip(table.targets, table.caveats, strict=True))["vm"] == "TCG emulation"


def test_what_was_not_measured_is_in_no_total() -> None:
    """A target without a value is not ranked while that has weight; a criterion nobody has is named."""
    table = decided([*PAIR, valued("docker", "startup.ready", 0.3)])
    assert [place.target for place in ranking(table, {"start": 1})] == ["container", "docker", "vm"]
    assert "docker" not in {place.target for place in ranking(table, {"start": 1, "memory": 1})}
    assert "isolation" in table.missing


def test_overlapping_totals_are_not_told_apart() -> None:
    """Two targets whose intervals overlap are ranked, but said to be not told apart."""
    alike = [
        value_sample(target, 1.0 + each / 100, order=each) for target in ("one", "two") for each in range(20)
    ]
    assert not ranking(decided(alike), {"start": 1})[1].is_apart
    apart = [value_sample(target, value + each / 1000, order=each)
             for target, value in (("one", 1.0), ("two", 2.0)) for each in range(20)]  # fmt: skip
    assert ranking(decided(apart), {"start": 1})[1].is_apart


def test_one_target_leaves_nothing_to_decide() -> None:
    """With one target, or none that measured anything, there is no table."""
    assert decision(analyse(make_run(), [value_sample("vm", 1.0)])) is None
    assert (
        decision(analyse(make_run(), [failed_sample("vm", "no"), failed_sample("container", "no")])) is None
    )


def test_scores_are_written_with_two_digits() -> None:
    """No more digits than a choice can rest on."""
    assert [score_text(each) for each in (1.0, 0.996, 0.38123, 0.0021, 0.0005)] == [
        "1", "1", "0.38", "0.0021", "< 0.001",
    ]  # fmt: skip
