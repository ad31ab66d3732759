"""`pybench list`: the scenarios with the question each answers, the targets, and the metrics."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

app = typer.Typer(add_completion=False)

PROJECT: Final = Path("scenarios")


class Subject(StrEnum):
    """What can be listed."""

    SCENARIOS = "scenarios"
    TARGETS = "targets"
    METRICS = "metrics"


class Format(StrEnum):
    """How it is printed."""

    TEXT = "text"
    JSON = "json"


@app.command(epilog="Example: pybench list metrics --format json")
def list_(
    subject: Annotated[Subject | None, typer.Argument(help="Only these; all three by default.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.TEXT,
) -> None:
    """Tell which scenarios, targets and metrics there are.

    Scenarios are the shipped ones and those of the folder `scenarios` here.
    """
    makers = {Subject.SCENARIOS: _scenarios, Subject.TARGETS: _targets, Subject.METRICS: _metrics}
    found = {each.value: makers[each]() for each in Subject if subject in {None, each}}
    if format_ is Format.JSON:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for number, (title, entries) in enumerate(found.items()):
        if len(found) > 1:
            typer.echo(f"{'' if number == 0 else chr(10)}{title}")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            unit = f"[{entry['unit']}] " if "unit" in entry else ""
            typer.echo(f"  {entry['name']:<{width}}  {unit}{entry['text']}")


def _scenarios() -> list[dict[str, str]]:
    from pybench import scenarios  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.harness.errors import InputError  # noqa: PLC0415
    from pybench.harness.scenario import load_scenario  # noqa: PLC0415

    entries = []
    own = sorted(PROJECT.glob("*.yaml")) if PROJECT.is_dir() else []
    shipped = {name: scenarios.shipped(name) for name in scenarios.names()}
    paths = {**shipped, **{str(path): path for path in own if path.stem not in shipped}}
    for name, path in paths.items():
        try:
            scenario = load_scenario(path)
            text = scenario.question or scenario.description or "it does not say which question it answers"
        except InputError as error:
            text = f"cannot be read: {error.message}"
        entries.append({"name": name, "text": " ".join(text.split()), "file": str(path)})
    return entries


def _targets() -> list[dict[str, str]]:
    from pybench.harness.targets import KINDS  # noqa: PLC0415 - keeps the other verbs quick

    return [{"name": name, "text": kind.description} for name, kind in KINDS.items()]


def _metrics() -> list[dict[str, str]]:
    from pybench.harness.measure import MEASUREMENTS  # noqa: PLC0415 - keeps the other verbs quick

    return [
        {"name": metric.name, "unit": metric.unit, "text": metric.description, "measurement": measurement}
        for measurement, entry in MEASUREMENTS.items()
        for metric in entry.metrics
    ]
