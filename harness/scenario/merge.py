"""Several sources of one scenario: included files, the file itself, and what the command line sets."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from pybench.harness.errors import InputError
from pybench.harness.scenario.document import (
    MOST_NODES,
    Document,
    KeyPath,
    Place,
    parse_document,
    read_text,
)

DEEPEST_INCLUDE: Final = 8
MOST_INCLUDES: Final = 100
_NULL: Final = frozenset({"null", "~"})
DEFAULTS: Final = {"workload": "workloads", "target": "targets"}
"""A section of `defaults` and the section whose entries it completes."""


def read_documents(path: Path, settings: Sequence[str] = ()) -> tuple[Document, str]:
    """The file with what it includes, with the settings of the command line, and its text.

    Where nothing is included or set, the text is the file's own; otherwise that of the merged document.

    Args:
        path: the YAML file.
        settings: `key=value` texts, the key dotted, the value YAML.

    Raises:
        InputError: a file cannot be read or is no YAML, files include each other, or a setting has no `=`.
    """
    text = read_text(path)
    document = parse_document(str(path), text)
    if not isinstance(document.data, dict):
        return document, text
    changed = bool(settings) or "include" in document.data
    merged = _with_includes(document, path, [path.resolve()])
    for setting in settings:
        merged = overlay(merged, _setting(setting))
    if _nodes(merged.data) > MOST_NODES:
        raise InputError(f"{path}: with its includes the file has more than {MOST_NODES:,} values")
    if not changed:
        return merged, text
    return merged, _as_yaml({key: value for key, value in merged.data.items() if key != "include"})


def overlay(under: Document, over: Document) -> Document:
    """Two documents as one: mappings are merged key by key, of anything else `over` has the last word."""
    return Document(
        over.source if over.data else under.source,
        _merged(under.data, over.data),
        {**under.keys, **over.keys},
        {**under.values, **over.values},
    )


def with_defaults(document: Document) -> Document:
    """Every workload and target completed by the section `defaults`, whose places the values keep."""
    defaults = document.data.get("defaults")
    if not isinstance(defaults, dict):
        return document
    data = dict(document.data)
    keys, values = dict(document.keys), dict(document.values)
    for section, entries in DEFAULTS.items():
        default, named = defaults.get(section), data.get(entries)
        if not isinstance(default, dict) or not isinstance(named, dict):
            continue
        data[entries] = {
            name: _merged(default, entry) if isinstance(entry, dict) else entry
            for name, entry in named.items()
        }
        for name in named:
            old, new = ("defaults", section), (entries, name)
            keys = {**_moved(document.keys, old, new), **keys}
            values = {**_moved(document.values, old, new), **values}
    return Document(document.source, data, keys, values)


def _with_includes(document: Document, path: Path, chain: list[Path]) -> Document:
    includes = document.data.get("include", [])
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise document.error(("include",), "must be a list of files")
    if len(includes) > MOST_INCLUDES or len(chain) > DEEPEST_INCLUDE:
        raise document.error(("include",), f"includes are nested deeper than {DEEPEST_INCLUDE} files")
    base = Document(document.source, {})
    for index, name in enumerate(includes):
        place: KeyPath = ("include", index)
        if Path(name).is_absolute():
            raise document.error(place, "must be relative to this file", hint=f"{name} is absolute")
        file = path.parent / name
        if file.resolve() in chain:
            raise document.error(place, f"{name} includes itself, by way of {path.name}")
        try:
            text = read_text(file)
        except InputError as error:
            raise document.error(place, error.message) from error
        included = parse_document(str(file), text)
        if not isinstance(included.data, dict):
            raise Place(str(file), 1, 1).error("must be a mapping")
        base = overlay(base, _with_includes(included, file, [*chain, file.resolve()]))
    return overlay(base, document)


def _setting(setting: str) -> Document:
    key, equals, text = setting.partition("=")
    source = f"--set {setting if len(setting) < 80 else setting[:77] + '…'}"  # noqa: PLR2004 - a line of a terminal
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise InputError(f"{source}: this is not key=value", "e.g. --set targets.vm.memory=512MiB")
    # To the parser of files, null is a file without content.
    value = None if text.strip() in _NULL else parse_document(source, text).data if text.strip() else ""
    data: Any = value
    for part in reversed(path):
        data = {part: data}
    place = Place(source, 0, 0)
    known = {path[:length]: place for length in range(1, len(path) + 1)}
    return Document(source, data, known, known)


def _merged(under: Any, over: Any) -> Any:  # noqa: ANN401 - YAML data is anything
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    merged = dict(under)
    for key, value in over.items():
        merged[key] = _merged(under[key], value) if key in under else value
    return merged


def _moved(places: Mapping[KeyPath, Place], old: KeyPath, new: KeyPath) -> dict[KeyPath, Place]:
    """The places below `old`, as if they were below `new`."""
    length = len(old)
    return {
        (*new, *path[length:]): place
        for path, place in places.items()
        if path[:length] == old and len(path) > length
    }


def _nodes(data: Any) -> int:  # noqa: ANN401 - YAML data is anything
    if isinstance(data, dict):
        return 1 + sum(_nodes(value) for value in data.values())
    return 1 + sum(_nodes(value) for value in data) if isinstance(data, list) else 1


def _as_yaml(data: Any) -> str:  # noqa: ANN401 - YAML data is anything
    yaml = YAML()
    yaml.width = 110
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
