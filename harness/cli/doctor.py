"""`pybench doctor`: what this host can do, with the consequence and the fix of what it cannot."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)

MARKS = {"ok": "ok", "degraded": "less", "missing": "MISSING"}
CANNOT_RUN = 3


class Format(StrEnum):
    """How the finding is printed."""

    TEXT = "text"
    JSON = "json"


@app.command(epilog="Example: pybench doctor --format json")
def doctor(
    format_: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.TEXT,
) -> None:
    """Tell what this host can do, found out by trying; exit code 3 if a core part is missing."""
    from pybench.harness.doctor import examine  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    checks = []
    with open_journal() as journal:
        for check in examine(journal):
            checks.append(check)
            if format_ is Format.TEXT:
                typer.echo(f"{MARKS[check.state]:<8} {check.name}: {check.finding}")
                if check.consequence:
                    typer.echo(f"         so: {check.consequence}")
                if check.fix:
                    typer.echo(f"         fix: {check.fix}")
    if format_ is Format.JSON:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(CANNOT_RUN)
