"""The guest's payload: the sources in `guest/` joined into one file, the same for every target."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from pybench.harness.audit.answer import Answer, read_answers
from pybench.harness.audit.model import CATEGORIES
from pybench.harness.audit.subjects.base import PYTHON_SCRIPT

if TYPE_CHECKING:
    from pybench.harness.audit.model import Parameters, Probe

_PACKAGE: Final = "pybench.harness.audit.guest"
_FUTURE: Final = "from __future__ import annotations\n"


@functools.cache
def payload() -> str:
    """The joined sources: what all parts share, then each category's, in the catalogue's order."""
    folder = resources.files(_PACKAGE)
    names = ["core", *(name for name in CATEGORIES if folder.joinpath(f"{name}.py").is_file())]
    texts = [folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in names]
    return _FUTURE + "\n".join(_without_own_imports(text) for text in texts)


@functools.cache
def beacon() -> str:
    """What runs as an instance's first process, to be found by its sibling."""
    return resources.files(_PACKAGE).joinpath("beacon.py").read_text(encoding="utf-8")


def script(shape: str, asked: Sequence[tuple[Probe, Parameters]], *, shared: bool) -> bytes:
    """The payload with its request, to be given to a Python as its script.

    Args:
        shape: a regular expression that tokens match.
        asked: the probes, each with what its guest part is told.
        shared: the target shares the host's namespaces, so that what mutates goes into new ones first.
    """
    watching = [each for each in asked if each[0].watches]
    groups = [[each] for each in asked if not each[0].watches] + ([watching] if watching else [])
    request: dict[str, Any] = {
        "shape": shape,
        "shared": shared,
        "groups": [
            [
                {"id": probe.id, "given": dict(parameters), "seconds": probe.seconds}
                for probe, parameters in group
            ]
            for group in groups
        ],
    }
    return f"{payload()}\n\nmain({json.dumps(request)!r})\n".encode()


class Payload(Protocol):
    """What asks an instance some probes, in a language that it can run."""

    interpreter: ClassVar[tuple[str, ...]]

    @property
    def script(self) -> bytes:
        """What the interpreter gets as its standard input."""
        ...

    def read(self, output: bytes) -> tuple[Mapping[str, Answer], Mapping[str, str]]:
        """The answers in what it printed.

        Returns:
            Probe → its answer; probe → what is wrong with it, for each one asked that has no valid answer.

        Raises:
            NoPythonError: the instance cannot run it.
        """
        ...


class PythonPayload:
    """For instances with a Python; arguments as of `script`."""

    interpreter: ClassVar[tuple[str, ...]] = PYTHON_SCRIPT

    def __init__(self, shape: str, asked: Sequence[tuple[Probe, Parameters]], *, shared: bool) -> None:
        self._names = [probe.id for probe, _ in asked]
        self.script = script(shape, asked, shared=shared)

    def read(self, output: bytes) -> tuple[Mapping[str, Answer], Mapping[str, str]]:
        """The answers in what it printed."""
        return read_answers(output, self._names)


def _without_own_imports(text: str) -> str:
    """The source without its imports from sister modules and from the future, which one file needs once."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {
            "__future__",
            "pybench",
        }:
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or 0) - node.lineno + 1)
    return "\n".join(lines) + "\n"
