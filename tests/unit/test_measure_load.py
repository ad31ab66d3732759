"""Density and rate, their fits and percentiles, on pretended instances."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.harness.errors import InputError
from pybench.harness.measure.percentiles import percentiles
from pybench.harness.measure.settled import AGREEING, settle
from pybench.harness.model import Environment, Run, Sample
from pybench.harness.runner.runner import Outcome, Runner
from pybench.harness.scenario import load_scenario
from pybench.harness.stats.fit import line
from pybench.harness.store import Store
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.mock import MockImage
from pybench.runtime.journal import open_journal

RUN = Run("r", "s", "s.yaml", "2025-01-01T00:00:00.000Z", None, "running", "pybench run s", Environment({}))
TEXT = """\
name: example
{parameters}
workloads:
  ready: {{image: minimal, command: [/bin/workload, ready]}}
targets:
  mock: {{repetitions: 1, {options}}}
measure: {measure}
"""


@dataclass
class Place:
    """Where scenarios of these tests are carried out."""

    folder: Path
    samples: list[Sample]

    def carry_out(self, measure: str, options: str = "latency: 1ms", parameters: str = "") -> Outcome:
        """Measure something on pretended instances."""
        path = self.folder / "example.yaml"
        text = TEXT.format(measure=measure, options=options, parameters=parameters)
        path.write_text(text, encoding="utf-8")
        scenario = load_scenario(path)
        store_path = self.folder / "pybench.sqlite"
        store_path.unlink(missing_ok=True)
        with Store.open(store_path) as store, open_journal(self.folder) as journal:
            context = TargetContext(journal, self.folder)
            runner = Runner(
                store, lambda choice: open_target(choice, context), {"minimal": MockImage("minimal")}
            )
            outcome = runner.carry_out(scenario, RUN)
            self.samples = store.samples("r")
            assert journal.entries == ()
        return outcome

    def values(self, metric: str) -> list[float | None]:
        """Of one metric, in order."""
        return [sample.value for sample in self.samples if sample.metric == metric]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty folder."""
    yield Place(tmp_path, [])
    lanes = [thread.name for thread in threading.enumerate() if thread.name.startswith("pybench-lane")]
    assert lanes == []


def test_a_ramp_tells_each_point_and_what_lines_through_them_say(place: Place) -> None:
    """Start and memory at each number; then slope, interval, R², and how many there is room for."""
    assert place.carry_out("{density: {most: 5, start_limit: 1s}}") == Outcome("done", 1, 0, ())
    points = [s for s in place.samples if s.metric == "density.memory"]
    assert [s.parameters for s in points] == [{"instances": number} for number in (1, 2, 3, 4, 5)]
    # Each pretended instance names the same process, so memory grows by as much each time.
    own = psutil.Process().memory_full_info().pss
    (each,), (low,), (high,) = (place.values(f"density.memory.each{name}") for name in ("", ".low", ".high"))
    assert each == pytest.approx(own, rel=0.5)
    assert (low or 0) <= (each or 0) <= (high or 0)
    (fit,) = place.values("density.memory.fit")
    assert 0.8 < (fit or 0) <= 1
    (room,) = place.values("density.predicted.memory")
    assert room == pytest.approx(psutil.virtual_memory().available / (each or 1), rel=0.6)
    assert place.values("density.start") == pytest.approx([0.001 + 0.00001 * number for number in range(5)])
    (prolonged,) = place.values("density.start.each")
    assert prolonged == pytest.approx(1e-5)
    (acceptable,) = place.values("density.predicted.start")
    assert acceptable == pytest.approx((1 - 0.00099) / 1e-5, rel=0.01)
    (alive,) = [sample for sample in place.samples if sample.metric == "density.instances"]
    assert (alive.value, alive.qualifiers["ended"]) == (5, "all 5 are alive")


@pytest.mark.parametrize(
    ("failures", "message"),
    [("...x", "the pretended instance failed"), ("..d.", "instance 3 of 3 has died")],
)
def test_a_ramp_ends_where_an_instance_fails_or_dies(place: Place, failures: str, message: str) -> None:
    """What was measured until then is kept and fitted; the reason is in a failed sample."""
    outcome = place.carry_out("{density: {most: 6}}", f"failures: '{failures}'")
    assert (outcome.status, outcome.failures) == ("done", 1)
    failed = [sample for sample in place.samples if sample.status == "failed" and "instance" in sample.metric]
    assert failed[0].metric == "density.instances"
    assert failed[0].reason.startswith(message)
    reached = len(place.values("density.memory"))
    assert reached == (3 if "x" in failures else 2)
    assert len(place.values("density.memory.each")) == (1 if "x" in failures else 0)


def test_a_ramp_leaves_the_hosts_reserve_alone(place: Place) -> None:
    """Where nothing fits beside the reserve, nothing is launched, and the reason is told."""
    assert place.carry_out("{density: {most: 6, reserve: 1PiB}}").failures == 0
    (alive,) = place.samples
    assert (alive.value, alive.qualifiers["ended"]) == (0, "the memory of the host")


def test_parameters_of_a_scenario_say_how_far_and_how_many_at_once(place: Place) -> None:
    """`instances` and `concurrency` are those of the measurement that takes them."""
    place.carry_out("{density: {}}", parameters="parameters: {instances: [2, 3]}")
    assert sorted(value or 0 for value in place.values("density.instances")) == [2, 3]
    place.carry_out("{rate: {starts: 12}}", parameters="parameters: {concurrency: [1, 3]}")
    found = {str(sample.parameters) for sample in place.samples if sample.metric == "rate.cycles"}
    assert found == {"{'concurrency': 1}", "{'concurrency': 3}"}


