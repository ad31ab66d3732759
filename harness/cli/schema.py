"""`pybench schema`: the scenario language as JSON Schema."""

from __future__ import annotations

import json

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: pybench schema > scenarios/pybench.schema.json")
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors that complete and check YAML by one.

    An editor finds it through the file's first line:

    # yaml-language-server: $schema=pybench.schema.json
    """
    from pybench.harness.scenario.schema import json_schema  # noqa: PLC0415 - keeps the other verbs quick

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
