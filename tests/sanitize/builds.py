"""Where the C sources are, and the flags they are built with for the sanitizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SPAWN = REPOSITORY / "runtime" / "container" / "spawn"
EXTENSION_SOURCES = tuple(sorted(SPAWN.glob("*.c")))

WARNINGS = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror")
UNDEFINED = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
"""What a sanitizer finds ends the program, so no finding passes as a line in some log."""
UNDEFINED_AND_ADDRESS = (*UNDEFINED, "-fsanitize=address", "-fno-omit-frame-pointer")

Compile = Callable[[Sequence[Path], Sequence[str]], Path]
"""The type of the fixture `compiled`: sources and further flags; returns the output's path."""
