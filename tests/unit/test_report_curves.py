"""What was measured over instances, concurrency and neighbours, and against the bare process."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from load_runs import density_samples, interference_samples, load_samples, throughput_samples
from report_runs import HOSTILE, make_run, make_samples

from pybench.harness.model import Sample
from pybench.reports.analysis import analyse
from pybench.reports.curves import slowdown
from pybench.reports.html import render
from pybench.reports.markdown import render_markdown
from pybench.reports.predictions import predictions


def text_of(page: str) -> str:
    """What a page says, without scripts and tags."""
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").replace("\u202f", " ")


def test_points_are_medians_over_the_ramps() -> None:
    """Each value of the parameter is a point with the median of all ramps, in ascending order."""
    samples = list(density_samples(ramps=3, most=4))
    report = analyse(make_run(), samples)
    (curve,) = [each for each in report.curves if each.metric == "density.memory"]
    assert curve.values == (1, 2, 3, 4)
    vm = next(line for line in curve.lines if line.target == "vm")
    assert [point.n for point in vm.points] == [3, 3, 3, 3]
    there = [
        each.value for each in samples
        if each.metric == "density.memory" and each.target == "vm" and each.parameters["instances"] == 4
    ]  # fmt: skip
    assert vm.points[-1].median == pytest.approx(sorted(value for value in there if value)[1])
    assert vm.said.caveats == ("TCG emulation",)


def test_a_ramp_is_one_launch_and_no_table_for_each_number() -> None:
    """The points of a ramp belong to one launch of one workload; its numbers are no workloads."""
    report = analyse(make_run(), list(density_samples(ramps=3, most=8)))
    assert report.workloads == ("load",)
    assert {count.launches for count in report.counts} == {3}
    assert "density.memory" not in {table.metric for table in report.tables}


def test_a_drift_over_a_ramp_is_no_drift() -> None:
    """That memory grows with the number of instances is not said to be a drift of the run."""
    report = analyse(make_run(), list(density_samples(ramps=4, most=8)))
    drift = next(each for each in report.circumstances if each.subject == "drift")
    assert "density.memory " not in drift.finding


def test_room_is_predicted_from_what_one_more_costs() -> None:
    """64 GiB divided by the slope, to two digits; the limit of starts as it was measured."""
    report = analyse(make_run(), list(density_samples()))
    memory, starts = predictions(report)
    assert re.search(r"360\sinstances of the VM \(TCG emulation\) \(18[0-9].MiB each\)", memory)
    assert "1600 instances of a container" in starts.replace("\u202f", "")
    assert predictions(analyse(make_run(), make_samples())) == []


def test_neighbours_are_a_matrix_against_none() -> None:
    """A target's latency beside each neighbour stands in one row, with its multiple of that alone."""
    text = text_of(render(make_run(), list(interference_samples())))
    assert re.search(r"Target none cpu disk", text)
    assert re.search(r"process 1\.0\d+ ms .{0,60}3\.0\d+ ms \( 3\.0× \)", text.replace("(3.0×)", "( 3.0× )"))


def test_a_slowdown_is_no_multiple_of_another() -> None:
    """What is a multiple already is shown as one, and is not divided by that beside the first neighbour."""
    report = analyse(make_run(), list(interference_samples()))
    (curve,) = [each for each in report.curves if each.metric == "interference.slowdown"]
    point = next(line for line in curve.lines if line.target == "process").points[0]
    assert point.text == "3.0×"
    assert all(not slowdown(curve, line, each) for line in curve.lines for each in line.points)


def test_what_costs_most_goes_by_what_is_better() -> None:
    """Of rates the lowest stands furthest behind the bare process, of times the highest."""
    samples = [
        *throughput_samples(),
        *(
            replace(
                each, metric="latency.disk.fsync.p99", unit="s", value=0.2 if each.target == "vm" else 1.0
            )
            for each in throughput_samples()
            if each.metric == "throughput.cpu"
        ),
    ]
    assert re.search(
        r"Furthest behind the bare process: .{5,60}, 0\.11× of it", text_of(render(make_run(), samples))
    )


def test_throughput_is_a_multiple_of_the_bare_process() -> None:
    """One figure has every kind of work as a ratio; its table has the intervals."""
    text = text_of(render(make_run(), list(throughput_samples())))
    assert re.search(
        r"Furthest behind the bare process: .{5,60} of the VM \(TCG emulation\), 0\.11× of it", text
    )
    assert "as multiples of the bare process" in text


def test_a_target_is_named_once_among_multiples() -> None:
    """The first multiple of a target carries its name with the emulation, the others their number alone."""
    page = render(make_run(), list(throughput_samples()))
    (drawing,) = re.findall(
        r'id="overhead-[^"]*">.*?<script type="application/json">(.*?)</script>', page, re.S
    )
    texts = [trace["text"][0] for trace in json.loads(drawing)["data"]]
    assert len(texts) == 4
    assert [text for text in texts if "vm" in text] == [texts[1]]
    assert re.fullmatch(r"0\.1\d× vm \(TCG emulation\)", texts[1])
    assert all(re.fullmatch(r"[\d.]+×", text) for text in texts[2:])


def test_without_a_bare_process_there_is_no_overhead() -> None:
    """Nothing is held against a reference that was not measured."""
    samples = [each for each in throughput_samples() if each.target != "process"]
    assert "Furthest behind" not in text_of(render(make_run(), samples))


def test_other_parameters_stay_apart() -> None:
    """A parameter of the scenario beside that of the measurement names the workload, as elsewhere."""
    samples = [
        replace(each, parameters={**each.parameters, "memory": size})
        for size in ("128MiB", "256MiB")
        for each in density_samples(ramps=1, most=3)
    ]
    workloads = {curve.workload for curve in analyse(make_run(), samples).curves}
    assert workloads == {"load (memory=128MiB)", "load (memory=256MiB)"}


def test_markdown_has_the_curves() -> None:
    """The points are a table there too."""
    text = render_markdown(make_run(), load_samples()).replace("\u00a0", " ")
    assert "| Target | instances 1 | instances 2 |" in text
    assert "| Target | neighbour none | neighbour cpu | neighbour disk |" in text


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([replace(each, value=None, status="failed", reason="no") for each in density_samples(1)],
                     id="failed"),
        pytest.param(list(density_samples(ramps=1, most=1)), id="one-point"),
        pytest.param([replace(each, value=0.0) for each in load_samples()], id="zero"),
        pytest.param([replace(each, parameters={"neighbour": HOSTILE}) for each in interference_samples()],
                     id="hostile"),
    ],
)  # fmt: skip
def test_thin_and_hostile_curves_are_whole(samples: list[Sample]) -> None:
    """However little there is, and whatever a parameter is called, the page is whole."""
    page = render(make_run(), samples)
    assert "<img" not in page
    assert not re.search(r"\b(nan|None|inf)\b", text_of(page).replace("NaN", ""))
