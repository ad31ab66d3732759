"""The view-model: rows, ratios, phases, failures and what the numbers rest on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_runs import IMAGE, failed_sample, make_run, make_samples, value_sample

from pybench.reports.analysis import Report, analyse
from pybench.reports.findings import findings
from pybench.reports.validity import FAILURE_GROUPS


@pytest.fixture(scope="module")
def report() -> Report:
    """A whole run with one failed launch."""
    return analyse(make_run(), [*make_samples(), failed_sample("vm", "panic")])


def test_tables_are_in_a_fixed_order(report: Report) -> None:
    """Metrics and targets come in the order in which they are explained, phases apart."""
    assert [table.metric for table in report.tables] == [
        "startup.ready",
        "startup.exec",
        "teardown",
        "memory.host.pss",
    ]
    assert [row.target for row in report.tables[0].rows] == ["process", "floor", "container", "vm"]


def test_ratios_refer_to_the_process(report: Report) -> None:
    """Each row but the baseline's has a ratio to it, with an interval around it."""
    process, _, container, _ = report.tables[0].rows
    assert process.ratio is None
    assert container.ratio is not None
    low, high = container.ratio.low, container.ratio.high
    assert float(low) < float(container.ratio.value) < float(high)


def test_without_process_there_are_no_ratios() -> None:
    """A run without the baseline has tables all the same, only without ratios."""
    [table] = analyse(make_run(), [value_sample("vm", 1.0), value_sample("container", 0.5)]).tables
    assert not table.has_baseline
    assert all(row.ratio is None for row in table.rows)


def test_warmups_and_failures_do_not_count(report: Report) -> None:
    """The n of a row is the number of samples that count; a failed one is counted apart."""
    row = report.tables[0].row("vm")
    assert row is not None
    assert (row.n, row.failed) == (12, 1)
    [count] = [each for each in report.counts if each.target == "vm"]
    assert (count.launches, count.counted, count.warmups, count.failed) == (14, 12, 1, 1)


def test_small_cells_have_ranges() -> None:
    """Below six samples the interval is minimum to maximum and says what it covers."""
    [table] = analyse(make_run(), [value_sample("vm", 1.0 + each, order=each) for each in range(5)]).tables
    [row] = table.rows
    assert row.interval_is_range
    assert row.coverage == "93.8 %"
    assert row.p95 == "—"


def test_phases_add_up_to_the_median_start(report: Report) -> None:
    """Each bar's phases follow each other without a gap and end at the median of startup.ready."""
    for bar in report.phases:
        row = report.tables[0].row(bar.target)
        assert row is not None
        assert row.estimate is not None
        assert bar.total == pytest.approx(row.estimate.median)
        assert [span.start for span in bar.spans[1:]] == [span.end for span in bar.spans[:-1]]
        assert sum(span.share for span in bar.spans) == pytest.approx(1)


def test_phases_keep_the_order_of_their_marks(report: Report) -> None:
    """Phases come in the order in which they were recorded, not by name."""
    [vm] = [bar for bar in report.phases if bar.target == "vm"]
    assert [span.name for span in vm.spans] == ["vmm", "kernel", "sandbox", "exec", "ready"]
    assert vm.longest.name == "kernel"


def test_launches_with_a_missing_phase_are_left_out() -> None:
    """A launch that lacks a phase would shift the others: it is counted as partial."""
    samples = make_samples({"vm": 3}, warmups=0)
    lost = next(sample for sample in samples if sample.metric == "startup.phase.kernel")
    [bar] = analyse(make_run(), [sample for sample in samples if sample is not lost]).phases
    assert (bar.n, bar.partial) == (2, 1)


def test_failures_are_grouped_by_reason() -> None:
    """Launches that failed alike are one group, the most frequent first; endless variety is bounded."""
    samples = [failed_sample("vm", "same", order=each) for each in range(5)]
    samples += [failed_sample("vm", f"reason {each}", order=100 + each) for each in range(60)]
    report = analyse(make_run(), samples)
    assert report.failures[0].reason == "same"
    assert report.failures[0].launches == 5
    assert len(report.failures) == FAILURE_GROUPS
    assert report.failures_left_out == 61 - FAILURE_GROUPS
    assert report.failed == 65


def test_channels_tell_resolution_and_coarseness() -> None:
    """A channel that resolves no better than a twentieth of the median is called coarse."""
    report = analyse(make_run(), make_samples())
    serial = next(each for each in report.channels if each.channel == "isa-serial")
    assert serial.target == "vm"
    assert serial.metrics == ("startup.ready", "startup.exec", "teardown")
    assert not serial.is_coarse
    [coarse] = analyse(make_run(), [value_sample("vm", 1e-5)]).channels
    assert coarse.is_coarse


def test_images_and_environment_are_told(report: Report) -> None:
    """Every target's image hash is there, and the fingerprint is grouped by its fields' first part."""
    assert report.images == dict.fromkeys(["process", "floor", "container", "vm"], (IMAGE,))
    assert ("cpu.count", "2") in report.environment["host"]


def test_different_images_are_noticed() -> None:
    """When targets ran different bits, a comparison between them is cautioned against."""
    samples = [
        value_sample("vm", 2.0, image="sha256:a"),
        value_sample("container", 1.0, order=1, image="sha256:b"),
    ]
    texts = [each.text for each in findings(analyse(make_run(), samples))]
    assert any("did not all run the same image" in text for text in texts)


def test_phases_follow_the_order_of_the_fullest_launch() -> None:
    """Where the first launch misses a mark, the phases still come as in a launch that has them all."""
    samples = make_samples({"vm": 5}, warmups=0)
    first = [each for each in samples if each.order == 0 and each.metric == "startup.phase.kernel"]
    [bar] = analyse(make_run(), [each for each in samples if each not in first]).phases
    assert [span.name for span in bar.spans] == ["vmm", "kernel", "sandbox", "exec", "ready"]
    assert (bar.n, bar.partial) == (4, 1)


def test_cells_of_one_metric_in_two_units_are_one_row() -> None:
    """What was stored in another unit by mistake makes no second row of its target."""
    samples = [value_sample("vm", 1.0 + each, order=each) for each in range(4)]
    samples += [replace(each, unit="B", order=9 + each.order) for each in samples]
    report = analyse(make_run(), samples)
    assert [(row.target, row.n) for table in report.tables for row in table.rows] == [("vm", 8)]
    assert [count.launches for count in report.counts] == [8]
