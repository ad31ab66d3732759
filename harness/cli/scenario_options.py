"""How a scenario is chosen and changed on the command line, in common to the verbs that measure one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pybench.harness.cli import completers

ScenarioArgument = Annotated[
    str,
    typer.Argument(
        help="A scenario file, or the name of a shipped one.", autocompletion=completers.scenarios
    ),
]
TargetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        metavar="A,B",
        help="Only these targets of the scenario.",
        autocompletion=completers.targets,
    ),
]
RepeatOption = Annotated[
    int | None, typer.Option("--repeat", metavar="N", help="Repetitions of every target and procedure.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the order of launches.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. targets.vm.memory=512MiB."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the end of another run on this host instead of failing.")
]
KeptOption = Annotated[
    Path | None,
    typer.Option("--results", metavar="DIR", help="Keep results here instead of beside the scenario."),
]
NoReportOption = Annotated[bool, typer.Option("--no-report", help="Do not write the HTML report.")]


def labels_of(targets: list[str] | None) -> list[str] | None:
    """The labels that `--targets` names, separated by commas or by repeating it."""
    return None if targets is None else [label for text in targets for label in text.split(",") if label]
