"""Measurements with steps of their own: planned, carried out, failing half-way, cut short."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybench.harness.cli.main import run as command_line
from pybench.harness.errors import InputError, LeftoverError
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.measure.base import Measurement, Metric, ProcedureSettings, Reading
from pybench.harness.model import Environment, ParameterValue, Run, Sample, Workload
from pybench.harness.plan import plan
from pybench.harness.runner.bench import Bench
from pybench.harness.runner.expectation import expect
from pybench.harness.runner.runner import Outcome, Runner
from pybench.harness.scenario import Choices, load_scenario
from pybench.harness.store import Store
from pybench.harness.targets import MockSettings, TargetContext
from pybench.harness.targets.base import ImageFiles
from pybench.harness.targets.mock import MockImage, MockInstance, MockTarget
from pybench.runtime.journal import Journal, open_journal

RUN = Run("r", "s", "s.yaml", "2025-01-01T00:00:00.000Z", None, "running", "pybench run s", Environment({}))
TEXT = """\
name: example
workloads:
  ready: {image: minimal, command: [/bin/workload, ready]}
targets:
  mock: {repetitions: 3}
  other: {kind: mock, repetitions: 3}
schedule: {warmups: 1}
measure:
"""


class ProbeSettings(ProcedureSettings):
    """Options of the measurement that these tests add."""

    most: int = 3
    """Instances."""

    def images(self) -> tuple[str, ...]:
        """One more."""
        return ("extra",)

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """One launch for each."""
        return self.most * launch


@dataclass
class CountedInstance(MockInstance):
    """Tells which launch it came from when it is stopped."""

    on_stop: Callable[[int], None] = lambda _number: None

    def stop(self, timeout: float) -> None:
        """Tell, then stop."""
        self.on_stop(self.marks[0].at // 1_000_000_000)
        super().stop(timeout)


@dataclass
class World:
    """A store, a journal, and every instance that was made and stopped."""

    store: Store
    journal: Journal
    folder: Path
    stopped: list[int] = field(default_factory=list)
    prepared: Counter[tuple[str, str]] = field(default_factory=Counter)
    cleaned: int = 0
    failures: str = ""

    def carry_out(self, measure: str) -> Outcome:
        """Carry out a scenario that measures this."""
        path = self.folder / "example.yaml"
        path.write_text(TEXT + measure, encoding="utf-8")
        scenario = load_scenario(path, Choices(("mock",)))
        world = self

        class Target(MockTarget):
            """Counts what happens to it."""

            def prepare(self, workload: Workload, image: ImageFiles) -> None:
                world.prepared[workload.name, image.name] += 1
                super().prepare(workload, image)

            def launch(self, timeout: float) -> MockInstance:
                made = super().launch(timeout)
                return CountedInstance(
                    made.marks, made.leaves_something, made.died, on_stop=world.stopped.append
                )

            def cleanup(self) -> None:
                world.cleaned += 1
                super().cleanup()

        context = TargetContext(self.journal, self.folder)
        images = {name: MockImage(name) for name in scenario.images}
        settings = MockSettings(failures=self.failures)
        return Runner(self.store, lambda _choice: Target(settings, context), images).carry_out(scenario, RUN)

    def samples(self, metric: str) -> list[Sample]:
        """The stored samples of one metric."""
        return [sample for sample in self.store.samples("r") if sample.metric == metric]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world whose journal must be empty in the end."""
    with Store.open(tmp_path / "pybench.sqlite") as store, open_journal(tmp_path) as journal:
        yield World(store, journal, tmp_path)
        assert journal.entries == ()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Bench], None]], None]:
    """Registers a measurement `probe` that does what a test wants."""

    def register(procedure: Callable[[Bench], None]) -> None:
        measurement = Measurement(
            name="probe",
            description="for tests",
            metrics=(Metric("probe.value", "B", "a value"), Metric("probe.other", "s", "another")),
            parameters=frozenset({"instances"}),
            procedure=procedure,
            settings=ProbeSettings,
        )
        monkeypatch.setitem(MEASUREMENTS, "probe", measurement)

    return register


def value(number: float, **parameters: ParameterValue) -> Reading:
    """A reading without an error."""
    return Reading("probe.value", "B", number, "test", 0.0, parameters=parameters)


