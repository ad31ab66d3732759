"""`pybench history`: what the record holds, with trends; tags, notes, pruning, import and delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.columns import columns
from pybench.harness.cli.output import Format, FormatOption, print_data
from pybench.harness.cli.record import ResultsOption, StoreOption, open_or_make_record, open_record
from pybench.harness.errors import InputError
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.model import Note, Run
    from pybench.harness.store import Checked, RunFilter, Store

TREND_METRIC: Final = "startup.ready"
_COMMIT_DIGITS: Final = 9
_MOST_DAMAGE: Final = 10
"""Lines of SQLite's own findings that people are shown."""
_SMALLEST_TREND: Final = 2
_RunArgument = Annotated[
    str,
    typer.Argument(
        help="A run: id, tag, `latest`, branch, or the beginning of an id.", autocompletion=completers.runs
    ),
]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="List runs and their trends; tag, annotate, check, prune, import and deliver them.",
    epilog="Example: pybench history --scenario startup --branch main --since 2026-01-01",
)


def _instant(text: str | None) -> str:
    """A date or an instant of the command line, as the record spells it."""
    from pybench.harness.store import timestamp  # noqa: PLC0415 - keeps `--help` quick

    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is not a date or a time", "write 2026-01-31 or 2026-01-31T22:00:00Z"
        ) from error
    return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    scenario: Annotated[str, typer.Option("--scenario", help="Only runs of this scenario.")] = "",
    host: Annotated[str, typer.Option("--host", help="Only runs on this host.")] = "",
    branch: Annotated[str, typer.Option("--branch", help="Only runs of this branch of the project.")] = "",
    tag: Annotated[str, typer.Option("--tag", help="Only the run that has this tag.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Started at or after this.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="Started before this.")] = "",
    newest: Annotated[int, typer.Option("--newest", min=1, help="At most so many runs.")] = 20,
    metric: Annotated[
        str, typer.Option("--metric", help="The metric of the trends.", autocompletion=completers.metrics)
    ] = TREND_METRIC,
    store: StoreOption = "",
    results: ResultsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List the newest runs, the oldest first, and the trend of one metric's median over them."""
    if context.invoked_subcommand is not None:
        return
    from pybench.harness.store import RunFilter  # noqa: PLC0415 - keeps `--help` quick

    with open_record(store, results) as record:
        wanted = RunFilter(
            scenario=scenario,
            host=host,
            branch=branch,
            tag=tag,
            since=_instant(since),
            until=_instant(until),
            newest=newest,
        )
        if tag:
            record.tags.named(tag)
        runs = record.runs(wanted)
        unknown = [] if runs else _unknown(record, wanted)
        entries = _entries(record, runs)
        drawn = _trends(record, runs, metric)
        if runs and not drawn:
            _check_metric(record, runs, metric)
    print_data(
        format_,
        document={"runs": entries, "trends": drawn},
        records=entries,
        lines=lambda: (
            [*_listing(entries), *_drawing(drawn, metric)] if entries else ["no run is like this", *unknown]
        ),
    )


@app.command(epilog="Example: pybench history tag startup-20260131T220000Z-1a2b main")
def tag(
    run: _RunArgument,
    name: Annotated[str, typer.Argument(help="What to call it; a tag that exists moves to this run.")],
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Give a run a name, by which later runs find their baseline."""
    with open_record(store, results) as record:
        chosen = record.run(run).id
        before = record.tags.current().get(name)
        record.tags.set(name, chosen)
    typer.echo(f"{name} is {chosen}" + (f", before {before}" if before not in {None, chosen} else ""))


@app.command(epilog="Example: pybench history untag main")
def untag(
    name: Annotated[str, typer.Argument(help="The tag.")],
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Take a tag away; the run stays, also as an older baseline."""
    with open_record(store, results) as record:
        record.tags.end(name)
    typer.echo(f"{name} names no run any more")


@app.command(epilog="Example: pybench history note latest 'first run on the new kernel'")
def note(
    run: _RunArgument,
    text: Annotated[str, typer.Argument(help="What to remember about it.")],
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Write a note about a run; the list shows it."""
    with open_record(store, results) as record:
        chosen = record.run(run).id
        record.tags.write_note(chosen, text)
    typer.echo(f"noted about {chosen}")


@app.command(epilog="Example: pybench history prune --keep-last 60 --keep-monthly 24 --yes")
def prune(
    keep_last: Annotated[int, typer.Option("--keep-last", min=0, help="Keep the newest so many.")] = 0,
    keep_days: Annotated[int, typer.Option("--keep-days", min=0, help="Keep those of so many days.")] = 0,
    keep_weekly: Annotated[int, typer.Option("--keep-weekly", min=0, help="One for so many weeks.")] = 0,
    keep_monthly: Annotated[int, typer.Option("--keep-monthly", min=0, help="One for so many months.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only told.")] = False,
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Remove runs that no rule keeps.

    Rules count within one scenario, host and branch.

    Runs that have or had a tag, and those that are going on, are always kept.
    """
    from pybench.harness.history import Policy, runs_to_prune  # noqa: PLC0415 - keeps `--help` quick

    if not (keep_last or keep_days or keep_weekly or keep_monthly):
        raise InputError("nothing says which runs to keep", "give at least one --keep option")
    policy = Policy(keep_last, timedelta(days=keep_days), keep_weekly, keep_monthly)
    with open_record(store, results) as record:
        runs = record.runs()
        doomed = runs_to_prune(runs, policy, record.tags.ever_tagged(), _group, datetime.now(UTC))
        if yes:
            record.remove_runs(run.id for run in doomed)
        for run in doomed:
            typer.echo(f"{'removed' if yes else 'would remove'} {run.id}, started {run.started}")
        if yes and doomed:
            record.compact()
    further = "; --yes removes them" if doomed and not yes else ""
    typer.echo(f"{len(doomed)} of {count(len(runs), 'run')}{further}")


@app.command("import", epilog="Example: pybench history import startup.parquet")
def import_(
    files: Annotated[list[Path], typer.Argument(help="What `pybench export` or `run --json` wrote.")],
    store: StoreOption = "",
    results: ResultsOption = None,
) -> None:
    """Take runs from files into the record; none is stored twice.

    Tags and notes come with their runs; a tag that names another run here is left to it.
    """
    from pybench.harness.export.archive import read_archive  # noqa: PLC0415 - keeps `--help` quick

    archives = [read_archive(path) for path in files]
    with open_or_make_record(store, results) as record:
        for archived in (each for archive in archives for each in archive):
            added = record.put_run(archived.run, archived.samples, archived.conditions)
            elsewhere = record.tags.take_over(archived.tags, archived.notes)
            typer.echo(f"{archived.run.id}: {count(added, 'sample')} added")
            for name, run_id in elsewhere.items():
                typer.echo(f"  {name} is {run_id} here, and stays that")


@app.command(epilog="Example: pybench history check --rescue saved.sqlite")
def check(
    rescue: Annotated[
        Path | None,
        typer.Option("--rescue", metavar="FILE", help="Copy every run that can be read to a new record."),
    ] = None,
    store: StoreOption = "",
    results: ResultsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Read the whole record, and tell what of it is damaged.

    The record is not changed. The exit code is 2 if something is damaged.
    """
    from pybench.harness.store import Store  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.store import check as check_record  # noqa: PLC0415

    with ExitStack() as opened:
        record = opened.enter_context(open_record(store, results))
        rescued = None
        if rescue is not None:
            if rescue.exists():
                raise InputError(f"{rescue}: it exists already", "name a new file")
            rescued = opened.enter_context(Store.open(rescue))
        checked = check_record(record, rescued)
    entries = [asdict(run) for run in checked.runs]
    print_data(
        format_,
        document={"sound": checked.sound, "damage": list(checked.damage), "runs": entries},
        records=entries,
        lines=lambda: _findings(checked, rescue),
    )
    if not checked.sound:
        raise InputError(
            f"{record.place}: the database is damaged",
            "restore it from a copy"
            + (
                ""
                if rescue
                else ", or save the runs that can be read: `pybench history check --rescue NEW.sqlite`"
            ),
        )


@app.command(epilog="Example: pybench history sync --store postgresql+psycopg://bench@db/pybench")
def sync(store: StoreOption = "", results: ResultsOption = None) -> None:
    """Deliver to the server what could not reach it before."""
    from pybench.harness.store import SPOOL, Delivery, Store, deliver_all  # noqa: PLC0415

    if not store:
        raise InputError("no server to deliver to", "give --store URL, or set PYBENCH_STORE")
    spool = (results or Path("results")) / SPOOL
    if not spool.exists():
        typer.echo("nothing waits to be delivered")
        return

    def tell(delivery: Delivery) -> None:
        typer.echo(f"{delivery.run}: {count(delivery.samples, 'sample')} delivered")

    with Store.open(spool, create=False) as local, Store.open(store) as server:
        left = deliver_all(local, server, tell)
    going_on = count(left, "run is still going on", "runs are still going on")
    typer.echo(going_on if left else "nothing waits to be delivered any more")


def _findings(checked: Checked, rescue: Path | None) -> list[str]:
    from pybench.reports.numbers import one_line  # noqa: PLC0415 - keeps `--help` quick

    readable = [run for run in checked.runs if not run.problem]
    samples = count(sum(run.samples for run in readable), "sample")
    lines = [one_line(f"damage: {text}", 200) for text in checked.damage[:_MOST_DAMAGE]]
    if len(checked.damage) > _MOST_DAMAGE:
        lines.append(f"and {len(checked.damage) - _MOST_DAMAGE} more of this kind")
    lines += [one_line(f"{run.id}: {run.problem}", 300) for run in checked.runs if run.problem]
    lines.append(f"{len(readable)} of {count(len(checked.runs), 'run')} can be read, with {samples}")
    return [*lines, f"they are in {rescue}"] if rescue else lines


def _group(run: Run) -> tuple[str, ...]:
    from pybench.harness.store import BRANCH, HOST  # noqa: PLC0415 - keeps `--help` quick

    fields = run.environment.fields
    return run.scenario, fields.get(HOST, ""), fields.get(BRANCH, "")


def _unknown(record: Store, wanted: RunFilter) -> list[str]:
    """Of names that no run has, which may have been meant."""
    from pybench.harness.cli.suggestions import suggestion  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.store import BRANCH, HOST  # noqa: PLC0415
    from pybench.reports.numbers import one_line  # noqa: PLC0415

    runs = record.runs()
    asked = (
        ("scenario", wanted.scenario, {run.scenario for run in runs}),
        ("host", wanted.host, {run.environment.fields.get(HOST, "") for run in runs}),
        ("branch", wanted.branch, {run.environment.fields.get(BRANCH, "") for run in runs}),
    )
    return [
        one_line(f"there is no {what} {name!r}; {suggestion(name, sorted(known))}".rstrip("; "), 200)
        for what, name, known in asked
        if name and name not in known
    ]


def _entries(record: Store, runs: Sequence[Run]) -> list[dict[str, Any]]:
    from pybench.harness.store import BRANCH, HOST  # noqa: PLC0415 - keeps `--help` quick

    ids = [run.id for run in runs]
    counts = record.sample_counts(ids)
    tags: dict[str, list[str]] = {}
    for name, run_id in record.tags.current().items():
        tags.setdefault(run_id, []).append(name)
    notes: dict[str, list[Note]] = {}
    for written in record.tags.notes(ids):
        notes.setdefault(written.run, []).append(written)
    return [
        {
            "id": run.id,
            "scenario": run.scenario,
            "started": run.started,
            "status": run.status,
            "host": run.environment.fields.get(HOST, ""),
            "branch": run.environment.fields.get(BRANCH, ""),
            "commit": run.environment.fields.get("source.commit", ""),
            "samples": counts.get(run.id, 0),
            "tags": tags.get(run.id, []),
            "notes": [each.text for each in notes.get(run.id, [])],
        }
        for run in runs
    ]


def _trends(record: Store, runs: Sequence[Run], metric: str) -> list[dict[str, Any]]:
    """The trends of each scenario; runs that went wrong have their medians too."""
    from pybench.harness.history import sparkline, trends  # noqa: PLC0415 - keeps `--help` quick

    drawn = []
    values = record.values([run.id for run in runs], metric)
    for scenario in dict.fromkeys(run.scenario for run in runs):
        ids = [run.id for run in runs if run.scenario == scenario]
        drawn += [
            {
                "scenario": scenario,
                "workload": trend.workload,
                "target": trend.target,
                "unit": trend.unit,
                "parameters": trend.parameters,
                "runs": ids,
                "medians": list(trend.medians),
                "line": sparkline(trend.medians),
            }
            for trend in trends(ids, values)
        ]
    return drawn


def _check_metric(record: Store, runs: Sequence[Run], metric: str) -> None:
    """A metric that some measurement has may well be missing in these runs; any other must be in the newest.

    Raises:
        InputError: nothing of this name was ever measured.
    """
    from pybench.harness.cli.suggestions import check_metrics  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.measure import MEASUREMENTS  # noqa: PLC0415

    names = {each.name for measurement in MEASUREMENTS.values() for each in measurement.metrics}
    names |= {sample.metric for sample in record.samples(runs[-1].id)}
    check_metrics([metric], names)


def _listing(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    from pybench.reports.numbers import one_line  # noqa: PLC0415 - keeps `--help` quick

    head = ("run", "started", "status", "host", "branch", "commit", "samples", "tags and notes")
    rows = [head] + [
        (
            entry["id"],
            entry["started"][:16].replace("T", " "),
            entry["status"],
            one_line(entry["host"], 24),
            one_line(entry["branch"], 24),
            one_line(entry["commit"][:_COMMIT_DIGITS]),
            f"{entry['samples']:,}",
            one_line(" · ".join([*entry["tags"], *entry["notes"]])),
        )
        for entry in entries
    ]
    return columns(rows, right=frozenset({6}))


def _drawing(drawn: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    from pybench.reports.numbers import one_line, single  # noqa: PLC0415 - keeps `--help` quick

    rows = []
    for trend in drawn:
        known = [value for value in trend["medians"] if value is not None]
        if len(known) < _SMALLEST_TREND:
            continue
        first, last = known[0], known[-1]
        change = f"{last / first - 1:+.1%}".replace("%", " %").replace("-", "−") if first > 0 else ""
        ends = f"{single(first, trend['unit'])} → {single(last, trend['unit'])}"
        names = (one_line(trend[key], 30) for key in ("scenario", "workload", "target", "parameters"))
        rows.append((*names, trend["line"], ends, change))
    return ["", f"Medians of {one_line(metric)}, the oldest run first", "", *columns(rows)] if rows else []
