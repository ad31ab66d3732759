"""`pybench gate`: whether a run is worse than its baseline; calibration; the proof that it works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pybench.harness.cli import completers
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
from pybench.harness.cli.output import Format, FormatOption, flat, note, print_data
from pybench.harness.cli.record import ResultsOption, StoreOption
from pybench.harness.cli.sides import Sides, sides
from pybench.harness.cli.suggestions import check_metrics
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.gate.gathering import Gathering
    from pybench.harness.model import Run

PASS, REGRESSION, INCONCLUSIVE = 0, 1, 4
_MOST_RUNS: Final = 50
"""Runs that a calibration takes: every two of them are compared."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    candidate: str
    baseline: str
    allowed: frozenset[str]
    limits: LimitOptions
    gather: str
    waivers: Path | None


@app.command(epilog="Example: pybench gate --baseline main")
def gate(
    candidate: Annotated[
        str, typer.Argument(help="The run to check, or an exported file.", autocompletion=completers.runs)
    ] = "latest",
    baseline: Annotated[
        str,
        typer.Option("--baseline", help="A run, tag or branch, or a file.", autocompletion=completers.runs),
    ] = "main",
    metric: MetricOption = None,
    relative: RelativeOption = "",
    absolute: AbsoluteOption = "",
    limits: LimitsOption = None,
    allow_mismatch: Annotated[
        list[str] | None,
        typer.Option("--allow-mismatch", metavar="FIELD", help="Compare though this differs; repeatable."),
    ] = None,
    gather: Annotated[
        str,
        typer.Option("--gather", metavar="TIME", help="Measure more, for so long, while it cannot be told."),
    ] = "",
    waivers: WaiversOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Learn limits from the runs of the candidate's scenario.")
    ] = False,
    nights: Annotated[
        int, typer.Option("--nights", min=1, max=10_000, help="Nights that --calibrate plays at most.")
    ] = 200,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Where --calibrate writes its limits.")
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Inject known regressions and tell which are detected.")
    ] = False,
    scenario: Annotated[
        str, typer.Option("--scenario", help="With --self-test: measure this scenario, not a pretended one.")
    ] = "",
    targets: Annotated[
        str, typer.Option("--targets", metavar="A,B", help="With --scenario: only these of its targets.")
    ] = "",
    repetitions: Annotated[
        int, typer.Option("--repetitions", min=1, max=100_000, help="Launches of each in the self-test.")
    ] = 60,
    store: StoreOption = "",
    results: ResultsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Exit 1 if a run is worse than its baseline, 4 if that cannot be told, 0 if it is not.

    A change counts only if it is statistically supported, larger than the relative limit and larger than the
    absolute one. Runs of unlike environments are refused with exit code 4.
    """
    request = Request(
        candidate=candidate,
        baseline=baseline,
        allowed=frozenset(allow_mismatch or ()),
        limits=LimitOptions(tuple(metric or ()), relative, absolute, limits),
        gather=gather,
        waivers=waivers,
    )
    if self_test:
        from pybench.harness.cli.self_test import run_self_test  # noqa: PLC0415 - loads the runner

        raise typer.Exit(run_self_test(scenario, targets, repetitions, format_))
    with sides(store, results) as found:
        if calibrate:
            raise typer.Exit(_calibrate(found, request, nights, write, format_))
        raise typer.Exit(_gate(found, request, format_))


def _gate(found: Sides, request: Request, format_: Format) -> int:
    from pybench.harness.cli.show_gate import judgement_lines  # noqa: PLC0415
    from pybench.harness.comparison.pace import Pace  # noqa: PLC0415
    from pybench.harness.conditions import paces  # noqa: PLC0415
    from pybench.harness.export.archive import is_archive  # noqa: PLC0415
    from pybench.harness.export.gate import judgement_document  # noqa: PLC0415
    from pybench.harness.gate.baselines import baseline_run  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate.gathering import GATHERED_FOR  # noqa: PLC0415
    from pybench.harness.gate.judgement import Recorded, hold_against  # noqa: PLC0415

    def recorded(name: str) -> Recorded:
        whole = found.load_whole(name)
        return Recorded(whole.run, whole.samples, Pace.of(paces(whole.conditions)))

    candidate = recorded(request.candidate)
    if GATHERED_FOR in candidate.run.environment.fields:
        # The newest run may be one that was gathered for another.
        candidate = recorded(candidate.run.environment.fields[GATHERED_FOR])
    if is_archive(request.baseline.rpartition(":")[0] or request.baseline):
        baseline = recorded(request.baseline)
    else:
        baseline = Recorded.of(found.record, baseline_run(found.record, request.baseline, candidate.run))
    everything = (*baseline.samples, *candidate.samples)
    check_metrics(request.limits.metrics, (sample.metric for sample in everything))
    settings = gate_settings(request.limits, candidate.run.source, candidate.run.definition)
    judgement = hold_against(
        baseline,
        candidate,
        with_waivers(settings, request.waivers, candidate.samples),
        allowed=request.allowed,
        record=found.record if found.opened else None,
        name=request.baseline,
        gathering=_gathering(found, candidate.run, request.gather) if request.gather else None,
    )
    document = judgement_document(judgement)
    print_data(
        format_,
        document=document,
        records=map(flat, document["cells"]),
        lines=lambda: judgement_lines(judgement),
    )
    return {"pass": PASS, "regression": REGRESSION, "inconclusive": INCONCLUSIVE}[judgement.outcome]


def _gathering(found: Sides, candidate: Run, budget: str) -> Gathering:
    """More runs of the candidate's scenario, on this host, as its command line says."""
    from pybench.harness.cli.record import results_folder  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.cli.run import scenario_again  # noqa: PLC0415
    from pybench.harness.cli.show_progress import progress_listener  # noqa: PLC0415
    from pybench.harness.gate.gathering import Gathering  # noqa: PLC0415
    from pybench.harness.units import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(budget)
    except ValueError as error:
        raise InputError(f"--gather {budget}: {error}", "e.g. --gather 5min") from error
    return Gathering(
        found.record,
        candidate,
        lambda: scenario_again(candidate.command),
        results=results_folder(found.results),
        budget=seconds,
        tell=note,
        progress=progress_listener,
    )


