"""`pybench doctor`: what this host can do, with the consequence and the fix of what it cannot."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli.output import Format, FormatOption, complain, note, print_data, styled
from pybench.harness.errors import HostError

if TYPE_CHECKING:
    from pybench.harness.doctor import Check

app = typer.Typer(add_completion=False, rich_markup_mode=None)

MARKS = {"ok": ("ok", "green"), "degraded": ("less", "yellow"), "missing": ("MISSING", "red")}
CANNOT_RUN = 3


@app.command(epilog="Examples: pybench doctor --format json · pybench doctor --fix")
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Print the commands that mend it, and run them if you say yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: run them without asking.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell what this host can do, found out by trying; exit code 3 if a core part is missing.

    With --fix nothing runs before you have seen it and said yes; without a terminal it is only printed.
    """
    checks = list(_told(format_))
    if format_ is not Format.TEXT:
        records = [dataclasses.asdict(check) for check in checks]
        print_data(format_, document=records, records=records, lines=list)
    if fix and _mend(checks, yes=yes):
        checks = list(_told(Format.JSON))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(CANNOT_RUN)


def _told(format_: Format) -> Iterator[Check]:
    """Every check, told as soon as it is made: some take seconds."""
    from pybench.harness.doctor import examine  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    with open_journal() as journal:
        for check in examine(journal):
            if format_ is Format.TEXT:
                word, colour = MARKS[check.state]
                typer.echo(f"{styled(f'{word:<8}', colour)} {check.name}: {check.finding}")
                if check.consequence:
                    typer.echo(f"         so: {check.consequence}")
                if check.fix:
                    typer.echo(f"         fix: {check.fix}")
            yield check


def _mend(checks: Sequence[Check], *, yes: bool) -> bool:
    """Show the commands, ask, and run them; whether they were run."""
    from pybench.harness.doctor import remedies  # noqa: PLC0415 - keeps the other verbs quick

    commands = remedies(checks)
    if not commands:
        note("no command mends what is left" if any(c.state != "ok" for c in checks) else "nothing to mend")
        return False
    for command in commands:
        typer.echo(shlex.join(command))
    if not yes and not (sys.stdin.isatty() and typer.confirm("Run this?", err=True)):
        return False
    for command in commands:
        status = _status_of(command)
        if status:
            raise HostError(f"{shlex.join(command)}: ended with exit code {status}", "see what it says above")
    complain("done; `pybench doctor` looks again")
    return True


def _status_of(command: Sequence[str]) -> int:
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise HostError(
            f"{command[0]}: {error.strerror}", "run the commands above as root, or their equivalents here"
        ) from error