def test_rates_come_with_the_percentiles_that_they_support(place: Place) -> None:
    """At each level as many starts as asked for, the rate of all of them, and no p99 below a hundred."""
    assert place.carry_out("{rate: {starts: 30, concurrency: [1, 2]}}", "delay: 2ms").failures == 0
    by_level: defaultdict[object, list[Sample]] = defaultdict(list)
    for sample in place.samples:
        by_level[sample.parameters.get("concurrency")].append(sample)
    assert set(by_level) == {None, 1, 2}
    for level in (1, 2):
        metrics = [sample.metric for sample in by_level[level]]
        assert metrics.count("rate.start") == 30
        assert set(metrics) == {
            "rate.start", "rate.cycles", *(f"rate.start.{name}" for name in ("p50", "p90", "p95"))
        }  # fmt: skip
    (alone,), (both,) = ([s.value for s in by_level[n] if s.metric == "rate.cycles"] for n in (1, 2))
    assert 0 < (alone or 0) <= 1 / 0.002
    assert (both or 0) <= 2 / 0.002
    assert place.values("rate.best") == [max(alone or 0, both or 0)]
    assert {sample.unit for sample in place.samples if sample.metric in {"rate.cycles", "rate.best"}} == {
        "1/s"
    }


def test_failures_at_a_level_are_counted_and_do_not_go_on_for_ever(place: Place) -> None:
    """The others count; where nothing succeeds the level is given up."""
    outcome = place.carry_out("{rate: {starts: 18, concurrency: [1]}}", "failures: '...x'")
    assert outcome.failures == 1
    statuses = [sample.status for sample in place.samples if sample.metric == "rate.start"]
    assert (statuses.count("ok"), statuses.count("failed")) == (14, 4)
    place.carry_out("{rate: {starts: 20, concurrency: [1]}}", "failures: 'x'")
    assert [sample.metric for sample in place.samples] == ["rate.best"]
    assert place.samples[0].reason.startswith("the pretended instance failed")


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("{rate: {concurrency: [2, 1]}}", "the levels must ascend"),
        ("{rate: {concurrency: []}}", "must not be empty"),
        ("{rate: {concurrency: [0]}}", "greater than or equal to 1"),
        ("{rate: {starts: 1}}", "greater than or equal to 2"),
        ("{density: {most: 1}}", "greater than or equal to 2"),
        ("{density: {reserve: 1}}", "between 4MiB and 1PiB"),
    ],
)
def test_options_without_sense_are_refused(place: Place, measure: str, message: str) -> None:
    """Before anything is launched."""
    with pytest.raises(InputError) as caught:
        place.carry_out(measure)
    assert message in caught.value.message


@given(st.lists(st.floats(0, 1e6), min_size=0, max_size=2000))
def test_no_percentile_is_beyond_what_the_number_supports(values: list[float]) -> None:
    """Each is one of the values, they ascend, and p99 needs a hundred of them, p99.9 a thousand."""
    found = percentiles(sorted(values))
    assert list(found.values()) == sorted(found.values())
    assert set(found.values()) <= set(values)
    assert ("p99" in found) == (len(values) >= 100)
    assert ("p99.9" in found) == (len(values) >= 1000)
    assert ("p50" in found) == (len(values) >= 3)


@given(
    st.lists(st.integers(1, 50), min_size=3, max_size=30, unique=True),
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
)
def test_a_line_is_found_again(x: list[int], slope: float, intercept: float) -> None:
    """Points on a line give it back, with all of their spread explained."""
    found = line(x, [intercept + slope * each for each in x])
    assert found is not None
    assert found.slope == pytest.approx(slope, abs=1e-6)
    assert found.intercept == pytest.approx(intercept, abs=1e-5)
    assert found.low <= found.slope <= found.high


def test_a_line_agrees_with_the_textbook() -> None:
    """Slope, interval and R² as scipy computes them; nothing where no line is to be had."""
    from scipy import stats

    x, y = [1.0, 2, 3, 4, 5, 6], [2.1, 3.9, 6.2, 7.8, 10.1, 12.2]
    expected, found = stats.linregress(x, y), line(x, y)
    assert found is not None
    assert found.slope == pytest.approx(expected.slope)
    assert found.determination == pytest.approx(expected.rvalue**2)
    assert found.high - found.slope == pytest.approx(stats.t.ppf(0.975, 4) * expected.stderr)
    assert line(x[:2], y[:2]) is None
    assert line([1, 1, 1], [1, 2, 3]) is None


def test_settling_ends_by_agreement_or_by_patience() -> None:
    """The last reading, and how far the last ones were apart."""
    falling = iter([9e6, 5e6, 3e6, 2e6, 2e6, 2e6, 1.0])
    held = settle(lambda: next(falling), interval=0)
    assert (held.value, held.spread, held.is_settled) == (2e6, 0, True)
    rising = iter(range(0, 10**9, 10**6))
    restless = settle(lambda: float(next(rising)), longest=0.05, interval=0.01)
    assert not restless.is_settled
    assert restless.spread == 1e6 * (AGREEING - 1)
