"""The pages about scenarios, the options of targets, and metrics, from what validates scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pybench.harness.cli.output import Record
from pybench.harness.cli.reference.pages import ORIGIN, table
from pybench.harness.measure import MEASUREMENTS
from pybench.harness.scenario.schema import json_schema
from pybench.harness.targets import KINDS, TargetSettings
from pybench.harness.units import format_seconds

_REFERENCE: Final = r"\$\{"
"""How the pattern of a reference to a parameter begins."""
_WORDS: Final[dict[str, str]] = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
}
_PATTERNS: Final = {"Duration": "(ns|us|", "Size": "[kKMGTP]?i?B", "Label": "^[a-z0-9][a-z0-9._-]{0,62}$"}
_OF_PATTERN: Final = {
    "Duration": "duration, e.g. `10s`",
    "Size": "size, e.g. `128MiB`",
    "Label": "label",
}
_SECTIONS: Final = {
    "Workloads": "WorkloadModel",
    "Readiness": "ReadinessModel",
    "Resources": "ResourcesModel",
    "Files": "FileModel",
    "Schedule": "ScheduleModel",
    "Stop rules": "StopModel",
    "Settling": "SettleModel",
    "Gate": "GateModel",
    "Defaults": "DefaultsModel",
}

Schema = Mapping[str, Any]


def scenario_page() -> str:
    """Every key of a scenario file but those of targets."""
    schema = json_schema()
    definitions = schema["$defs"]
    lines = [
        "# Keys of a scenario",
        "",
        f"{ORIGIN} What they are for, with examples: [the scenario language](../scenarios.md). The options "
        "of targets have [a page of their own](targets.md). `pybench schema` prints the same as JSON Schema, "
        "for editors.",
        "",
        "## Top level",
        "",
        *_keys(schema),
    ]
    for title, name in _SECTIONS.items():
        if name in definitions:
            lines += [
                "",
                f"## {title}",
                "",
                definitions[name].get("description", ""),
                "",
                *_keys(definitions[name]),
            ]
    lines += ["", "## Measurements", "", "What each measures: [metrics](metrics.md)."]
    for name, measurement in MEASUREMENTS.items():
        lines += ["", f"### {name}", "", _sentence(measurement.description), ""]
        lines += _keys(definitions[f"measure-{name}"]) or ["It has no options."]
    return "\n".join(lines) + "\n"


def targets_page() -> str:
    """What every kind of target is, and its options."""
    definitions = json_schema()["$defs"]
    common = set(TargetSettings.model_fields)
    first = next(iter(KINDS))
    lines = [
        "# Targets and their options",
        "",
        ORIGIN,
        "",
        *table(
            [
                {"target": f"[`{name}`](#{name})", "what it is": _sentence(kind.description)}
                for name, kind in KINDS.items()
            ]
        ),
        "",
        "## Every target",
        "",
        *_keys(definitions[f"target-{first}"], only=common),
    ]
    for name, kind in KINDS.items():
        own = set(kind.settings.model_fields) - common
        lines += ["", f"## {name}", "", f"{kind.title}: {_sentence(kind.description)}", ""]
        lines += _keys(definitions[f"target-{name}"], only=own) or ["It has no options of its own."]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Every metric, by what measures it."""
    lines = [
        "# Metrics",
        "",
        f"{ORIGIN} How each is obtained, and what its error is: [method](../method.md), "
        "[load](../measurements.md) and [throughput](../throughput.md). `pybench list metrics` prints them.",
    ]
    for name, measurement in MEASUREMENTS.items():
        rows: list[Record] = [
            {"metric": f"`{each.name}`", "unit": f"`{each.unit}`", "meaning": _sentence(each.description)}
            for each in measurement.metrics
        ]
        lines += ["", f"## {name}", "", _sentence(measurement.description), "", *table(rows)]
    return "\n".join(lines) + "\n"


def _keys(schema: Schema, only: set[str] | None = None) -> list[str]:
    required = schema.get("required", [])
    rows: list[Record] = []
    for name, node in schema.get("properties", {}).items():
        if only is not None and name not in only:
            continue
        rows.append(
            {
                "key": f"`{name}`",
                "value": _kind(node),
                "default": "required" if name in required else _default(node),
                "meaning": _sentence(_found(node, "description") or ""),
            }
        )
    return table(rows)


def _kind(node: Schema) -> str:
    """What a key takes, in a few words."""
    match _plain(node):
        case {"$ref": str(reference)}:
            return _section(reference.rpartition("/")[2])
        case {"enum": list(values)}:
            return ", ".join(f"`{each}`" for each in values)
        case {"anyOf": list(choices)}:
            return " or ".join(dict.fromkeys(map(_kind, choices)))
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": "object", "patternProperties": values}:
            return f"name → {_kind(next(iter(values.values())))}"
        case plain:
            return _of_pattern(plain) or _words(plain)


def _section(model: str) -> str:
    """A link to the section about a model."""
    title = next((title for title, name in _SECTIONS.items() if name == model), "")
    return f"[{title.lower()}](#{title.lower().replace(' ', '-')})" if title else "mapping"


def _of_pattern(node: Schema) -> str:
    pattern = node.get("pattern", "")
    return next((_OF_PATTERN[name] for name, part in _PATTERNS.items() if part in pattern), "")


def _words(node: Schema) -> str:
    kinds = node.get("type", [])
    words = [_WORDS.get(each, str(each)) for each in (kinds if isinstance(kinds, list) else [kinds])]
    return " or ".join(words or ["anything"]) + _bounds(node)


def _bounds(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}"
    return f" from {low:,}" if low is not None else f" up to {high:,}" if high is not None else ""


def _plain(node: Schema) -> Schema:
    """Without the alternatives that every key has: a reference to a parameter, and nothing."""
    while True:
        choices = [
            each
            for each in node.get("anyOf", [])
            if each.get("type") != "null" and not str(each.get("pattern", "")).startswith(_REFERENCE)
        ]
        if len(choices) != 1:
            return {**node, "anyOf": choices} if choices else node
        node = choices[0]


def _found(node: Schema, key: str) -> Any:  # noqa: ANN401 - a schema is JSON
    """A key of the node or of the first alternative that has it."""
    for each in _layers(node):
        if key in each:
            return each[key]
    return None


def _layers(node: Schema) -> Iterator[Schema]:
    yield node
    for each in node.get("anyOf", []):
        yield from _layers(each)


def _default(node: Schema) -> str:
    value = _found(node, "default")
    match value:
        case None | "" | [] | {}:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float() | str():
            return f"`{_amount(value, node)}`"
        case _:
            return ""


def _amount(value: float | str, node: Schema) -> str:
    """A number as one would write it: with the unit of its kind."""
    kind = _kind(node)
    if isinstance(value, str):
        return value
    if kind == _WORDS["string"]:
        return f"{int(value):04o}"  # The one number that is written as text is a file's mode.
    if kind == _OF_PATTERN["Duration"]:
        return f"{value:g}s" if value >= 1 else format_seconds(value)
    mebibytes = value / 2**20
    if kind == _OF_PATTERN["Size"] and mebibytes.is_integer() and value:
        return f"{mebibytes:.0f}MiB"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    said = " ".join(text.split())
    return f"{said[0].upper()}{said[1:]}{'' if said.endswith('.') else '.'}" if said else ""
