"""The runner stores each step before the next, survives failures, and always cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pybench.harness import conditions
from pybench.harness.errors import HostError, LeftoverError
from pybench.harness.model import (
    Environment,
    MeasurementChoice,
    Run,
    Sample,
    Scenario,
    Schedule,
    Step,
    Stop,
    TargetChoice,
    Workload,
    combine,
)
from pybench.harness.plan import plan
from pybench.harness.runner.interruption import Interruption
from pybench.harness.runner.progress import Event, Preparing, Remaining, StepBegins, StepEnded
from pybench.harness.runner.runner import Outcome, Runner
from pybench.harness.stats import phase_sums
from pybench.harness.store import Store
from pybench.harness.targets import MockSettings, TargetContext, open_target
from pybench.harness.targets.mock import MockImage, MockInstance, MockTarget
from pybench.runtime.journal import Journal, open_journal

RUN = Run("r", "s", "s.yaml", "2025-01-01T00:00:00.000Z", None, "running", "pybench run s", Environment({}))


def scenario(**options: dict[str, str | int | float]) -> Scenario:
    """One workload on pretended targets; `repetitions` is taken out of each target's options."""
    targets = tuple(
        TargetChoice(name, "mock", int(choice.pop("repetitions", 3)), choice)
        for name, choice in ((name, dict(choice)) for name, choice in options.items())
    )
    return Scenario(
        "s",
        "",
        "s.yaml",
        combine([Workload("w", "minimal", ("/bin/workload",))], targets),
        tuple(map(MeasurementChoice, ("startup", "teardown", "memory"))),
        Schedule(warmups=1),
    )


@dataclass
class Bench:
    """A store, a journal and what the runner told."""

    store: Store
    journal: Journal
    folder: Path
    events: list[Event] = field(default_factory=list)
    listen: Callable[[Event], None] | None = None

    def carry_out(self, wanted: Scenario) -> Outcome:
        """Carry out a scenario as run `r`."""
        context = TargetContext(self.journal, self.folder)

        def tell(event: Event) -> None:
            self.events.append(event)
            if self.listen is not None:
                self.listen(event)

        images = {"minimal": MockImage("minimal")}
        return Runner(self.store, lambda choice: open_target(choice, context), images, tell).carry_out(
            wanted, RUN
        )

    def samples(self, metric: str) -> list[Sample]:
        """The stored samples of one metric."""
        return [sample for sample in self.store.samples("r") if sample.metric == metric]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose journal must be empty in the end."""
    with Store.open(tmp_path / "pybench.sqlite") as store, open_journal(tmp_path) as journal:
        yield Bench(store, journal, tmp_path)
        assert journal.entries == ()


def test_a_plan_is_carried_out_and_stored(bench: Bench) -> None:
    """Every step becomes samples of every measurement, in the plan's order, and the run is done."""
    wanted = scenario(fast={"repetitions": 4}, slow={"latency": 0.03, "repetitions": 2})
    outcome = bench.carry_out(wanted)
    ready = bench.samples("startup.ready")
    assert [(s.target, s.repetition, s.warmup, s.order) for s in ready] == [
        (step.target.name, step.repetition, step.warmup, step.order) for step in plan(wanted)
    ]
    assert {sample.metric for sample in bench.store.samples("r")} == {
        *(
            "startup.exec",
            "startup.ready",
            "startup.phase.sandbox",
            "startup.phase.exec",
            "startup.phase.ready",
        ),
        *("memory.host.pss", "memory.host.rss", "memory.host.uss", "memory.host.mapped"),
        *("memory.kernel.tables", "memory.kernel.stacks", "memory.host.cgroup", "teardown"),
    }
    assert outcome == Outcome("done", 8, 0, ())
    assert bench.store.run("r").status == "done"
    assert bench.store.run("r").finished is not None


def test_samples_say_how_they_were_obtained(bench: Bench) -> None:
    """Unit, channel, resolution, the instance's qualifiers and the image's hash are on every sample."""
    bench.carry_out(scenario(fast={}))
    for sample in bench.store.samples("r"):
        assert sample.unit == ("B" if sample.metric.startswith("memory") else "s")
        assert sample.channel in {"pretended", "smaps", "cgroup", "status"}
        assert sample.resolution > 0
        assert sample.qualifiers == {"pretended": "yes", "image": "0" * 64}


