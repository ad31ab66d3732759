"""Groups at a path of the tests' own, and processes in them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from patience import PATIENCE

from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.placement import placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import limits_of
from pybench.runtime.container.specification.resources import (
    DeviceRule,
    Resources,
)

PARENT = f"pybench-test-{os.getpid()}"


@contextlib.contextmanager
def placed(
    resources: Resources, path: str = f"/{PARENT}/group", devices: Sequence[DeviceRule] | None = None
) -> Iterator[Group]:
    """A group at a path, emptied and removed afterwards with what was made above it."""
    group = placement_of(path, "unused").create(limits_of(resources), devices)
    try:
        yield group
    finally:
        group.kill()
        group.remove()
        remove_placed(group.directories)
        assert not any(directory.exists() for directory in group.directories)


@contextlib.contextmanager
def python_in(group: Group, program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program started inside a group."""
    with group.spawning():
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def answer_in(group: Group, program: str) -> str:
    """What a Python program inside a group prints."""
    with python_in(group, program) as process:
        output, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, complaint
        return output


def held(group: Group, file: str) -> str:
    """What a file of a group says."""
    for directory in group.directories:
        if (path := directory / file).exists():
            return path.read_text(encoding="ascii").strip()
    raise AssertionError(f"{file} is in none of {group.directories}")
