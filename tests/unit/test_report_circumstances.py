"""The validity section: what the host and the harness did, and what the samples say as series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from report_runs import HOSTILE, make_run, make_samples, value_sample

from pybench.harness import conditions as names
from pybench.harness.model import Conditions, Environment, Run, Sample
from pybench.reports.analysis import analyse
from pybench.reports.circumstances import Circumstance, circumstances
from pybench.reports.console import summary_tables
from pybench.reports.html import render

QUIET = {
    names.STEAL: 0.0,
    names.BUSY: 0.2,
    names.FREQUENCY: 2.6e9,
    names.RUNNING: 0.0,
    names.PRESSURE: 0.01,
    names.PAGE_CACHE: 4.0e9,
    names.WAITED_SECONDS: 0.0,
    names.UNSETTLED: 0.0,
    names.OWN_SECONDS: 2e-3,
    names.HARNESS_CPU: 0.02,
    names.MEASURED_SECONDS: 2.0,
}


def by_subject(run: Run, samples: list[Sample], conditions: list[Conditions]) -> dict[str, Circumstance]:
    """The lines by their subjects."""
    return {each.subject: each for each in circumstances(run, samples, conditions)}


def steps(number: int, **changes: list[float]) -> list[Conditions]:
    """Conditions of a quiet host, with some series changed."""
    found = [dict(QUIET) for _ in range(number)]
    for name, values in changes.items():
        for each, value in zip(found, values, strict=True):
            each[name.replace("_", "-")] = value
    return [Conditions(order, values) for order, values in enumerate(found)]


def calibrated(**fields: str) -> Run:
    """A run whose environment has a calibration."""
    marks = {"calibration.mark-pipe.p50": "7e-06", "calibration.mark-pipe.p95": "8e-06", **fields}
    return replace(make_run(), environment=Environment(marks))


def test_a_quiet_run_has_nothing_to_weigh() -> None:
    """Every subject is told all the same, in plain units."""
    samples = make_samples({"process": 40, "vm": 12}, seed=8)
    found = by_subject(calibrated(), samples, steps(54))
    assert found["marks"].finding == "seen 7.0 µs late (95 %: 8.0 µs) over mark-pipe; not subtracted".replace(
        "0 µs", "0\u00a0µs"
    )
    assert found["rejected for their error"].finding == "none"
    assert found["steal"].finding == "none"
    assert found["frequency"].finding == "2.60 GHz throughout"
    assert found["load"].finding.startswith("processors 20 % busy")
    assert found["harness, own work"].finding.startswith("2.0 ms in the median")
    assert "vm 1 %" in found["harness, processor"].finding
    assert found["drift"].finding == "none shown"
    assert not any(each.is_concern for each in found.values())


def test_a_share_of_nearly_all_is_told_in_whole_percent() -> None:
    """Two digits of 99.7 % are not written as a power of ten."""
    found = by_subject(calibrated(), make_samples({"process": 2}), steps(2, busy=[0.997, 0.997]))
    assert found["load"].finding.startswith("processors 100 % busy")


def test_a_restless_host_is_told() -> None:
    """Steal, another clock, load, a page cache that grows, and launches on a host that did not settle."""
    conditions = steps(
        4,
        steal=[0.0, 0.2, 0.1, 0.0],
        frequency=[2.0e9, 3.1e9, 2.0e9, 2.0e9],
        busy=[1.0] * 4,
        page_cache=[4e9, 4e9, 5e9, 6e9],
        unsettled=[0.0, 1.0, 1.0, 0.0],
        own=[0.01] * 4,
    )
    found = by_subject(make_run(), make_samples({"process": 3}), conditions)
    for subject in ("steal", "frequency", "load", "page cache", "waiting for the host", "harness, own work"):
        assert found[subject].is_concern, subject
    assert "at most 20 % before one launch" in found["steal"].finding
    assert found["frequency"].finding == "2.00–3.10 GHz"
    assert "2 launches unsettled" in found["waiting for the host"].finding


def test_a_host_that_others_slow_down_is_told() -> None:
    """By how much its fixed work took longer in the median than at best; left alone it is no concern."""
    slowed = by_subject(make_run(), make_samples({"process": 3}), steps(4, pace=[17e-6, 24e-6, 25e-6, 24e-6]))
    assert slowed["pace"].is_concern
    assert slowed["pace"].finding.endswith("more than at best: probably others use the same cores")
    assert slowed["pace"].finding.startswith("a hundred system calls took 24.0 µs in the median")
    alone = by_subject(make_run(), make_samples({"process": 3}), steps(4, pace=[17e-6, 17e-6, 25e-6, 17e-6]))
    assert not alone["pace"].is_concern
    assert "more than at best" not in alone["pace"].finding


def test_rejected_samples_are_counted_and_enter_no_number() -> None:
    """By target and metric; beside the row as well, whose n is without them."""
    samples = [value_sample("process", 1.0 + n / 100, order=n) for n in range(10)]
    samples += [
        replace(value_sample("process", 9.0, order=10 + n), status="rejected", reason="too late")
        for n in range(5)
    ]
    found = by_subject(make_run(), samples, [])
    assert found["rejected for their error"].finding == "5 of 15 of startup.ready on process"
    assert found["rejected for their error"].is_concern
    (table,) = summary_tables(make_run(), samples)
    assert "5 rejected" in str(table.columns[0]._cells[0])
    assert list(table.columns[4].cells) == ["10"]


def test_rejections_of_many_metrics_are_summed_up() -> None:
    """By target, with the metric that has lost most."""
    samples = [
        replace(value_sample("vm", 1.0, order=n), metric=metric, status="rejected" if n < lost else "ok")
        for metric, lost in (("throughput.cpu", 1), ("throughput.syscall", 3), ("throughput.switch", 2))
        for n in range(5)
    ]
    found = by_subject(make_run(), samples, [])["rejected for their error"]
    assert found.finding == "6 of 15 on vm, of 3 metrics, most of throughput.syscall: 3 of 5"


def test_rejected_samples_of_a_curve_are_counted_too() -> None:
    """Starts at several levels of concurrency are drawn as a curve, and may be rejected as any other."""
    samples = [replace(value_sample("process", 1.0, order=0), metric="rate.best", unit="1/s")]
    samples += [
        replace(
            value_sample("process", 1.0, order=0),
            metric="rate.start",
            parameters={"concurrency": 1 + n % 2},
            status="rejected" if n < 3 else "ok",
        )
        for n in range(8)
    ]
    found = {each.subject: each for each in analyse(make_run(), samples).circumstances}
    assert found["rejected for their error"].finding == "3 of 8 of rate.start on process"


def test_series_are_looked_at_cell_by_cell() -> None:
    """A drift, two modes and a dependence are told with target and metric."""
    random = np.random.default_rng(1)
    rising = [float(value) for value in np.linspace(1, 1.5, 40) + random.normal(0, 0.02, 40)]
    twofold = [
        float(value)
        for value in random.permutation([*random.normal(1, 0.02, 20), *random.normal(2, 0.02, 20)])
    ]
    samples = [value_sample("container", value, order=n) for n, value in enumerate(rising)]
    samples += [value_sample("vm", value, order=100 + n) for n, value in enumerate(twofold)]
    found = by_subject(make_run(), samples, [])
    assert found["drift"].finding.startswith("container startup.ready +")
    assert "vm startup.ready 1.0 s (50\u00a0%), 2.0 s (50\u00a0%)" in found["modes"].finding
    assert found["lag-1 autocorrelation"].finding.startswith("container startup.ready 0.")


def test_a_run_whose_process_died_has_a_page() -> None:
    """It says so, and shows what was stored."""
    page = render(make_run("abandoned"), make_samples({"process": 12}))
    assert "abandoned: its process died" in page
    assert "The process that carried out the run died" in page


def test_cells_with_parameters_are_told_apart() -> None:
    """Values of two parameters are two rows and no mixture."""
    samples = [
        replace(value_sample("process", size + n / 100, order=n), parameters={"memory": f"{size}MiB"})
        for size in (1, 2)
        for n in range(12)
    ]
    page = render(make_run(), samples)
    assert "hello (memory=1MiB)" in page
    assert "hello (memory=2MiB)" in page
    assert len(summary_tables(make_run(), samples)) == 2


def test_hostile_names_and_fields_stay_text() -> None:
    """Whatever an imported run holds, the section is plain and the page as safe as ever."""
    samples = [replace(sample, target=HOSTILE[:60]) for sample in make_samples({"process": 12})]
    run = calibrated(**{f"calibration.{HOSTILE[:50]}.p50": "1e-6", "calibration.x.p50": "often"})
    for each in circumstances(run, samples, steps(13)):
        assert "\x1b" not in each.finding
        assert "\n" not in each.finding
    assert "<script>document.title" not in render(run, samples, steps(13))
    assert circumstances(run, [], []) == ()