def test_phases_add_up_to_the_total_exactly(bench: Bench) -> None:
    """To the nanosecond, for every launch."""
    bench.carry_out(scenario(odd={"latency": 0.0012345677, "repetitions": 20}))
    totals = {("w", s.target, s.order): s.value for s in bench.samples("startup.ready")}
    sums = phase_sums(bench.store.samples("r"))
    assert {key: round(value * 1e9) for key, value in sums.items()} == {
        key: round((value or 0) * 1e9) for key, value in totals.items()
    }


def test_each_step_is_stored_before_the_next_begins(bench: Bench) -> None:
    """When a step begins, a second reader of the file sees all the steps before it."""
    seen: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepBegins):
            with Store.open(bench.store.place) as reader:
                seen.append(len({sample.order for sample in reader.samples("r")}))

    bench.listen = listen
    bench.carry_out(scenario(fast={}))
    assert seen == [0, 1, 2, 3]


def test_a_failed_launch_is_a_failed_sample_and_the_run_goes_on(bench: Bench) -> None:
    """The reason carries the log's last lines; the other launches are unharmed."""
    outcome = bench.carry_out(scenario(shaky={"failures": ".x", "repetitions": 5}))
    ready = bench.samples("startup.ready")
    assert [sample.status for sample in ready] == ["ok", "failed", "ok", "failed", "ok", "failed"]
    failed = ready[1]
    assert failed.value is None
    assert failed.reason == "the pretended instance failed\npretended log line"
    assert failed.qualifiers == {"image": "0" * 64}
    assert outcome == Outcome("done", 6, 3, ())


def test_a_target_that_never_succeeds_is_named(bench: Bench) -> None:
    """The run is done, and its outcome names the target."""
    outcome = bench.carry_out(scenario(broken={"failures": "x"}, fine={}))
    assert outcome.status == "done"
    assert outcome.failed_targets == ("broken",)


def test_an_instance_that_died_is_a_failed_sample(bench: Bench) -> None:
    """One that died after it was ready keeps its start, has no teardown, and the run goes on."""
    outcome = bench.carry_out(scenario(frail={"failures": ".d.", "repetitions": 3}))
    assert outcome.status == "done"
    assert [sample.status for sample in bench.samples("teardown")] == ["ok", "failed", "ok", "ok"]
    assert {sample.status for sample in bench.samples("startup.ready")} == {"ok"}


def test_something_left_behind_ends_the_run(bench: Bench) -> None:
    """Samples after a leftover could not be trusted; those before it, and the failed teardown, are stored."""
    with pytest.raises(LeftoverError):
        bench.carry_out(scenario(dirty={"failures": "..l", "repetitions": 9}))
    assert bench.store.run("r").status == "failed"
    assert [sample.status for sample in bench.samples("teardown")] == ["ok", "ok", "failed"]
    assert len(bench.samples("startup.ready")) == 3


def test_an_error_while_preparing_cleans_up_what_was_prepared(bench: Bench) -> None:
    """The first target is cleaned up when the second cannot be opened, and the run is failed."""

    class Refusing:
        def __init__(self, cleaned: list[str]) -> None:
            self.cleaned = cleaned

        def prepare(self, workload: Workload, image: object) -> None:
            raise HostError(f"cannot run {workload.name} of {image}")

        def launch(self, timeout: float) -> object:
            raise AssertionError(timeout)

        def cleanup(self) -> None:
            self.cleaned.append("refusing")

    cleaned: list[str] = []
    context = TargetContext(bench.journal, bench.folder)
    runner = Runner(
        bench.store,
        lambda choice: Refusing(cleaned) if choice.name == "bad" else open_target(choice, context),  # type: ignore[arg-type, return-value]
        {"minimal": MockImage("minimal")},
    )
    with pytest.raises(HostError):
        runner.carry_out(scenario(good={}, bad={}), RUN)
    assert bench.store.run("r").status == "failed"
    assert cleaned == ["refusing"]


class Hanging(MockTarget):
    """A launch of it does not become ready; a signal comes meanwhile, and more while it cleans up."""

    def __init__(self, context: TargetContext, good: int, number: signal.Signals) -> None:
        super().__init__(MockSettings(), context)
        self.good = good
        self.number = number

    def launch(self, timeout: float) -> MockInstance:
        """After so many good ones, wait for as long as is allowed."""
        if self.good == 0:
            threading.Timer(0.05, os.kill, (os.getpid(), self.number)).start()
            time.sleep(timeout)
        self.good -= 1
        return super().launch(timeout)

    def cleanup(self) -> None:
        """Be asked to end again and again."""
        if self._prepared is not None:
            for _ in range(2):
                signal.raise_signal(self.number)
        super().cleanup()


