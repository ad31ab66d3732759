"""Where results go when nobody says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATABASE: Final = "pybench.sqlite"
"""The record, in the folder of results."""


def results_beside(scenario: Path) -> Path:
    """`results/` beside the folder `scenarios` of the user's project, else in the current folder."""
    folder = scenario.absolute().parent
    base = folder.parent if folder.name == "scenarios" else Path.cwd()
    return Path("results") if base == Path.cwd() else base / "results"
