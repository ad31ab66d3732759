"""The command `pybench`: the overview at once, and everything else by the command line."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

from pybench.harness.cli.overview import HELP_OPTIONS, overview

_SHORT: Final = frozenset({"compare", "history", "list", "report"})
"""Verbs that import, read and print; what they make on the way stays until they end."""


def main() -> None:
    """Run the command line of this process."""
    arguments = sys.argv[1:]
    if len(arguments) == 1 and arguments[0] in HELP_OPTIONS:
        # Typer alone takes several times as long to import as Python to start.
        try:
            print(overview(), flush=True)
        except BrokenPipeError:
            # As for every other verb: the reader has gone, and the flush at exit would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if arguments and arguments[0] in _SHORT:
        # A tenth of their time would go to collections that find nothing.
        gc.disable()
    from pybench.harness.cli.main import main as command_line  # noqa: PLC0415 - see above

    command_line()
