"""A night: a list of scenarios, each measured and held against its baseline; no second try to pass.

What a run found stands. A night never repeats one because its gate failed, which would turn a rate of false
alarms of 1 % into one of missed regressions; where a result is not clear, the gate may gather more, which is
valid however often it looks (`pybench.harness.gate.gathering`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from pybench import scenarios
from pybench.harness.comparison.limits import Limits
from pybench.harness.errors import InputError, PybenchError
from pybench.harness.fields import Duration, Label, Repetitions
from pybench.harness.gate.baselines import USUAL_BASELINE, awaited, baseline_run, pace_in
from pybench.harness.gate.check import GateSettings
from pybench.harness.gate.gathering import Gathering
from pybench.harness.gate.judgement import Judgement, Recorded, hold_against
from pybench.harness.gate.limits import read_limits, scenario_limits
from pybench.harness.results import DATABASE
from pybench.harness.revision import project_of, revision
from pybench.harness.runner.execution import host_for_itself, open_recorder, prepare
from pybench.harness.runner.preflight import check_host
from pybench.harness.scenario import Choices, load_scenario
from pybench.harness.scenario.document import Kind, read_document
from pybench.harness.scenario.language import LanguageModel
from pybench.harness.scenario.validate import validate
from pybench.harness.store import BRANCH, Store

if TYPE_CHECKING:
    from pybench.harness.gate.verdicts import Accepted
    from pybench.harness.model import Run, Sample, Scenario
    from pybench.harness.runner.execution import Tell
    from pybench.harness.runner.progress import Listener

PASS, REGRESSION, BAD_INPUT, NO_HOST, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 4, 130
WORST_LAST: Final = (PASS, INCONCLUSIVE, NO_HOST, BAD_INPUT, REGRESSION, INTERRUPTED)
"""What is known to have become worse must not hide behind what could not be told."""
_CODES: Final = {"pass": PASS, "regression": REGRESSION, "inconclusive": INCONCLUSIVE}
_KIND: Final = Kind(
    "nightly job", "`docs/nightly/nightly.yaml` is a complete one, and `pybench init` writes one"
)
FileName = Annotated[str, Field(min_length=1, max_length=4096)]


class GateOptions(LanguageModel):
    """How runs are held against their baselines; as the options of `pybench gate`."""

    baseline: Annotated[str, Field(min_length=1, max_length=255)] = USUAL_BASELINE
    """A tag, a branch or a run."""
    limits: FileName | None = None
    """A file of limits; otherwise those of the scenario, or the usual ones."""
    metrics: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    """Patterns; without any, everything but phases is gated."""
    gather: Duration | None = None
    """Measure more, for so long, while it cannot be told."""
    allow_mismatch: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    """Fields in which environments may differ."""
    waivers: FileName | None = None
    """Leaks that are accepted; otherwise those of `audit-waivers.yaml` beside the night's file, if any."""


class EntryModel(LanguageModel):
    """One scenario of a night."""

    scenario: FileName
    """A file, or the name of a shipped one."""
    targets: Annotated[list[Label], Field(min_length=1)] | None = None
    """Only these of its targets."""
    repeat: Repetitions | None = None
    """Repetitions of every target."""
    set: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    """`key=value` texts, as of `pybench run --set`."""
    gate: GateOptions | None = None
    """Otherwise that of the night."""


class Outputs(LanguageModel):
    """Files and folders to write, each only if it is named."""

    junit: FileName | None = None
    """JUnit XML: a suite per scenario, a case per cell."""
    markdown: FileName | None = None
    """A summary for a job's page; added to the file if it is there."""
    openmetrics: FileName | None = None
    """For the textfile collector of node_exporter; ends in .prom."""
    site: FileName | None = None
    """The web site of all runs."""


class NightModel(LanguageModel):
    """A whole file; paths in it are relative to its folder."""

    scenarios: Annotated[list[EntryModel], Field(min_length=1, max_length=100)]
    gate: GateOptions = GateOptions()
    self_test: bool = False
    """Whether the gate must first show, on a pretended target, that it works."""
    results: FileName = "results"
    """The results folder."""
    outputs: Outputs = Outputs()


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario, ready to be measured."""

    scenario: Scenario
    command: str
    options: GateOptions
    limits: Limits


@dataclass(frozen=True, slots=True)
class Night:
    """A validated file."""

    folder: Path
    model: NightModel
    entries: tuple[Entry, ...]

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder / self.model.results


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one scenario."""

    scenario: str
    code: int
    run: Run | None = None
    samples: Sequence[Sample] = ()
    judgement: Judgement | None = None
    """None without a baseline, or where nothing could be judged."""
    said: str = ""
    """Why there is no judgement."""


def failed_result(name: str, error: PybenchError) -> Result:
    """Of a part of the night that could not be carried out."""
    said = f"{error.message}; {error.hint}" if error.hint else error.message
    return Result(name, error.exit_code, said=said)


