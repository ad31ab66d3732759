"""A report answers in sentences with numbers, intervals and n, and says what limits them."""

from __future__ import annotations

from dataclasses import replace

from report_runs import HOSTILE, failed_sample, make_run, make_samples, value_sample

from pybench.harness.model import RunStatus, Sample
from pybench.reports.analysis import analyse
from pybench.reports.findings import finding, findings


def told(samples: list[Sample], kind: str, status: RunStatus = "done") -> list[str]:
    """The findings of one kind with ordinary spaces."""
    report = analyse(make_run(status), samples)
    return [each.text.replace("\u00a0", " ") for each in findings(report) if each.kind == kind]


def test_answer_compares_container_and_vm() -> None:
    """The answer gives the ratio, both medians, both intervals, both n, and the emulation."""
    [answer] = told(make_samples(), "answer")
    assert answer.startswith("On this host a container starts 773× faster than the VM (TCG emulation): ")
    assert "2.98 ms against 2.31 s (95 % intervals 2.88–3.12 ms and 2.26–2.37 s, n = 40 and 12)" in answer


def test_emulation_is_never_called_kvm() -> None:
    """No sentence claims KVM for samples taken under TCG, and a caution explains the difference."""
    samples = make_samples()
    sentences = [text for kind in ("answer", "finding", "caution") for text in told(samples, kind)]
    assert not [text for text in sentences if "KVM" in text and "without KVM" not in text]
    assert any("its figures hold for hosts without KVM only" in text for text in told(samples, "caution"))


def test_support_tells_cost_phase_memory_and_teardown() -> None:
    """After the answer come the overheads of a container, the longest phase, memory and teardown."""
    support = told(make_samples(), "finding")
    assert support[0].startswith("A container takes 2.91× as long to start as a bare process")
    assert support[1].startswith("A container takes 1.64× as long to start as the floor")
    assert "is the phase “kernel”" in support[2]
    assert support[3].startswith("The VM (TCG emulation) takes 251")
    assert "is gone" in support[4]


def test_equal_targets_show_no_difference() -> None:
    """Where the ratio's interval includes 1, the answer says so instead of naming a winner."""
    samples = [
        value_sample(target, 1 + each % 5 / 10, order=each)
        for each in range(20)
        for target in ("vm", "container")
    ]
    [answer] = told(samples, "answer")
    assert "no difference is shown between a container and the VM" in answer
    assert "faster" not in answer


def test_without_container_the_extremes_are_compared_and_the_floor_is_left_out() -> None:
    """The floor is a limit, not a choice: it is compared only if nothing else is left."""
    [answer] = told(make_samples({"floor": 10, "process": 10, "vm": 10}), "answer")
    assert "a bare process starts" in answer
    assert "floor" not in answer


def test_one_target_stands_alone() -> None:
    """A single target gives its value and says that there is nothing to compare it with."""
    [answer] = told(make_samples({"container": 20}), "answer")
    assert answer.startswith("On this host a container is ready after ")
    assert "no other target was measured" in answer


def test_one_sample_claims_no_interval() -> None:
    """One sample has a value but no interval, and a caution says that it is too little."""
    samples = [value_sample("container", 1.0), value_sample("vm", 2.0, order=1, accel="tcg")]
    [answer] = told(samples, "answer")
    assert "container: n = 1, no interval" in answer
    assert "an indication, not a result" in answer
    assert any("Too few samples for a 95 % interval" in text for text in told(samples, "caution"))


def test_only_failures_answer_with_the_reason() -> None:
    """When nothing succeeded the answer says so and quotes the most frequent reason, bounded."""
    samples = [failed_sample("vm", HOSTILE, order=each) for each in range(3)]
    [answer] = told(samples, "answer")
    assert answer.startswith("Nothing was measured: all 3 launches failed.")
    assert len(answer) < 300
    assert "\u202e" not in answer


def test_only_warmups_and_no_samples_at_all() -> None:
    """Neither warm-ups alone nor an empty run break the report."""
    assert told(make_samples({"vm": 0}), "answer") == ["Nothing was measured: only warm-ups are stored."]
    assert told([], "answer") == ["Nothing was measured: the run holds no samples."]


