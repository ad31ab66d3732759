"""`pybench ab`: two sides in alternation in one run, judged as the gate judges."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pybench.harness.cli.limit_options import (
    AbsoluteOption,
    LimitOptions,
    LimitsOption,
    MetricOption,
    RelativeOption,
    WaiversOption,
    gate_settings,
    with_waivers,
)
from pybench.harness.cli.output import Format, FormatOption, complain, flat, note, print_data
from pybench.harness.cli.record import StoreOption
from pybench.harness.cli.run import (
    INTERRUPTED,
    Destination,
    check_destination,
    command_words,
    default_results,
    written,
)
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybench.harness.ab.sides import Side
    from pybench.harness.model import Run, RunStatus, Sample, Scenario
    from pybench.harness.scenario import Choices
    from pybench.harness.store import Recorder

EXIT_CODES: Final = {"pass": 0, "regression": 1, "inconclusive": 4}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    path: Path
    """The scenario's."""
    folder: Path
    """In the project that is measured."""
    sides: tuple[Side, Side]
    choices: Choices
    command: str
    limits: LimitOptions
    waivers: Path | None
    wait: bool


@app.command(
    epilog="Examples: pybench ab --a main --b HEAD scenarios/startup.yaml · "
    "pybench ab --b targets.container.profile=strict startup"
)
def ab(
    scenario: ScenarioArgument,
    a: Annotated[
        list[str] | None,
        typer.Option("--a", metavar="REV|KEY=VALUE", help="What is compared with: a revision or settings."),
    ] = None,
    b: Annotated[
        list[str] | None,
        typer.Option("--b", metavar="REV|KEY=VALUE", help="What may be worse: another revision or settings."),
    ] = None,
    targets: TargetsOption = None,
    repeat: RepeatOption = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    metric: MetricOption = None,
    relative: RelativeOption = "",
    absolute: AbsoluteOption = "",
    limits: LimitsOption = None,
    waivers: WaiversOption = None,
    wait: WaitOption = False,
    store: StoreOption = "",
    results: KeptOption = None,
    no_report: NoReportOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Measure two sides in alternation within one run; exit 1 if b is worse than a, 4 if that cannot be told.

    A side is a git revision, or settings such as image=debian, kernel=tiny, kernel=/boot/vmlinuz-6.12, or any
    key as of `pybench run --set`. Without --a, a is the scenario as it is. All other options hold for both.
    """
    from pybench import scenarios  # noqa: PLC0415 - keeps `pybench ab --help` quick
    from pybench.harness.ab.sides import check_sides, side  # noqa: PLC0415
    from pybench.harness.runner.execution import open_recorder  # noqa: PLC0415
    from pybench.harness.scenario import Choices  # noqa: PLC0415

    one, other = side("a", a or ()), side("b", b or ())
    check_sides(one, other)
    labels = labels_of(targets)
    words = [
        *(
            word
            for option, texts in (("--a", a), ("--b", b))
            for text in texts or ()
            for word in (option, text)
        ),
        *command_words(labels, repeat, seed, set_),
    ]
    path = scenarios.resolve(scenario)
    request = Request(
        path,
        Path.cwd() if path != Path(scenario) else path.absolute().parent,
        (one, other),
        Choices(labels, repeat, seed, tuple(set_ or ())),
        shlex.join(["pybench", "ab", scenario, *words]),
        LimitOptions(tuple(metric or ()), relative, absolute, limits),
        waivers,
        wait,
    )
    destination = Destination(results or default_results(scenario, path), None, not no_report, store)
    check_destination(destination)
    # Told before anything is measured.
    with_waivers(gate_settings(request.limits, "", ""), waivers, ())
    measure = _measure_revisions if one.revision else _measure_settings
    with open_recorder(destination.record, destination.results, complain) as recorder:
        run, status = measure(request, recorder, destination.results)
        lines, document, code = _judged(request, run, recorder.samples(run.id))
        files = written(recorder, run.id, destination)
    print_data(
        format_,
        document=document,
        records=map(flat, document["cells"]),
        lines=lambda: [*lines, "", *files],
    )
    if status == "interrupted":
        complain("interrupted; what was measured is kept")
    raise typer.Exit(INTERRUPTED if status == "interrupted" else code)


def _measure_settings(request: Request, store: Recorder, results: Path) -> tuple[Run, RunStatus]:
    """Both sides by this pybench, launch by launch."""
    from pybench.harness.ab.kernels import Variants  # noqa: PLC0415 - keeps `pybench ab --help` quick
    from pybench.harness.ab.sides import interleaved, with_comments, with_images  # noqa: PLC0415
    from pybench.harness.cli.show_progress import progress_listener  # noqa: PLC0415
    from pybench.harness.revision import commit_of  # noqa: PLC0415
    from pybench.harness.runner.execution import host_for_itself, prepare  # noqa: PLC0415
    from pybench.harness.runner.preflight import check_host  # noqa: PLC0415
    from pybench.harness.scenario.merge import read_documents  # noqa: PLC0415

    variants, loaded = Variants(), []
    for each in request.sides:
        scenario = _loaded(request, request.path, each)
        names = {work.image: each.image or work.image for work in scenario.workloads}
        if each.kernel:
            names = {image: variants.add(name, each.kernel) for image, name in names.items()}
        loaded.append(with_images(scenario, names))
    definition = with_comments(request.sides, read_documents(request.path, request.choices.settings)[1])
    scenario = interleaved(loaded[0], loaded[1], request.sides, definition)
    check_host(scenario)
    with (
        host_for_itself(scenario, wait=request.wait, tell=note),
        variants.recipes(),
        progress_listener() as listener,
    ):
        fields = {**_fields(request), **commit_of(scenario)}
        prepared = prepare(scenario, request.command, fields, note)
        outcome = prepared.carry_out(store, results, listener)
    return prepared.run, outcome.status


def _measure_revisions(request: Request, store: Recorder, results: Path) -> tuple[Run, RunStatus]:  # noqa: ARG001 - as of settings
    """Each side by its own program, or of its own state of the project, block by block."""
    from pybench.harness.ab.blocks import carry_out  # noqa: PLC0415 - keeps `pybench ab --help` quick
    from pybench.harness.ab.revisions import checkouts, repository_of  # noqa: PLC0415
    from pybench.harness.ab.sides import run_name, with_comments  # noqa: PLC0415
    from pybench.harness.environment import capture  # noqa: PLC0415
    from pybench.harness.model import Environment  # noqa: PLC0415
    from pybench.harness.runner.execution import host_for_itself, new_run  # noqa: PLC0415

    repository = repository_of(request.folder)
    with checkouts(repository, request.sides, request.path, note) as found:
        sides = [(each, _loaded(request, each.scenario, each.side)) for each in found]
        scenario = sides[0][1]
        kinds = [target.kind for _, loaded in sides for target in loaded.targets]
        commits = {f"ab.{each.side.label}.commit": each.commit for each in found}
        described = replace(
            scenario,
            name=run_name(scenario.name),
            source=str(request.path),
            definition=with_comments(request.sides, scenario.definition),
        )
        with host_for_itself(scenario, wait=request.wait, tell=note):
            environment = Environment({**capture(kinds, {}).fields, **_fields(request), **commits})
            run = new_run(described, request.command, environment)
            return run, carry_out(sides, request.choices.settings, store, run, note)


def _loaded(request: Request, path: Path, side: Side) -> Scenario:
    from pybench.harness.scenario import load_scenario  # noqa: PLC0415 - keeps `pybench ab --help` quick

    settings = (*request.choices.settings, *side.settings)
    return load_scenario(path, replace(request.choices, settings=settings))


def _fields(request: Request) -> dict[str, str]:
    """What the environment tells of the sides."""
    return {f"ab.{each.label}": str(each) for each in request.sides}


def _judged(
    request: Request, run: Run, samples: Sequence[Sample]
) -> tuple[list[str], Mapping[str, Any], int]:
    """Lines, the document, and the exit code."""
    from pybench.harness.ab.sides import of_side  # noqa: PLC0415 - keeps `pybench ab --help` quick
    from pybench.harness.cli.show_comparison import comparison_lines  # noqa: PLC0415
    from pybench.harness.cli.show_gate import result_lines  # noqa: PLC0415
    from pybench.harness.comparability import mismatched_qualifiers  # noqa: PLC0415
    from pybench.harness.comparison.runs import compare  # noqa: PLC0415
    from pybench.harness.export.gate import gate_document  # noqa: PLC0415
    from pybench.harness.gate.check import Measured, gate  # noqa: PLC0415
    from pybench.reports.numbers import one_line  # noqa: PLC0415

    settings = gate_settings(request.limits, run.source, run.definition)
    settings = with_waivers(settings, request.waivers, samples)
    before, after = of_side(samples, "a"), of_side(samples, "b")
    names = [f"{each.label} ({each})" for each in request.sides]
    result = gate(Measured(names[0], before), Measured(names[1], after), settings)
    unlike = mismatched_qualifiers(before, after)
    lines = [f"a: {request.sides[0]}", f"b: {request.sides[1]}"]
    # On one host, in one run, this follows from what the sides say; but it must not go unsaid.
    lines += [f"not alike: {one_line(str(each), 200)}" for each in unlike]
    lines += ["", *comparison_lines(compare(before, after, settings.limits), with_phases=False)]
    lines += ["", *result_lines(replace(result, attributions=()), *names)]
    document = gate_document(result, *names)
    document["run"] = run.id
    document["mismatches"] = [
        {"field": each.field, "baseline": each.baseline, "candidate": each.candidate} for each in unlike
    ]
    return lines, document, EXIT_CODES[result.outcome]
