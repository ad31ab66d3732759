"""`pybench clean`: remove what harness processes that were killed left behind."""

from __future__ import annotations

from itertools import chain

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench clean")
def clean() -> None:
    """Remove processes, control groups, domains and files that a killed run or build left behind.

    What a living pybench owns is left alone.
    """
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.runtime.leftovers import remove_leftovers  # noqa: PLC0415

    done = 0
    for line in chain(remove_leftovers(), (f"removed {path}" for path in vm_images.remove_leftovers())):
        typer.echo(line)
        done += 1
    if not done:
        typer.echo("nothing was left behind")