def test_interrupted_run_says_so() -> None:
    """The first caution of an interrupted run is that it was interrupted."""
    assert "interrupted" in told(make_samples(), "caution", "interrupted")[0]


def test_failed_launches_are_counted_per_target() -> None:
    """Failures are counted in launches, not in samples, by target, and by workload if there are several."""
    samples = [*make_samples(), failed_sample("vm", "no", order=900), failed_sample("vm", "no", order=901)]
    assert told(samples, "caution")[0].startswith("2 of 138 launches failed (2 of 15 on vm)")
    samples.append(failed_sample("vm", "no", order=902, workload="other"))
    by_workload = "(2 of 15 on vm for hello, 1 of 1 on vm for other)"
    assert told(samples, "caution")[0].startswith(f"3 of 139 launches failed {by_workload}")


def test_degraded_isolation_is_said_in_the_answer() -> None:
    """Missing limits and degraded isolation stand beside the number, not in a footnote."""
    samples = [
        value_sample(target, value, order=each, **qualifiers)
        for each in range(8)
        for target, value, qualifiers in (
            ("container", 1.0 + each / 100, {"limits": "none", "degraded": "no user namespace"}),
            ("vm", 2.0 + each / 100, {"accel": "kvm"}),
        )
    ]
    [answer] = told(samples, "answer")
    assert "a container (degraded: no user namespace; no limits applied)" in answer
    assert "the VM (KVM)" in answer


def test_mixed_acceleration_is_said() -> None:
    """Samples of both accelerations in one cell are called mixed everywhere."""
    samples = [
        value_sample("vm", 1.0 + each, order=each, accel=("tcg", "kvm")[each % 2]) for each in range(8)
    ]
    assert "mixed: KVM, TCG emulation" in told(samples, "answer")[0]
    assert any("partly under TCG emulation" in text for text in told(samples, "caution"))


def test_each_workload_has_its_answer() -> None:
    """A run of two workloads answers for each by name."""
    samples = [*make_samples(workload="a"), *make_samples(workload="b", seed=2)]
    assert [text.split(":")[0] for text in told(samples, "answer")] == ["Workload a", "Workload b"]


def test_unknown_metrics_and_targets_are_spoken_of_by_name() -> None:
    """A name that the report has never heard of is compared like any other, braces and all."""
    samples = [
        value_sample(target, value + each / 100, order=each, metric="my.{metric}")
        for each in range(8)
        for target, value in (("podman-5", 1.0), ("{docker}", 2.0))
    ]
    [answer] = told(samples, "answer")
    assert answer.startswith("On this host my.{metric} of {docker} is ")
    assert "that of podman-5" in answer


def test_what_decides_most_is_answered_first() -> None:
    """The workload whose start was measured stands before one that only has a metric of little weight."""
    other = replace(value_sample("process", 1.0, metric="layers.cache"), workload="a")
    answers = told([other, *make_samples()], "answer")
    assert [answer.split(":")[0] for answer in answers] == ["Workload hello", "Workload a"]


def test_counts_are_whole_and_sentences_begin_with_a_capital() -> None:
    """Eight instances are 8, not 8.0, also where a sentence begins with what was measured."""
    samples = [value_sample(target, 8.0, metric="density.instances") for target in ("container", "vm")]
    table = analyse(make_run(), [replace(each, unit="") for each in samples]).tables[0]
    assert finding(table).replace("\u00a0", " ").count(" 8 against 8;") == 1
    metric = "density.start.each"
    slopes = [value_sample("container", 0.1, metric=metric), value_sample("vm", 3.0, metric=metric)]
    assert finding(analyse(make_run(), slopes).tables[0]).startswith("What each instance adds")


def test_samples_that_were_mostly_rejected_limit_the_answer() -> None:
    """The targets are named with their numbers; where nothing counts at all, that is the answer."""
    samples = make_samples({"process": 20, "vm": 8})
    doubtful = [
        replace(sample, status="rejected") if sample.target == "process" and sample.order % 3 else sample
        for sample in samples
    ]
    [caution] = [text for text in told(doubtful, "caution") if "rejected" in text]
    assert caution.startswith("Most samples were rejected for their estimated error: process (")
    nothing = [replace(sample, status="rejected") for sample in samples]
    assert told(nothing, "answer")[0].startswith("No sample counts: the estimated error of every one is too")
