"""`pybench clean`: remove what harness processes that were killed left behind."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: pybench clean")
def clean() -> None:
    """Remove processes, control groups, domains and files that a killed run left behind.

    What a living pybench owns is left alone.
    """
    from pybench.runtime.leftovers import remove_leftovers  # noqa: PLC0415 - keeps the other verbs quick

    done = 0
    for line in remove_leftovers():
        typer.echo(line)
        done += 1
    if not done:
        typer.echo("nothing was left behind")
