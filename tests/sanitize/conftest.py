"""What the tests under sanitizers share."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from builds import SPAWN, WARNINGS, Compile

from pybench.runtime.journal import Journal, open_journal


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile C files with these flags beside the usual ones; returns the output's path."""

    def compile_(sources: Sequence[Path], flags: Sequence[str]) -> Path:
        output = tmp_path_factory.mktemp("build") / "output"
        includes = (f"-I{SPAWN}", "-isystem", sysconfig.get_path("include"))
        command = ["gcc", *WARNINGS, *flags, *includes, "-o", str(output), *map(str, sources)]
        subprocess.run(command, check=True, timeout=120)
        return output

    return compile_


@pytest.fixture
def journal() -> Iterator[Journal]:
    """A journal of the test's own; the test must leave nothing in it."""
    with open_journal() as opened:
        yield opened
        assert opened.entries == ()