def interrupted(bench: Bench, good: int, number: signal.Signals) -> Outcome:
    """The outcome of a run that a signal ends after so many good launches."""
    target = Hanging(TargetContext(bench.journal, bench.folder), good, number)
    runner = Runner(bench.store, lambda _choice: target, {"minimal": MockImage("minimal")})
    return runner.carry_out(scenario(hanging={"repetitions": 10}), RUN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_keeps_what_was_measured(bench: Bench, number: signal.Signals) -> None:
    """A signal cuts the launch short at once, ends the run as interrupted, and cleans up."""
    assert interrupted(bench, 4, number) == Outcome("interrupted", 4, 0, ())
    assert bench.store.run("r").status == "interrupted"
    assert len(bench.samples("startup.ready")) == 4


def test_a_long_launch_is_cut_short_and_its_cleanup_is_not(bench: Bench) -> None:
    """Nobody waits for a timeout of a minute, and asking a second and third time leaves nothing behind."""
    assert interrupted(bench, 0, signal.SIGINT) == Outcome("interrupted", 0, 0, ())
    assert bench.samples("startup.ready") == []


def test_signals_during_a_teardown_wait_for_its_end() -> None:
    """Outside the allowed regions nothing is raised; the next allowed region raises, once."""
    steps: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        steps.append("teardown finished")
        with pytest.raises(KeyboardInterrupt), interruption.allowed():
            steps.append("never")
        signal.raise_signal(signal.SIGINT)
        steps.append("second request ignored")
    assert steps == ["teardown finished", "second request ignored"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """Under nohup a hang-up does not end the run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_works_outside_the_main_thread(bench: Bench) -> None:
    """Signals are left alone there, and everything else is the same."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(bench.carry_out(scenario(fast={}))))
    thread.start()
    thread.join()
    assert outcomes == [Outcome("done", 4, 0, ())]


def test_events_tell_what_happens_and_what_is_left(bench: Bench) -> None:
    """Preparations first, then begin and end of each step, with a remaining time that ends at nothing."""
    wanted = scenario(slow={"delay": 0.1, "repetitions": 4, "failures": "x"})
    bench.carry_out(wanted)
    first, *steps = bench.events
    assert first == Preparing(wanted.combinations[0], 0, 1)
    assert [type(event) for event in steps] == [StepBegins, StepEnded] * 5
    begun = [event.remaining for event in steps if isinstance(event, StepBegins)]
    assert begun[0] is None
    # A busy host makes the first step longer, never shorter.
    assert begun[1] is not None
    assert 4 * 0.1 * 0.9 <= begun[1] < 4 * 30
    last = steps[-1]
    assert isinstance(last, StepEnded)
    assert (last.remaining, last.failure) == (0, "the pretended instance failed")


def test_the_remaining_time_waits_until_every_target_was_seen() -> None:
    """It is unknown while a target is left of which nothing is known."""
    steps: tuple[Step, ...] = plan(replace(scenario(a={}, b={}), schedule=Schedule(warmups=0)))
    remaining = Remaining(steps)
    by_target = {name: [step for step in steps if step.target.name == name] for name in "ab"}
    remaining.observe(by_target["a"][0], 2.0)
    assert remaining.seconds() is None
    remaining.observe(by_target["b"][0], 1.0)
    assert remaining.seconds() == pytest.approx(2 * 2.0 + 2 * 1.0)


KILLED = """
import sys
from pathlib import Path
from pybench.harness.model import *
from pybench.harness.runner.runner import Runner
from pybench.harness.store import Store
from pybench.harness.targets import TargetContext, open_target
from pybench.harness.targets.mock import MockImage
from pybench.runtime.journal import open_journal

folder = Path(sys.argv[1])
target = TargetChoice("t", "mock", 3000, {"delay": 0.01})
combinations = combine([Workload("w", "i", ("/x",))], [target])
wanted = Scenario("s", "", "s", combinations, (MeasurementChoice("startup"),), Schedule(warmups=0))
run = Run("r", "s", "s", "2025-01-01T00:00:00.000Z", None, "running", "c", Environment({}))
with Store.open(folder / "pybench.sqlite") as store, open_journal(folder) as journal:
    context = TargetContext(journal, folder)
    tell = lambda event: print(event.step.order if hasattr(event, "samples") else -1, flush=True)
    runner = Runner(store, lambda choice: open_target(choice, context), {"i": MockImage("i")}, tell)
    runner.carry_out(wanted, run)
"""


def test_a_killed_runner_leaves_its_samples_and_its_journal(tmp_path: Path) -> None:
    """After SIGKILL every step that was reported is stored, and the journal says what is left to clean."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) >= 10:
                break
        run.kill()
        reported = max([10, *(int(line) for line in run.stdout)])
    with Store.open(tmp_path / "pybench.sqlite") as store:
        assert store.run("r").status == "abandoned"
        assert {sample.order for sample in store.samples("r")} >= set(range(reported + 1))
    (journal,) = tmp_path.glob("*.journal")
    assert '"kind": "pretended"' in journal.read_text()


def test_each_step_has_its_conditions(bench: Bench) -> None:
    """Time waited, launched and worked, and the host's state; own work begins with the second step."""
    bench.carry_out(scenario(slow={"delay": 0.02, "repetitions": 3}))
    found = bench.store.conditions("r")
    assert [each.order for each in found] == [0, 1, 2, 3]
    for each in found:
        assert 0.02 <= each.values[conditions.LAUNCH_SECONDS] < 30
        assert each.values[conditions.STEP_SECONDS] >= each.values[conditions.LAUNCH_SECONDS]
        assert each.values[conditions.MEASURED_SECONDS] >= each.values[conditions.LAUNCH_SECONDS]
        assert each.values[conditions.HARNESS_CPU] >= 0
        assert each.values[conditions.UNSETTLED] == 0
        assert each.values[conditions.PACE] > 0
    assert [conditions.OWN_SECONDS in each.values for each in found] == [False, True, True, True]


def test_a_sample_with_too_large_an_error_is_rejected_and_replaced(bench: Bench) -> None:
    """It keeps its value and gets a reason; half as many launches again are tried, and the run is done."""
    outcome = bench.carry_out(scenario(brief={"latency": 1e-7, "repetitions": 4}, fine={"repetitions": 2}))
    ready = [sample for sample in bench.samples("startup.ready") if sample.target == "brief"]
    assert {sample.status for sample in ready} == {"rejected"}
    assert [sample.repetition for sample in ready if not sample.warmup] == [0, 1, 2, 3, 4, 5]
    assert ready[0].value == pytest.approx(1e-7)
    assert ready[0].reason == "its estimated error of 2.00 ns exceeds 1 % of 100 ns"
    assert ready[0].error == pytest.approx(2e-9)
    assert outcome == Outcome("done", 10, 0, (), 7)
    events = [event for event in bench.events if isinstance(event, StepEnded)]
    assert (events[-1].done, events[-1].total) == (10, 10)


def test_parameters_are_on_every_sample(bench: Bench) -> None:
    """Each combination is prepared and launched on its own."""
    wanted = scenario(one={"repetitions": 2})
    combinations = tuple(
        replace(each, parameters={"memory": size})
        for size in ("64MiB", "128MiB")
        for each in wanted.combinations
    )
    bench.carry_out(replace(wanted, combinations=combinations))
    ready = [sample for sample in bench.samples("startup.ready") if not sample.warmup]
    assert sorted(str(sample.parameters["memory"]) for sample in ready) == ["128MiB"] * 2 + ["64MiB"] * 2


def test_precision_ends_a_combination_and_its_samples_say_so(bench: Bench) -> None:
    """The pretended launches differ by a few percent, so the first look suffices."""
    wanted = scenario(one={"repetitions": 50})
    schedule = replace(wanted.schedule, stop=Stop(precision=0.1, at_least=10))
    outcome = bench.carry_out(replace(wanted, schedule=schedule))
    ready = [sample for sample in bench.samples("startup.ready") if not sample.warmup]
    assert len(ready) == outcome.launches - 1 == 10
    assert {sample.qualifiers["looks"] for sample in ready} == {"10-50"}


def test_a_run_ends_at_the_first_failure_if_it_is_told_so(bench: Bench) -> None:
    """What was measured before is kept, and the run is a failed one."""
    wanted = scenario(shaky={"failures": "..x", "repetitions": 9})
    outcome = bench.carry_out(replace(wanted, schedule=replace(wanted.schedule, on_failure="stop")))
    assert outcome.status == bench.store.run("r").status == "failed"
    assert [sample.status for sample in bench.samples("startup.ready")] == ["ok", "ok", "failed"]