def read_night(path: Path) -> Night:
    """Read a file, and every scenario and file of limits that it names, before anything is measured.

    Raises:
        InputError: something of it cannot be read or makes no sense; the place is named.
    """
    document = read_document(path, _KIND)
    model = validate(document, NightModel, document.data)
    entries = []
    for index, entry in enumerate(model.scenarios):
        file = scenarios.resolve(entry.scenario)
        if file == Path(entry.scenario):
            file = path.parent / file
        try:
            choices = Choices(entry.targets, entry.repeat, None, tuple(entry.set))
            scenario = load_scenario(file, choices)
            options = entry.gate or model.gate
            limits = _limits(path.parent, options, scenario)
        except InputError as error:
            raise document.error(("scenarios", index), error.message, hint=error.hint) from error
        entries.append(Entry(scenario, _command(file, entry), options, limits))
    return Night(path.parent, model, tuple(entries))


class Carrier:
    """Carries a night out.

    Args:
        night: what is to be measured.
        store: a database URL or file, or nothing for the file in the results folder.
        tell: is told what happens.
        progress: makes the listener of a run.
    """

    def __init__(
        self,
        night: Night,
        store: str,
        tell: Tell,
        progress: Callable[[], AbstractContextManager[Listener]],
    ) -> None:
        self._night = night
        self._place: Path | str = store or night.results / DATABASE
        self._tell = tell
        self._progress = progress

    def results(self) -> Iterator[Result]:
        """The result of each scenario in turn; one that cannot be run does not keep the others from it."""
        self._night.results.mkdir(parents=True, exist_ok=True)
        for entry in self._night.entries:
            self._tell(f"{entry.scenario.name}: {entry.command}")
            try:
                result = self._measured(entry)
            except PybenchError as error:
                result = failed_result(entry.scenario.name, error)
            yield result
            if result.code == INTERRUPTED:
                return

    def _measured(self, entry: Entry) -> Result:
        scenario, results = entry.scenario, self._night.results
        check_host(scenario)
        accepted = self._accepted(entry)
        with (
            host_for_itself(scenario, wait=True, tell=self._tell),
            open_recorder(self._place, results, self._tell) as recorder,
            self._progress() as listener,
        ):
            # What is in no repository has one line of nights.
            fields = revision(project_of(scenario.source)) or {BRANCH: USUAL_BASELINE}
            prepared = prepare(scenario, entry.command, fields, self._tell)
            status = prepared.carry_out(recorder, results, listener).status
        with Store.open(self._place, create=False) as record:
            run = record.run(prepared.run.id)
            samples = record.samples(run.id)
            if status == "interrupted":
                return Result(scenario.name, INTERRUPTED, run, samples, said="interrupted")
            return self._judged(entry, record, (run, samples), accepted)

    def _accepted(self, entry: Entry) -> tuple[Accepted, ...]:
        """Leaks that a scenario with verdicts may have.

        Raises:
            InputError: the file of waivers makes no sense, or one of them has expired.
        """
        named, folder = entry.options.waivers, self._night.folder
        if not any(each.name == "isolation" for each in entry.scenario.measurements):
            return ()
        from pybench.harness.audit.waivers import usual_waivers  # noqa: PLC0415 - only for audits

        waivers = usual_waivers(folder, folder / named if named else None, datetime.now(UTC).date())
        return tuple(each.accepted for each in waivers)

    def _judged(
        self,
        entry: Entry,
        record: Store,
        measured: tuple[Run, Sequence[Sample]],
        accepted: tuple[Accepted, ...],
    ) -> Result:
        run, samples = measured
        options, name = entry.options, entry.scenario.name
        if said := awaited(record, options.baseline, run):
            return Result(name, PASS, run, samples, said=said)
        baseline = baseline_run(record, options.baseline, run)
        judgement = hold_against(
            Recorded.of(record, baseline),
            Recorded(run, samples, pace_in(record, run.id)),
            GateSettings(limits=entry.limits, metrics=tuple(options.metrics), accepted=accepted),
            allowed=options.allow_mismatch,
            record=record,
            name=options.baseline,
            gathering=self._gathering(entry, record, run),
        )
        return Result(name, _CODES[judgement.outcome], run, samples, judgement)

    def _gathering(self, entry: Entry, record: Store, run: Run) -> Gathering | None:
        if not entry.options.gather:
            return None
        return Gathering(
            record,
            run,
            lambda: entry.scenario,
            results=self._night.results,
            budget=entry.options.gather,
            tell=self._tell,
            progress=self._progress,
        )


def worst(codes: Sequence[int]) -> int:
    """The one that a night exits with."""
    return max(codes, key=WORST_LAST.index, default=PASS)


def _limits(folder: Path, options: GateOptions, scenario: Scenario) -> Limits:
    if options.limits is not None:
        return read_limits(folder / options.limits)
    return scenario_limits(scenario.source, scenario.definition) or Limits()


def _command(file: Path, entry: EntryModel) -> str:
    """The command line that measures the same."""
    words = ["pybench", "run", str(file)]
    words += ["--targets", ",".join(entry.targets)] if entry.targets else []
    words += ["--repeat", str(entry.repeat)] if entry.repeat else []
    return shlex.join([*words, *(word for setting in entry.set for word in ("--set", setting))])
