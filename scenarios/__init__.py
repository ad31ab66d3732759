"""The scenarios shipped with the product."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

__all__ = ["is_shipped", "names", "resolve", "shipped"]

_SHIPPED = re.compile(r"(?:\./)?(?:scenarios/)?(?P<name>[a-z0-9][a-z0-9_-]*)(?:\.yaml)?")


def names() -> list[str]:
    """The names of the shipped scenarios, such as `startup`."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def resolve(argument: str) -> Path:
    """The file that a user means by a path, or by the name of a shipped scenario.

    `startup`, `startup.yaml` and `scenarios/startup.yaml` all name the shipped one, but a file on disk wins.
    An argument that is neither is returned as a path, so that reading it tells what is wrong.
    """
    path = Path(argument)
    match = _SHIPPED.fullmatch(argument)
    if match is None or path.is_file():
        return path
    file = shipped(match["name"])
    return file if file.is_file() else path


def shipped(name: str) -> Path:
    """The file of a shipped scenario; it need not exist."""
    return _folder() / f"{name}.yaml"


def is_shipped(file: Path) -> bool:
    """Whether a file is a shipped scenario, and so lies in nobody's project."""
    return file.resolve().parent == _folder().resolve()


def _folder() -> Path:
    return Path(str(resources.files(__name__)))
