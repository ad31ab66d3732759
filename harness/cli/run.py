"""`pybench run`: carry out a scenario, store every sample, and tell what came out."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pybench.harness.claims import Judged, Verdict, judge
from pybench.harness.cli.output import Format, FormatOption, complain, console, note, print_data
from pybench.harness.cli.record import StoreOption
from pybench.harness.cli.scenario_options import (
    KeptOption,
    NoReportOption,
    RepeatOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    TargetsOption,
    WaitOption,
    labels_of,
)
from pybench.harness.errors import HostError, InputError, PybenchError
from pybench.harness.results import DATABASE, results_beside

if TYPE_CHECKING:
    from pybench.harness.gate.standing import Standing
    from pybench.harness.model import Combination, Run, Sample, Scenario
    from pybench.harness.runner.runner import Outcome
    from pybench.harness.store import SpooledStore, Store

REPORT: Final = "report.html"
FAILED: Final = 1
INCONCLUSIVE: Final = 4
INTERRUPTED: Final = 130
_ACCELERATIONS: Final = ("auto", "kvm", "tcg")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the results of a run go."""

    results: Path
    json: Path | None
    report: bool
    store: str
    """A database URL, or nothing for the file in the results folder."""
    format: Format = Format.TEXT
    """How the summary is printed."""

    @property
    def record(self) -> Path | str:
        """Where the record is."""
        return self.store or self.results / DATABASE


