"""`pybench list`: the scenarios with the question each answers, the targets, probes, metrics and claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from pybench.harness.cli.output import Format, FormatOption, print_data

app = typer.Typer(add_completion=False, rich_markup_mode=None)

PROJECT: Final = Path("scenarios")


class Subject(StrEnum):
    """What can be listed."""

    SCENARIOS = "scenarios"
    TARGETS = "targets"
    PROBES = "probes"
    METRICS = "metrics"
    CLAIMS = "claims"


Entry = Mapping[str, str]


@app.command(epilog="Example: pybench list metrics --format json")
def list_(
    subject: Annotated[Subject | None, typer.Argument(help="Only these; all by default.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Tell which scenarios, targets, probes, metrics and claims there are.

    Scenarios are the shipped ones and those of the folder `scenarios` here. Probes are those of the isolation
    audit; `pybench audit explain ID` tells more about one.
    """
    makers = {
        Subject.SCENARIOS: _scenarios,
        Subject.TARGETS: _targets,
        Subject.PROBES: _probes,
        Subject.METRICS: _metrics,
        Subject.CLAIMS: _claims,
    }
    found = {each.value: makers[each]() for each in Subject if subject in {None, each}}
    print_data(
        format_,
        document=found,
        records=[
            {**({"subject": title} if len(found) > 1 else {}), **entry}
            for title, entries in found.items()
            for entry in entries
        ],
        lines=lambda: _lines(found),
    )


def _lines(found: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    for number, (title, entries) in enumerate(found.items()):
        if len(found) > 1:
            yield f"{'' if number == 0 else chr(10)}{title}"
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            aside = entry.get("unit") or entry.get("severity")
            yield f"  {entry['name']:<{width}}  {f'[{aside}] ' if aside else ''}{entry['text']}"


def _scenarios() -> list[Entry]:
    from pybench import scenarios  # noqa: PLC0415 - keeps the other verbs quick

    shipped = scenarios.names()
    own = sorted(PROJECT.glob("*.yaml")) if PROJECT.is_dir() else []
    return [
        *(
            {"name": name, "text": scenarios.question(name), "file": str(scenarios.shipped(name))}
            for name in shipped
        ),
        *(
            {"name": str(path), "text": _question(path), "file": str(path)}
            for path in own
            if path.stem not in shipped
        ),
    ]


def _question(path: Path) -> str:
    """What a scenario of the user's answers, or why it cannot be read."""
    from pybench.harness.errors import InputError  # noqa: PLC0415 - as in `_scenarios`
    from pybench.harness.scenario import load_scenario  # noqa: PLC0415 - loads the scenario language

    try:
        scenario = load_scenario(path)
    except InputError as error:
        return " ".join(f"cannot be read: {error.message}".split())
    text = scenario.question or scenario.description or "it does not say which question it answers"
    return " ".join(text.split())


def _targets() -> list[Entry]:
    from pybench.harness.targets import KINDS  # noqa: PLC0415 - keeps the other verbs quick

    return [{"name": name, "text": kind.description} for name, kind in KINDS.items()]


def _probes() -> list[Entry]:
    from pybench.harness.audit.catalogue import catalogue  # noqa: PLC0415 - keeps the other verbs quick

    return [
        {"name": probe.id, "severity": probe.severity, "text": probe.title, "category": probe.category}
        for probe in catalogue()
    ]


def _metrics() -> list[Entry]:
    from pybench.harness.measure import MEASUREMENTS  # noqa: PLC0415 - keeps the other verbs quick

    return [
        {"name": metric.name, "unit": metric.unit, "text": metric.description, "measurement": measurement}
        for measurement, entry in MEASUREMENTS.items()
        for metric in entry.metrics
    ]


def _claims() -> list[Entry]:
    from pybench.harness.claims import CLAIMS  # noqa: PLC0415 - keeps the other verbs quick

    return [{"name": claim.name, "text": claim.sentence} for claim in CLAIMS.values()]
