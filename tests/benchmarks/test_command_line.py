"""How soon the command answers."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PYBENCH = Path(sys.executable).with_name("pybench")
STARTS = 11
BARE_STARTS = 3.0
LIST_SECONDS = 0.5


def seconds(*command: str | Path) -> float:
    """The median of some starts, after one that fills the caches."""
    taken = []
    for _ in range(STARTS + 1):
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.monotonic() - begin)
    return statistics.median(taken[1:])


def test_help_takes_a_few_bare_starts_of_the_interpreter() -> None:
    """At most three."""
    bare, answered = seconds(sys.executable, "-c", "pass"), seconds(PYBENCH, "--help")
    print(f"--help {answered * 1000:.0f} ms, a bare start {bare * 1000:.0f} ms")
    assert answered <= BARE_STARTS * bare


def test_list_answers_at_once() -> None:
    """Within half a second."""
    answered = seconds(PYBENCH, "list")
    print(f"list {answered * 1000:.0f} ms")
    assert answered <= LIST_SECONDS