@app.command(epilog="Example: pybench run scenarios/startup.yaml --json startup.json")
def run(
    scenario: ScenarioArgument,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write everything as JSON to this file."),
    ] = None,
    results: KeptOption = None,
    targets: TargetsOption = None,
    repeat: RepeatOption = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 5 repetitions and 1 warm-up: to try a scenario out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and how long it will take; launch nothing.")
    ] = False,
    libvirt_uri: Annotated[
        str,
        typer.Option("--libvirt-uri", metavar="URI", help="Run virtual machines on this libvirt connection."),
    ] = "",
    accel: Annotated[
        str,
        typer.Option("--accel", metavar="auto|kvm|tcg", help="How virtual machines run."),
    ] = "",
    wait: WaitOption = False,
    store: StoreOption = "",
    branch: Annotated[
        str, typer.Option("--branch", help="The branch that is measured, where git cannot tell.")
    ] = "",
    no_report: NoReportOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Launch the scenario's workloads on its targets, alternating, and compare what was measured.

    Every sample is stored before the next launch. Ctrl-C keeps what was measured and leaves nothing running.
    """
    from pybench import scenarios  # noqa: PLC0415 - keeps `pybench run --help` quick
    from pybench.harness.runner.execution import host_for_itself  # noqa: PLC0415
    from pybench.harness.runner.preflight import check_host  # noqa: PLC0415
    from pybench.harness.scenario import Choices, load_scenario  # noqa: PLC0415

    path = scenarios.resolve(scenario)
    labels = labels_of(targets)
    chosen = Choices(labels, repeat, seed, tuple(set_ or ()), quick)
    loaded = _with_machines(load_scenario(path, chosen), libvirt_uri, accel)
    destination = Destination(results or default_results(scenario, path), json, not no_report, store, format_)
    if dry_run:
        from pybench.harness.cli.show_plan import show_plan  # noqa: PLC0415
        from pybench.harness.runner.execution import check_images  # noqa: PLC0415

        show_plan(loaded, destination.record, format_)
        try:
            check_host(loaded)
            check_images(loaded)
        except (HostError, InputError) as error:
            # It may have been planned here for another host.
            complain(f"this host cannot run it: {error.message}")
        raise typer.Exit
    check_host(loaded)
    check_destination(destination)
    words = command_words(labels, repeat, seed, set_) + ["--quick"] * quick
    words += _words("--libvirt-uri", libvirt_uri) + _words("--accel", accel)
    command = shlex.join(["pybench", "run", scenario, *words])
    with host_for_itself(loaded, wait=wait, tell=note):
        code = _run(loaded, command, destination, _revision(path, branch))
    raise typer.Exit(code)


def scenario_again(command: str) -> Scenario:
    """What a command line as it stands in the record measured.

    Raises:
        InputError: it is no command line of `pybench run`, or the scenario makes no sense any more.
    """
    from pybench import scenarios  # noqa: PLC0415 - keeps `pybench run --help` quick
    from pybench.harness.scenario import Choices, load_scenario  # noqa: PLC0415

    words = shlex.split(command)
    if words[:2] != ["pybench", "run"]:
        raise InputError(f"{command[:100]}: this is no command line of `pybench run`")
    # Parsed by the verb's own parser, so that no option is read otherwise here than there.
    chosen = typer.main.get_command(app).make_context("run", words[2:]).params
    choices = Choices(
        labels_of(chosen["targets"] or None),
        chosen["repeat"],
        chosen["seed"],
        tuple(chosen["set_"] or ()),
        chosen["quick"],
    )
    loaded = load_scenario(scenarios.resolve(chosen["scenario"]), choices)
    return _with_machines(loaded, chosen["libvirt_uri"], chosen["accel"])


def _revision(path: Path, branch: str) -> Mapping[str, str]:
    """Branch and commit of the project that the scenario belongs to."""
    from pybench.harness.revision import project_of, revision  # noqa: PLC0415 - keeps `pybench run --help` quick

    found = revision(project_of(str(path)))
    return {**found, "source.branch": branch} if branch else found


def _run(scenario: Scenario, command: str, destination: Destination, revision: Mapping[str, str]) -> int:
    # Imported here to keep `pybench run --help` quick.
    from pybench.harness.cli.show_progress import progress_listener  # noqa: PLC0415
    from pybench.harness.runner.execution import open_recorder, prepare  # noqa: PLC0415

    with open_recorder(destination.record, destination.results, complain) as store:
        prepared = prepare(scenario, command, revision, note)
        try:
            with progress_listener() as listener:
                outcome = prepared.carry_out(store, destination.results, listener)
        except PybenchError:
            # What was measured before the fault is as good as ever.
            with contextlib.suppress(PybenchError):
                tell_results(store, prepared.run.id, destination)
            raise
        tell_results(store, prepared.run.id, destination)
        judged = judge(scenario.claims, store.samples(prepared.run.id)) if scenario.claims else ()
    return _exit_code(outcome) or _claims_code(judged)


def tell_results(store: Store | SpooledStore, run_id: str, destination: Destination) -> None:
    """The tables, the files, and last their paths; the paths are no part of data."""
    from pybench.harness.export import json as json_export  # noqa: PLC0415
    from pybench.harness.stats import estimates  # noqa: PLC0415
    from pybench.reports.console import summary  # noqa: PLC0415

    record, samples, conditions = store.run(run_id), store.samples(run_id), store.conditions(run_id)
    if not samples:
        return
    if destination.format is Format.TEXT:
        console().print(summary(record, samples, conditions))
        for line in written(store, run_id, destination):
            typer.echo(line)
        return
    content = json_export.document(record, estimates(samples), samples)
    print_data(destination.format, document=content, records=content["summary"], lines=list)
    for line in written(store, run_id, destination):
        note(line)


def written(store: Store | SpooledStore, run_id: str, destination: Destination) -> list[str]:
    """Write the files that are wanted of a run; where the record is, and where they are."""
    from pybench.harness.export import json as json_export  # noqa: PLC0415
    from pybench.harness.stats import estimates  # noqa: PLC0415

    record, samples, conditions = store.run(run_id), store.samples(run_id), store.conditions(run_id)
    paths = [f"record  {store.place} (run {record.id})"]
    if destination.json is not None:
        json_export.write(destination.json, json_export.document(record, estimates(samples), samples))
        paths.append(f"json    {destination.json}")
    if destination.report:
        from pybench.harness.cli.probe_titles import titles_for  # noqa: PLC0415
        from pybench.reports.html import write_report  # noqa: PLC0415 - slow to import

        report = destination.results / record.id / REPORT
        report.parent.mkdir(exist_ok=True)
        past = _standing(store, record, samples)
        probes = titles_for(samples)
        paths.append(f"report  {write_report(report, record, samples, conditions, past, probes=probes)}")
    return paths


def _standing(store: Store | SpooledStore, run: Run, samples: Sequence[Sample]) -> Standing:
    """How a run stands against its past, as `pybench report` would tell it."""
    from pybench.harness.gate.past import standing  # noqa: PLC0415 - keeps `pybench run --help` quick
    from pybench.harness.gate.standing import NO_PAST  # noqa: PLC0415

    try:
        return standing(store.earlier, run, samples)
    except PybenchError as error:
        # A server that has gone away takes the history with it, and nothing else.
        complain(f"the report has no history: {error.message}")
        return NO_PAST


def _exit_code(outcome: Outcome) -> int:
    if outcome.status == "interrupted":
        complain("interrupted; what was measured is kept")
        return INTERRUPTED
    for name in outcome.failed_targets:
        complain(f"{name}: every launch failed")
    if outcome.status == "failed":
        complain("ended at the first failure, as the scenario says; what was measured is kept")
    return FAILED if outcome.failed_targets or outcome.status == "failed" else 0


def _claims_code(judged: Iterable[Judged]) -> int:
    """1 where a claim is refuted, 4 where one could not be decided."""
    verdicts = {each.verdict for each in judged}
    if Verdict.REFUTED in verdicts:
        return FAILED
    return INCONCLUSIVE if Verdict.UNDECIDED in verdicts else 0


def _with_machines(scenario: Scenario, libvirt_uri: str, accel: str) -> Scenario:
    """With the options of all virtual machines."""
    if accel and accel not in _ACCELERATIONS:
        raise InputError(f"--accel {accel}: no such thing", f"one of {', '.join(_ACCELERATIONS)}")
    return _with_vm_option(_with_vm_option(scenario, "libvirt_uri", libvirt_uri), "accel", accel)


def _with_vm_option(scenario: Scenario, name: str, value: str) -> Scenario:
    """The scenario with one option of all its virtual machines set; an empty value leaves it as it is."""
    from pybench.harness.targets import KINDS  # noqa: PLC0415 - keeps `pybench run --help` quick

    if not value:
        return scenario
    takes = {target.kind for target in scenario.targets if name in KINDS[target.kind].option_names}
    if not takes:
        option = name.replace("_", "-")
        raise InputError(f"--{option} has no use here: no target is a virtual machine", "leave it out")

    def changed(combination: Combination) -> Combination:
        target = combination.target
        if target.kind not in takes:
            return combination
        return replace(combination, target=replace(target, options={**target.options, name: value}))

    return replace(scenario, combinations=tuple(map(changed, scenario.combinations)))


def default_results(argument: str, path: Path) -> Path:
    """Beside the user's own scenario; a shipped one lies where nothing of the user's belongs."""
    return results_beside(path) if path == Path(argument) else Path("results")


def check_destination(destination: Destination) -> None:
    """Fail before anything is launched rather than after.

    Raises:
        InputError: a result could not be written.
    """
    from pybench.harness.export.json import check_writable  # noqa: PLC0415

    try:
        destination.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=destination.results):
            pass
    except OSError as error:
        raise InputError(
            f"{destination.results}: the results folder cannot be written: {error.strerror}",
            "choose another with --results DIR",
        ) from error
    if destination.json is not None:
        check_writable(destination.json)


def command_words(
    labels: Sequence[str] | None, repeat: int | None, seed: int | None, settings: Sequence[str] | None
) -> list[str]:
    """The options of a command line that make the same choices again."""
    words = _words("--targets", ",".join(labels or ())) + _words("--repeat", repeat) + _words("--seed", seed)
    return words + [word for setting in settings or () for word in ("--set", setting)]


def _words(option: str, value: str | int | None) -> list[str]:
    """An option of the command line that does the same again, or nothing."""
    return [] if value in {None, ""} else [option, str(value)]