def test_a_restart_has_steps_of_its_own(world: World) -> None:
    """They alternate with the launches that are read, and each is a teardown and a start."""
    outcome = world.carry_out("  {startup: {}, teardown: {}, restart: {repetitions: 2, warmups: 1}}")
    assert outcome == Outcome("done", 4 + 3, 0, ())
    restarts = world.samples("restart")
    assert [sample.warmup for sample in restarts] == [True, False, False]
    launches = {sample.order for sample in world.samples("startup.ready")}
    assert not launches & {sample.order for sample in restarts}
    for sample in restarts:
        assert (sample.status, sample.unit) == ("ok", "s")
        assert sample.value == pytest.approx(0.0005 + 0.001, rel=0.1)
        assert sample.qualifiers["pretended"] == "yes"
    assert len(world.stopped) == 4 + 2 * 3


def test_a_procedure_that_fails_half_way_keeps_what_it_has(
    world: World, probe: Callable[[Callable[[Bench], None]], None]
) -> None:
    """Its readings stay, the failure is a sample with its reason, all are stopped, and the run goes on."""

    def ramp(bench: Bench) -> None:
        for number in range(bench.options(ProbeSettings).most):
            bench.launch()
            bench.record(value(1000.0 + number, instances=number + 1))

    probe(ramp)
    world.failures = "..x....."
    outcome = world.carry_out("  probe: {most: 4, repetitions: 2}")
    assert outcome == Outcome("done", 2, 1, ())
    samples = world.samples("probe.value")
    assert [(s.order, s.status, s.parameters) for s in samples] == [
        (0, "ok", {"instances": 1}),
        (0, "ok", {"instances": 2}),
        (0, "failed", {}),
        *((1, "ok", {"instances": number}) for number in (1, 2, 3, 4)),
    ]
    assert samples[2].reason.startswith("the pretended instance failed\n")
    # In the reverse order of their launches; number 2 never was.
    assert world.stopped == [1, 0, 6, 5, 4, 3]


def test_an_instance_that_died_unnoticed_is_a_failed_sample(
    world: World, probe: Callable[[Callable[[Bench], None]], None]
) -> None:
    """The others are stopped as always; one that the procedure stops itself ends the procedure."""

    def two(bench: Bench) -> None:
        first, _ = bench.launch(), bench.launch()
        bench.record(value(1))
        bench.stop(first)
        bench.record(value(2))

    probe(two)
    world.failures = ".dd."
    world.carry_out("  probe: {repetitions: 2}")
    assert [(s.order, s.value, s.status) for s in world.samples("probe.value")] == [
        (0, 1.0, "ok"),
        (0, 2.0, "ok"),
        (0, None, "failed"),
        (1, 1.0, "ok"),
        (1, None, "failed"),
    ]
    assert world.stopped == [0, 1, 2, 3]


def test_a_leftover_ends_the_run_after_all_others_are_stopped(
    world: World, probe: Callable[[Callable[[Bench], None]], None]
) -> None:
    """None is forgotten because another one survives."""

    def three(bench: Bench) -> None:
        for _ in range(3):
            bench.launch()
        bench.record(value(1))

    probe(three)
    world.failures = ".l."
    with pytest.raises(LeftoverError):
        world.carry_out("  probe: {repetitions: 5}")
    assert world.stopped == [2, 1, 0]
    assert [sample.status for sample in world.samples("probe.value")] == ["ok", "failed"]
    assert world.store.run("r").status == "failed"


def test_ctrl_c_keeps_readings_and_is_held_back_while_something_is_stopped(
    world: World, probe: Callable[[Callable[[Bench], None]], None]
) -> None:
    """It cuts the procedure short right after the stop during which it came."""
    reached: list[str] = []

    def interrupted(bench: Bench) -> None:
        instance = bench.launch()
        bench.record(value(7))
        stop = instance.stop

        def stop_slowly(timeout: float) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            stop(timeout)
            reached.append("stopped")

        instance.stop = stop_slowly  # type: ignore[method-assign]
        bench.launch()
        bench.stop(instance)
        reached.append("never")

    probe(interrupted)
    outcome = world.carry_out("  probe: {}")
    assert outcome.status == "interrupted"
    assert reached == ["stopped"]
    assert [sample.value for sample in world.samples("probe.value")] == [7.0]
    assert len(world.stopped) == 2


