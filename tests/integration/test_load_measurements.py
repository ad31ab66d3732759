"""Density, rate, restart and settled memory on the real targets, from a scenario to stored samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.harness.model import (
    Environment,
    Readiness,
    Resources,
    Run,
    Sample,
    TargetChoice,
    Workload,
)
from pybench.harness.runner.execution import find_images
from pybench.harness.runner.runner import Outcome, Runner
from pybench.harness.scenario import load_scenario
from pybench.harness.store import Store
from pybench.harness.targets import TargetContext, open_target
from pybench.runtime.journal import open_journal
from pybench.vm_images import Image

RUN = Run("r", "s", "s.yaml", "2025-01-01T00:00:00.000Z", None, "running", "pybench run s", Environment({}))
TEXT = """\
name: example
workloads:
  w:
    image: minimal
    command: {command}
    readiness: {readiness}
    resources: {{memory: 32MiB, pids: 16}}
schedule: {{warmups: 0, ready_timeout: {timeout}, stop_timeout: {grace}}}
targets:
  {target}: {{repetitions: 1{options}}}
measure: {measure}
"""
READY = '[/bin/workload, "ready"]'
Carry = Callable[..., tuple[Outcome, list[Sample]]]


@pytest.fixture
def carry_out(tmp_path: Path, image: Image) -> Carry:
    """Carries out a scenario and gives its samples; nothing may be left in the journal."""
    del image

    def carry(
        target: str, measure: str, command: str = READY, readiness: str = "{text: ready}"
    ) -> tuple[Outcome, list[Sample]]:
        path = tmp_path / "example.yaml"
        options = ", accel: tcg" if target == "vm" else ""
        path.write_text(
            TEXT.format(
                target=target,
                measure=measure,
                command=command,
                readiness=readiness,
                options=options,
                timeout="180s" if command == READY else "3s",
                # Only what heeds the request is given all the time that it may need.
                grace="120s" if command == READY else "5s",
            ),
            encoding="utf-8",
        )
        scenario = load_scenario(path)
        with Store.open(tmp_path / "s.sqlite") as store, open_journal() as journal:
            context = TargetContext(journal, tmp_path)
            images = find_images(scenario, lambda _text: None)
            outcome = Runner(store, lambda choice: open_target(choice, context), images).carry_out(
                scenario, RUN
            )
            assert journal.entries == ()
            return outcome, store.samples("r")

    return carry


def of(samples: list[Sample], metric: str) -> list[float]:
    """The values of one metric."""
    return [sample.value for sample in samples if sample.metric == metric and sample.value is not None]


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_instances_are_added_restarted_and_started_at_once(carry_out: Carry, target: str) -> None:
    """Every figure is there on every target, and those of a machine say how it ran."""
    few = 3 if target == "vm" else 8
    measure = (
        f"{{density: {{most: {few}}}, restart: {{}}, settled-memory: {{}}, memory: {{}}, "
        f"rate: {{concurrency: [2], starts: {few}}}}}"
    )
    outcome, samples = carry_out(target, measure)
    assert (outcome.status, outcome.failures) == ("done", 0), [s.reason for s in samples if s.reason]
    assert of(samples, "density.instances") == [few]
    assert len(of(samples, "density.start")) == len(of(samples, "density.memory")) == few
    assert len(of(samples, "rate.start")) == few
    assert of(samples, "rate.best")[0] > 0
    assert of(samples, "restart")[0] > 0
    assert of(samples, "memory.settled.pss")[0] > 0
    assert of(samples, "memory.kernel.tables")[0] > 0
    assert of(samples, "memory.kernel.stacks")[0] >= 16384
    if target == "vm":
        assert of(samples, "density.memory.each")[0] > 32 * 2**20
        assert {sample.qualifiers["accel"] for sample in samples} == {"tcg"}
    if target == "container":
        assert of(samples, "memory.kernel.charged")[0] > 0
        assert of(samples, "memory.settled.cgroup")[0] > of(samples, "memory.settled.kernel")[0]


# The first process forks once, before the limit is reached: a shell that cannot fork ends.
BOMB = """[/bin/busybox, sh, -c, "echo ready; f() { f | f & }; f & exec sleep 60"]"""


@pytest.mark.parametrize(
    ("command", "readiness", "reason"),
    [
        ('[/bin/workload, exit, "3"]', "{text: ready}", "exit code 3"),
        ("[/bin/workload, silent]", "{text: ready}", "not ready after"),
        ("[/bin/workload, flood]", "{text: ready}", "not ready after"),
        ('[/bin/busybox, sh, -c, "echo ready; sleep 0.3; exit 5"]', "{text: ready}", "has died"),
    ],
)
def test_a_workload_that_misbehaves_ends_the_ramp_with_its_reason(
    carry_out: Carry, command: str, readiness: str, reason: str
) -> None:
    """One that exits at once, never gets ready, floods its output, or dies half-way through the ramp."""
    outcome, samples = carry_out("container", "{density: {most: 40}}", command, readiness)
    assert outcome.status == "done"
    (failed,) = [sample for sample in samples if sample.status == "failed"]
    assert failed.metric == "density.instances"
    assert reason in failed.reason
    assert len(failed.reason) < 40_000
    assert len(of(samples, "density.memory")) == len(of(samples, "density.start"))


def test_a_fork_bomb_is_held_by_its_limit_and_gone_in_the_end(carry_out: Carry) -> None:
    """Each container has its own limit of processes, and the ramp goes on beside them."""
    outcome, samples = carry_out("container", "{density: {most: 2}}", BOMB)
    assert (outcome.status, outcome.failures) == ("done", 0), [s.reason for s in samples if s.reason]
    assert of(samples, "density.instances") == [2]


@pytest.mark.parametrize("target", ["process", "container", "vm"])
def test_requests_are_timed_alone_and_beside_a_neighbour(carry_out: Carry, target: str) -> None:
    """The neighbour runs on a target of the same kind, and both columns of the matrix are there."""
    outcome, samples = carry_out(target, "{interference: {neighbours: [fork], duration: 500ms, lead: 0s}}")
    assert (outcome.status, outcome.failures) == ("done", 0), [s.reason for s in samples if s.reason]
    medians = {
        sample.parameters["neighbour"]: sample.value or 0
        for sample in samples
        if sample.metric == "interference.latency.p50"
    }
    assert set(medians) == {"none", "fork"}
    assert min(medians.values()) > 0
    # Where the host is so busy that fewer than twenty requests were answered there is no percentile.
    slowdowns = of(samples, "interference.slowdown")
    assert len(slowdowns) == int(len(of(samples, "interference.latency.p95")) == 2)
    assert of(samples, "interference.worst") == slowdowns


def test_a_neighbour_that_cannot_live_is_a_failed_sample(carry_out: Carry) -> None:
    """With too little memory it does not get ready; what the victim did alone is kept."""
    outcome, samples = carry_out(
        "container",
        "{interference: {neighbours: [memory], duration: 200ms, memory: 4MiB}}",
        '[/bin/busybox, sh, -c, "echo ready; sleep 300"]',
    )
    assert (outcome.status, outcome.failures) == ("done", 1)
    assert of(samples, "interference.latency.p50")
    (failed,) = [sample for sample in samples if sample.status == "failed"]
    assert (failed.metric, failed.parameters) == ("interference.slowdown", {"neighbour": "memory"})
    assert failed.reason.startswith("beside memory: ")


@pytest.mark.parametrize("kind", ["process", "chroot"])
def test_a_bare_process_can_be_held_to_limits(tmp_path: Path, image: Image, kind: str) -> None:
    """Processes and memory are those of the workload, for its further commands too; then all is gone."""
    workload = Workload(
        "w",
        "minimal",
        ("/bin/busybox", "sh", "-c", "echo ready; f() { f | f & }; f & exec sleep 300"),
        readiness=Readiness("line", "ready"),
        resources=Resources(memory=32 * 2**20, pids=12),
    )
    with open_journal() as journal:
        target = open_target(TargetChoice(kind, kind, 1, {"limited": True}), TargetContext(journal, tmp_path))
        target.prepare(workload, image)
        instance = target.launch(PATIENCE)
        groups = [Path(str(entry.details["path"])) for entry in journal.entries if entry.kind == "cgroup"]
        assert groups
        assert 0 < (instance.cgroup_memory or 0) <= 32 * 2**20
        counts = [
            int((group / "pids.current").read_text()) for group in groups if (group / "pids.current").exists()
        ]
        assert counts
        # Version 1 leaves room for the thread that starts it, which has to be inside.
        assert max(counts) <= 12 + 1
        assert "limits" not in instance.qualifiers
        assert instance.qualifiers["cgroup"] in {"v1", "v2"}
        instance.stop(0)
        assert not any(group.exists() for group in groups)
        target.cleanup()
        assert journal.entries == ()
