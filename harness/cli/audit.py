"""`pybench audit`: what leaks through the isolation of each target, with proof."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.limit_options import WaiversOption
from pybench.harness.cli.output import Format, FormatOption, note, print_data
from pybench.harness.cli.record import ResultsOption, StoreOption
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybench.harness.audit.model import Audit, Judged, Severity
    from pybench.harness.audit.waivers import Waiver

_LEAKED: Final = 1
_INCONCLUSIVE: Final = 4

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class AuditFormat(StrEnum):
    """How the result of an audit is printed."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    SARIF = "sarif"


class FailOn(StrEnum):
    """The least severe leak that breaks a gate."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@app.callback(
    invoke_without_command=True,
    epilog="Example: pybench audit --targets process,container --gate-target container",
)
def audit(
    context: typer.Context,
    targets: Annotated[
        str, typer.Option(metavar="NAMES", help="Of process, chroot, container and vm, with commas between.")
    ] = "process,container",
    image: Annotated[str, typer.Option(help="What the targets run; it needs python3.")] = "debian",
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Of containers: default, strict, privileged or all. May be given again."),
    ] = None,
    network: Annotated[str, typer.Option(help="Of containers and machines: none or bridge.")] = "none",
    probe: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this probe, such as N4.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only this category, such as network.")] = None,
    format_: Annotated[
        AuditFormat, typer.Option("--format", help="For people, programs, CI systems or documents.")
    ] = AuditFormat.TEXT,
    output: Annotated[Path | None, typer.Option(help="Write the result to a file instead.")] = None,
    fail_on: Annotated[FailOn, typer.Option(help="The least severe leak that breaks a gate.")] = FailOn.HIGH,
    gate_target: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET", help="Exit with 1 if this target leaks. May be given again."),
    ] = None,
    waivers: WaiversOption = None,
    store: StoreOption = "",
    results: ResultsOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that goes on here.")] = False,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep the verdicts in the record.")] = True,
) -> None:
    """Plant canaries on the host and look for them from inside each target: proof, not opinion.

    The bare process always runs as well: a probe that finds nothing there has proved nothing anywhere.
    """
    if context.invoked_subcommand is not None:
        return
    from pybench.harness.audit import carry_out  # noqa: PLC0415 - keeps `--help` quick
    from pybench.harness.audit.catalogue import choose  # noqa: PLC0415
    from pybench.harness.audit.waivers import usual_waivers  # noqa: PLC0415
    from pybench.harness.cli.show_audit import progress, rendered, waiver_lines  # noqa: PLC0415

    asked = carry_out.Request(
        targets=tuple(targets.split(",")),
        image=image,
        profiles=tuple(profile or ("default",)),
        network=network,
        probes=choose(tuple(probe or ()), tuple(category or ())),
    )
    makers = carry_out.makers(asked)
    gated = tuple(gate_target or ())
    _check_gate(gated, [maker.label for maker in makers])
    accepted = usual_waivers(Path(), waivers, datetime.now(UTC).date())
    with progress() as tell:
        found = carry_out.carry_out(asked, makers, tell, wait=wait)
    text = rendered(found, accepted, format_.value)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
    for line in waiver_lines(found, accepted):
        typer.echo(line, err=True)
    if save:
        note(f"record  {_save(found, store, results)}")
    raise typer.Exit(_exit_code(found, gated, fail_on.value, accepted))


@app.command(epilog="Example: pybench audit explain N4")
def explain(
    probe: Annotated[str, typer.Argument(help="A probe's id.", autocompletion=completers.probes)],
) -> None:
    """Tell what a probe asks, why that matters, and what to do.

    And how sandboxes handle it, and what is expected of each target.
    """
    from pybench.harness.audit.catalogue import find  # noqa: PLC0415
    from pybench.harness.cli.show_audit import explanation  # noqa: PLC0415

    typer.echo(explanation(find(probe)))


@app.command("list", epilog="Example: pybench audit list")
def list_probes(format_: FormatOption = Format.TEXT) -> None:
    """List all probes."""
    from pybench.harness.audit.catalogue import catalogue  # noqa: PLC0415
    from pybench.harness.cli.columns import columns  # noqa: PLC0415

    records = [
        {"id": each.id, "category": each.category, "severity": each.severity, "title": each.title}
        for each in catalogue()
    ]
    print_data(
        format_,
        document=records,
        records=records,
        lines=lambda: columns([tuple(record.values()) for record in records]),
    )


@app.command(epilog="Example: pybench audit compare main latest")
def compare(
    baseline: Annotated[
        str,
        typer.Argument(
            help="A run, tag or branch, or a file that was exported.", autocompletion=completers.runs
        ),
    ],
    candidate: Annotated[
        str,
        typer.Argument(help="The same; what is compared with the baseline.", autocompletion=completers.runs),
    ],
    store: StoreOption = "",
    results: ResultsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell which leaks are new or fixed; exit 1 if one is new."""
    from pybench.harness.audit.record import outcomes_of  # noqa: PLC0415
    from pybench.harness.audit.results import difference  # noqa: PLC0415
    from pybench.harness.cli.show_audit import difference_lines  # noqa: PLC0415
    from pybench.harness.cli.sides import sides  # noqa: PLC0415

    with sides(store, results) as found:
        before, after = (outcomes_of(*found.load(name)) for name in (baseline, candidate))
    changed = difference(before, after)
    records = [
        {
            "change": word,
            "probe": each.probe,
            "target": each.target,
            "before": each.before,
            "after": each.after,
        }
        for word, changes in (
            ("new leak", changed.new_leaks),
            ("fixed leak", changed.fixed_leaks),
            ("changed", changed.other),
        )
        for each in changes
    ]
    print_data(format_, document=records, records=records, lines=lambda: difference_lines(changed))
    raise typer.Exit(_LEAKED if changed.new_leaks else 0)


def _check_gate(gated: Sequence[str], labels: Sequence[str]) -> None:
    for name in gated:
        if name not in labels:
            raise InputError(
                f"--gate-target {name}: it is not audited", f"the targets are {', '.join(labels)}"
            )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}", "name a file that can be written") from error


def _save(found: Audit, store: str, results: Path | None) -> str:
    import shlex  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from pybench import vm_images  # noqa: PLC0415
    from pybench.harness.audit.record import save  # noqa: PLC0415
    from pybench.harness.cli.record import open_or_make_record  # noqa: PLC0415

    with open_or_make_record(store, results) as record:
        run = save(found, record, shlex.join(["pybench", *sys.argv[1:]]), vm_images.find(found.image))
        return f"{record.place} (run {run})"


def _exit_code(found: Audit, gated: Sequence[str], fail_on: Severity, waivers: Sequence[Waiver]) -> int:
    """1 for an unwaived leak on a gated target; 4 if nothing leaks there but something is not known."""
    from pybench.harness.audit.model import Outcome  # noqa: PLC0415
    from pybench.harness.audit.results import at_least  # noqa: PLC0415
    from pybench.harness.audit.waivers import waiver_of  # noqa: PLC0415

    def matters(judged: Judged) -> bool:
        return judged.target in gated and at_least(judged.probe.severity, fail_on)

    judged = [each for each in found.judged if matters(each)]
    if any(each.verdict.is_leak and waiver_of(each, waivers) is None for each in judged):
        return _LEAKED
    return _INCONCLUSIVE if any(each.verdict.outcome is Outcome.ERROR for each in judged) else 0
