"""Which name was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from pybench.harness.errors import InputError

_MOST_NAMES: Final = 30


def suggestion(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that offers the known name which is nearest, if one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def check_metrics(patterns: Iterable[str], known: Iterable[str]) -> None:
    """Fail if a pattern is for no metric at all: nothing would be looked at, and nothing found.

    Raises:
        InputError: names the pattern, and the nearest metric.
    """
    names = sorted(set(known))
    if len(names) <= _MOST_NAMES:
        otherwise = f"there is {', '.join(names)}"
    else:
        otherwise = "`pybench list metrics` tells what there is"
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"--metric {pattern}: nothing was measured of that name",
                suggestion(pattern, names, otherwise),
            )
