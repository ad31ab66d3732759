"""Rules about single values that several parts of a document share."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.linux import IdMapping
from pybench.runtime.errors import InputError

HIGHEST_ID: Final = 2**32 - 2
"""The number above it means "no id" to the kernel."""
_CPU_LIST: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)


def check_absolute(text: str, path: str) -> None:
    """It is an absolute path.

    Raises:
        InputError: starts with the path.
    """
    if not text.startswith("/"):
        raise InputError(f"{path}: {show(text)} is not an absolute path")


def check_environment(variables: Sequence[str], path: str) -> None:
    """Each is `NAME=value`.

    Raises:
        InputError: starts with the path.
    """
    for number, variable in enumerate(variables):
        if variable.find("=") < 1:
            raise InputError(f"{path}[{number}]: {show(variable)} is not NAME=value")


def check_cpus(text: str, path: str) -> None:
    """It is a list of numbers and ranges, as in cpuset(7), or empty.

    Raises:
        InputError: starts with the path.
    """
    if text and not _CPU_LIST.fullmatch(text):
        raise InputError(f"{path}: {show(text)} is not a list such as 0-3,7")


def check_mappings(mappings: Sequence[IdMapping], path: str) -> None:
    """The ranges are not empty, do not overlap and end below the highest id.

    Raises:
        InputError: starts with the path.
    """
    for number, mapping in enumerate(mappings):
        if not mapping.size:
            raise InputError(f"{path}[{number}].size: must be above 0")
        for name, start in (("containerID", mapping.container_id), ("hostID", mapping.host_id)):
            if start + mapping.size - 1 > HIGHEST_ID:
                raise InputError(
                    f"{path}[{number}].{name}: the range ends above the highest id, {HIGHEST_ID}"
                )
    for name, ranges in (
        ("containerID", [(mapping.container_id, mapping.size) for mapping in mappings]),
        ("hostID", [(mapping.host_id, mapping.size) for mapping in mappings]),
    ):
        ordered = sorted(ranges)
        for (start, size), (following, _) in itertools.pairwise(ordered):
            if following < start + size:
                raise InputError(f"{path}: two ranges of {name} overlap at {following}")
