"""`pybench gate`: whether a run is worse than its baseline; calibration; the proof that it works."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pybench.harness.cli.limit_options import (
    AbsoluteOption,
    LimitOptions,
    LimitsOption,
    MetricOption,
    RelativeOption,
    gate_settings,
)
from pybench.harness.cli.record import ResultsOption, StoreOption
from pybench.harness.cli.sides import Sides, sides
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybench.harness.gate import GateSettings, Measured, Series
    from pybench.harness.model import Run

PASS, REGRESSION, INCONCLUSIVE = 0, 1, 4
_MOST_RUNS: Final = 50
"""Runs that a calibration takes: every two of them are compared."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    candidate: str
    baseline: str
    allowed: frozenset[str]
    limits: LimitOptions


@app.command(epilog="Example: pybench gate --baseline main")
def gate(
    candidate: Annotated[str, typer.Argument(help="The run to check, or an exported file.")] = "latest",
    baseline: Annotated[str, typer.Option("--baseline", help="A run, tag or branch, or a file.")] = "main",
    metric: MetricOption = None,
    relative: RelativeOption = "",
    absolute: AbsoluteOption = "",
    limits: LimitsOption = None,
    allow_mismatch: Annotated[
        list[str] | None,
        typer.Option("--allow-mismatch", metavar="FIELD", help="Compare though this differs; repeatable."),
    ] = None,
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
    format_: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.TEXT,
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
    )
    if self_test:
        from pybench.harness.cli.self_test import run_self_test  # noqa: PLC0415 - loads the runner

        raise typer.Exit(run_self_test(scenario, targets, repetitions, as_json=format_ is Format.JSON))
    with sides(store, results) as found:
        if calibrate:
            raise typer.Exit(_calibrate(found, request, nights, write, as_json=format_ is Format.JSON))
        raise typer.Exit(_gate(found, request, as_json=format_ is Format.JSON))


def _gate(found: Sides, request: Request, *, as_json: bool) -> int:
    from pybench.harness.baselines import baseline_run, refused  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.cli.show_gate import refusal_lines, result_lines  # noqa: PLC0415
    from pybench.harness.comparability import mismatched_qualifiers  # noqa: PLC0415
    from pybench.harness.environment import mismatches  # noqa: PLC0415
    from pybench.harness.export.archive import is_archive  # noqa: PLC0415
    from pybench.harness.export.gate import gate_document, refusal_document  # noqa: PLC0415
    from pybench.harness.gate import Measured, gate  # noqa: PLC0415

    candidate, samples = found.load(request.candidate)
    if is_archive(request.baseline.rpartition(":")[0] or request.baseline):
        baseline, before = found.load(request.baseline)
    else:
        baseline = baseline_run(found.record, request.baseline, candidate)
        before = found.record.samples(baseline.id)
    differences = [
        *mismatches(baseline.environment, candidate.environment),
        *mismatched_qualifiers(before, samples),
    ]
    if forbidding := refused(differences, request.allowed):
        lines = refusal_lines(baseline.id, candidate.id, forbidding)
        _print(lines, refusal_document(baseline.id, candidate.id, forbidding), as_json=as_json)
        return INCONCLUSIVE
    settings = gate_settings(request.limits, candidate.source, candidate.definition)
    measured = Measured(candidate.id, samples)
    older, level = _history(found, request, (baseline, candidate), measured, settings)
    result = gate(Measured(baseline.id, before), measured, settings, older=older, series=level)
    document = gate_document(result, baseline.id, candidate.id)
    _print(result_lines(result, baseline.id, candidate.id), document, as_json=as_json)
    return {"pass": PASS, "regression": REGRESSION, "inconclusive": INCONCLUSIVE}[result.outcome]


def _history(
    found: Sides, request: Request, runs: tuple[Run, Run], candidate: Measured, settings: GateSettings
) -> tuple[Measured | None, Series]:
    """The older baseline and the medians of the runs before, where there is a record of them."""
    from pybench.harness.baselines import older_baseline, series  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.gate import Measured  # noqa: PLC0415

    if not found.opened:
        return None, {}
    old = older_baseline(found.record, request.baseline, *runs, request.allowed)
    metrics = {sample.metric for sample in candidate.samples if settings.gates(sample.metric)}
    level = series(found.record, runs[1], candidate.samples, metrics, request.allowed)
    return (Measured(old.id, found.record.samples(old.id)) if old else None), level


def _calibrate(found: Sides, request: Request, nights: int, write: Path | None, *, as_json: bool) -> int:
    """Learn from the newest finished runs that are like the candidate."""
    from pybench.harness.baselines import refused  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.cli.show_gate import calibration_lines  # noqa: PLC0415
    from pybench.harness.environment import mismatches  # noqa: PLC0415
    from pybench.harness.export.gate import calibration_document, limits_text  # noqa: PLC0415
    from pybench.harness.gate import Measured  # noqa: PLC0415
    from pybench.harness.gate_calibration import FEWEST_RUNS, calibrate  # noqa: PLC0415
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
    runs = [Measured(run.id, record.samples(run.id)) for run in like]
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
    _print(calibration_lines(result, write), calibration_document(result), as_json=as_json)
    return PASS


def _print(lines: Sequence[str], document: Mapping[str, Any], *, as_json: bool) -> None:
    for line in [json.dumps(document, indent=1, allow_nan=False)] if as_json else lines:
        typer.echo(line)
