"""`pybench init`: a project to start from."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer

from pybench.harness.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SCENARIO: Final = "scenarios/first.yaml"
SCHEMA: Final = "scenarios/pybench.schema.json"
IGNORED: Final = ".gitignore"
IGNORED_TEXT: Final = "# Measurements belong to the machine that made them.\n/results/\n"


@app.command(epilog="Example: pybench init bench && cd bench && pybench run scenarios/first.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
) -> None:
    """Write a commented scenario, the schema by which editors complete it, and a .gitignore.

    A file that exists is never touched: nothing is written then.
    """
    from pybench.harness.scenario.schema import json_schema  # noqa: PLC0415 - keeps the other verbs quick

    starter = resources.files("pybench.harness.scenario").joinpath("starter.yaml")
    contents = {
        SCENARIO: starter.read_text(encoding="utf-8"),
        SCHEMA: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    if not (folder / IGNORED).exists():
        contents[IGNORED] = IGNORED_TEXT
    for name in (SCENARIO, SCHEMA):
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists", "choose another folder, or move the file away")
    try:
        (folder / SCENARIO).parent.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(content)
            typer.echo(f"wrote {folder / name}")
    except OSError as error:
        raise InputError(
            f"{error.filename}: {error.strerror}", "choose a folder that you may write"
        ) from error
    typer.echo(f"next: pybench run {folder / SCENARIO} --dry-run")
