"""The scenarios shipped with the product."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise
from pathlib import Path

__all__ = ["is_shipped", "names", "question", "resolve", "shipped"]

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


def question(name: str) -> str:
    """The question that a shipped scenario answers, in one line; its file is read up to there and no further.

    What is shipped is known to be valid, so the scenario language, which takes long to load, is not needed.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - not needed to find a file
    from ruamel.yaml.events import ScalarEvent  # noqa: PLC0415

    events = YAML(typ="safe", pure=True).parse(shipped(name).read_text(encoding="utf-8"))
    texts = (event.value for event in events if isinstance(event, ScalarEvent))
    return next((" ".join(text.split()) for key, text in pairwise(texts) if key == "question"), "")


def _folder() -> Path:
    return Path(str(resources.files(__name__)))