def _calibrate(found: Sides, request: Request, nights: int, write: Path | None, format_: Format) -> int:
    """Learn from the newest finished runs that are like the candidate."""
    from pybench.harness.cli.show_gate import calibration_lines  # noqa: PLC0415
    from pybench.harness.environment import mismatches  # noqa: PLC0415
    from pybench.harness.export.gate import calibration_document, limits_text  # noqa: PLC0415
    from pybench.harness.gate.baselines import refused  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate.calibration import FEWEST_RUNS, calibrate  # noqa: PLC0415
    from pybench.harness.gate.judgement import Recorded  # noqa: PLC0415
    from pybench.harness.store import BRANCH, RunFilter  # noqa: PLC0415

    record = found.record
    candidate = record.run(request.candidate)
    branch = candidate.environment.fields.get(BRANCH, "")
    like = [
        run
        for run in record.runs(RunFilter(scenario=candidate.scenario, branch=branch))
        if run.status == "done"
        and not refused(mismatches(run.environment, candidate.environment), request.allowed)
    ][-_MOST_RUNS:]
    if len(like) < FEWEST_RUNS:
        raise InputError(
            f"{record.place}: there are {len(like)} finished runs like {candidate.id}",
            f"a calibration needs {FEWEST_RUNS}; `pybench run` makes more",
        )
    runs = [Recorded.of(record, run).measured for run in like]
    try:
        result = calibrate(
            runs, gate_settings(request.limits, candidate.source, candidate.definition), nights
        )
    except ValueError as error:
        raise InputError(f"{record.place}: {error}", "choose other metrics with --metric") from error
    if write is not None:
        try:
            write.write_text(limits_text(result), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{write}: cannot write the limits: {error.strerror}") from error
    document = calibration_document(result)
    print_data(
        format_,
        document=document,
        records=map(flat, document["cells"]),
        lines=lambda: calibration_lines(result, write),
    )
    return PASS
