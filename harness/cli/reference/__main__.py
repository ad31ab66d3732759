"""Writes the generated pages below the folder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from pybench.harness.cli.reference import pages


def write(folder: Path) -> None:
    """Write every page, and remove those of verbs that are gone."""
    wanted = {folder / name: text for name, text in pages().items()}
    for old in {*folder.glob("reference/cli/*.md")} - wanted.keys():
        old.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
