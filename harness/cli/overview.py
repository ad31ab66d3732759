"""The verbs, and the overview of them, which is printed without importing what the verbs need."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Final

INTRODUCTION: Final = (
    "Settle “container or VM?” with evidence: start-up, memory and isolation of identical workloads."
)
EXAMPLE: Final = "Example: pybench run scenarios/startup.yaml"
HELP_OPTIONS: Final = ("-h", "--help")
VERSION_HELP: Final = "Show the version."
QUIET_HELP: Final = "Results and errors only: no progress."
VERBOSE_HELP: Final = "Also each step, and causes of errors."
VERBS: Final = {
    "run": "Run a scenario and report what it measured.",
    "audit": "Tell what leaks through the isolation of each target, with proof.",
    "compare": "Tell what changed between two runs, and how sure that is.",
    "ab": "Measure two revisions or settings in alternation, and fail if the second is worse.",
    "gate": "Fail if a run is worse than its baseline.",
    "nightly": "Measure, gate and report a list of scenarios, with one exit code.",
    "history": "List runs and trends; tag, annotate, prune, import and deliver runs.",
    "report": "Write the report of a run that is stored.",
    "export": "Write runs to Parquet, CSV or JSON lines.",
    "init": "Write a project to start from: a commented scenario and a nightly job.",
    "list": "Tell which scenarios, targets, probes and metrics there are.",
    "schema": "Print the scenario language as JSON Schema, for editors.",
    "shell": "Open a terminal in a container or a virtual machine.",
    "images": "Build and list the images that scenarios use.",
    "doctor": "Tell what this host can do, and how to get what it lacks.",
    "clean": "Remove whatever a killed run left behind.",
    "completion": "Print what makes a shell complete this command.",
}
"""Every verb with its first help line; its module, of the same name, is imported when it is used."""

_OPTIONS: Final = {
    "--version": VERSION_HELP,
    "-q, --quiet": QUIET_HELP,
    "-v, --verbose": VERBOSE_HELP,
    "-h, --help": "Show this message and exit.",
}
_NARROWEST: Final = 40


def overview() -> str:
    """The help of `pybench` itself, as wide as the terminal."""
    width = max(_NARROWEST, min(shutil.get_terminal_size().columns, 100) - 2)
    parts = [
        "Usage: pybench [OPTIONS] VERB [ARGS]...",
        textwrap.fill(INTRODUCTION, width, initial_indent="  ", subsequent_indent="  "),
        "Options, here or after the verb:\n" + _listed(_OPTIONS, width),
        "Verbs; `pybench VERB --help` tells more:\n" + _listed(VERBS, width),
        f"  {EXAMPLE}",
    ]
    return "\n\n".join(parts)


def _listed(entries: Mapping[str, str], width: int) -> str:
    column = max(map(len, entries)) + 4
    return "\n".join(
        textwrap.fill(text, width, initial_indent=f"  {name}".ljust(column), subsequent_indent=" " * column)
        for name, text in entries.items()
    )
