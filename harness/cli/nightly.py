"""`pybench nightly`: scenarios measured, gated and reported, with one exit code for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli.output import Format, FormatOption, note, print_data
from pybench.harness.cli.record import StoreOption
from pybench.harness.errors import InputError, PybenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybench.harness.gate.standing import Standing
    from pybench.harness.model import Run, Sample
    from pybench.harness.nightly import Night, Result

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench nightly nightly.yaml")
def nightly(
    file: Annotated[Path, typer.Argument(help="What to measure and to write; see docs/nightly/.")],
    store: StoreOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Measure a list of scenarios, hold each against its baseline, and exit with the worst code.

    1 a regression, 2 bad input, 3 this host cannot run one, 4 it cannot be told, 0 nothing became worse.
    """
    from pybench.harness.cli.show_nightly import document, result_lines, word  # noqa: PLC0415
    from pybench.harness.cli.show_progress import progress_listener  # noqa: PLC0415
    from pybench.harness.nightly import Carrier, failed_result, read_night, worst  # noqa: PLC0415

    night = read_night(file)
    _check_outputs(night)
    results: list[Result] = [_self_test()] if night.model.self_test else []
    for result in Carrier(night, store, note, progress_listener).results():
        results.append(result)
        for line in result_lines(result):
            note(line)
    site = ""
    if night.model.outputs.site:
        try:
            site = _site(night, store, night.folder / night.model.outputs.site)
        except PybenchError as error:
            # A record that has gone away takes the site with it, and not what the gates have found.
            results.append(failed_result("site", error))
            note("\n".join(result_lines(results[-1])))
    code = worst([result.code for result in results])
    paths = [*_written(night, results, code), *([f"site         {site}"] if site else [])]
    told = document(results, code)
    records = [{name: each[name] for name in each if name != "judgement"} for each in told["scenarios"]]
    summary = f"nightly: {', '.join(f'{each.scenario} {word(each)}' for each in results)}"
    print_data(format_, document=told, records=records, lines=lambda: [*paths, summary])
    raise typer.Exit(code)


def _self_test() -> Result:
    """The proof that the gate works, as the first result of the night."""
    from pybench.harness.cli.self_test import pretended_trials, trial_lines  # noqa: PLC0415 - loads the runner
    from pybench.harness.nightly import PASS, REGRESSION, Result  # noqa: PLC0415

    trials = pretended_trials()
    for line in trial_lines(trials):
        note(line)
    missed = [trial.injection.name for trial in trials if not trial.passed]
    said = f"the gate does not work: {', '.join(missed)}" if missed else "every injected regression was found"
    return Result("gate self-test", REGRESSION if missed else PASS, said=said)


def _written(night: Night, results: Sequence[Result], code: int) -> list[str]:
    """Write the files that are wanted; returns where they are."""
    from pybench.harness.cli.show_nightly import junit, markdown, openmetrics  # noqa: PLC0415

    outputs, told = night.model.outputs, []
    if outputs.junit:
        told.append(f"junit        {_write(night.folder / outputs.junit, junit(results))}")
    if outputs.markdown:
        path = night.folder / outputs.markdown
        # A job's page collects the summaries of all its steps in one file.
        before = path.read_bytes() if path.is_file() else b""
        told.append(f"markdown     {_write(path, before + markdown(results, code).encode())}")
    if outputs.openmetrics:
        told.append(f"openmetrics  {_write(night.folder / outputs.openmetrics, openmetrics(results, code))}")
    return told


def _site(night: Night, store: str, folder: Path) -> str:
    from pybench.harness.cli.probe_titles import titles_for  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.cli.record import open_record  # noqa: PLC0415
    from pybench.harness.gate.past import standing  # noqa: PLC0415
    from pybench.reports.site import build_site  # noqa: PLC0415

    baseline = night.model.gate.baseline

    def judge(run: Run, samples: Sequence[Sample]) -> Standing:
        try:
            return standing(record, run, samples, baseline)
        except PybenchError:
            return standing(record, run, samples)

    with open_record(store, night.results) as record:
        return str(build_site(folder, record, judge, titles_for).index)


def _check_outputs(night: Night) -> None:
    """Fail before anything is measured rather than after.

    Raises:
        InputError: a file could not be written, or the site's folder holds something else.
    """
    from pybench.harness.export.json import check_writable  # noqa: PLC0415 - keeps `--help` quick
    from pybench.reports.site_state import read_state  # noqa: PLC0415

    outputs = night.model.outputs
    for name in (outputs.junit, outputs.markdown, outputs.openmetrics):
        if name is not None:
            check_writable(night.folder / name)
    if outputs.site is not None:
        read_state(night.folder / outputs.site)


def _write(path: Path, content: bytes) -> Path:
    """Write a file so that whoever reads it meanwhile sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot write: {error.strerror}") from error
    return path