def test_a_neighbour_is_prepared_once_and_cleaned_up(
    world: World, probe: Callable[[Callable[[Bench], None]], None]
) -> None:
    """A second target of another workload and image serves every step of the run."""
    noise = Workload("noise", "extra", ("/bin/noise",))

    def beside(bench: Bench) -> None:
        victim = bench.launch()
        neighbour = bench.launch(on=bench.open(noise))
        bench.open(noise)
        bench.open(noise, number=2)
        bench.settle()
        bench.stop(neighbour)
        bench.record(value(1), Reading("probe.other", "s", 1.0, "test", 0.0, qualifiers={"beside": "noise"}))
        assert victim.ended == ""

    probe(beside)
    outcome = world.carry_out("  probe: {repetitions: 3}")
    assert outcome == Outcome("done", 3, 0, ())
    assert world.prepared == {("ready", "minimal"): 1, ("noise", "extra"): 2}
    assert world.cleaned == 3
    assert {sample.qualifiers["beside"] for sample in world.samples("probe.other")} == {"noise"}
    assert all("beside" not in sample.qualifiers for sample in world.samples("probe.value"))


def test_the_plan_alternates_procedures_and_targets(tmp_path: Path) -> None:
    """Every combination of workload, target and measurement has its own number of steps."""
    path = tmp_path / "example.yaml"
    path.write_text(TEXT + "  {startup: {}, restart: {repetitions: 2}}", encoding="utf-8")
    scenario = load_scenario(path)
    steps = plan(scenario)
    counts = Counter((step.target.name, step.task.procedure, step.warmup) for step in steps)
    assert counts == {
        **{(target, "", True): 1 for target in ("mock", "other")},
        **{(target, "", False): 3 for target in ("mock", "other")},
        **{(target, "restart", False): 2 for target in ("mock", "other")},
    }
    launch, restart = (
        next(each for each in expect(scenario, {}) if each.task.procedure == name) for name in ("", "restart")
    )
    assert restart.step_seconds == 2 * launch.step_seconds
    again = load_scenario(path, Choices(repetitions=5))
    assert {task.repetitions for task in again.tasks} == {5}
    assert [task.repetitions for task in load_scenario(path, Choices(quick=True)).tasks] == [3, 1, 3, 1]
    path.write_text(TEXT + "  {restart: {}}", encoding="utf-8")
    assert {(task.procedure, task.repetitions) for task in load_scenario(path).tasks} == {("restart", 3)}


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (" {restart: {repetitions: 0}}", ":8:34: measure.restart.repetitions: must be greater"),
        (
            " {restart: {repetition: 1}}",
            "measure.restart.repetition: unknown key; did you mean 'repetitions'?",
        ),
        (" {startup: {repetitions: 1}}", "measure.startup.repetitions: unknown key"),
        (" {restrat: {}}", "measure.restrat: unknown measurement 'restrat'; did you mean 'restart'?"),
        (" [startup, {restart: {}}]", "a list has only names"),
        (" {restart: 3}", "measure.restart: must be a mapping, not 3"),
        (" startup", "measure: must be a mapping"),
    ],
)
def test_options_of_a_measurement_are_validated(tmp_path: Path, measure: str, message: str) -> None:
    """An option that is unknown, out of bounds or of another measurement is told with its place."""
    path = tmp_path / "example.yaml"
    path.write_text(TEXT.replace("measure:\n", f"measure:{measure}\n"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert message in caught.value.message


def test_a_dry_run_tells_what_is_done_with_each_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Procedures have lines of their own, in the plan and in its order, with times of their own runs."""
    path = tmp_path / "example.yaml"
    path.write_text(TEXT + "  {startup: {}, restart: {}}", encoding="utf-8")
    words = ["run", str(path), "--results", str(tmp_path / "results"), "--targets", "mock"]
    assert command_line([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "at most 7 steps" in out
    assert "mock (restart)" in out
    assert command_line([*words, "--no-report"]) == 0
    assert "restart" in capsys.readouterr().out
    assert command_line([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("earlier runs") == 2
