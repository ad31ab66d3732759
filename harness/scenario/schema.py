"""The scenario language as JSON Schema, made of the models that validate it, for editors."""

from __future__ import annotations

from typing import Any, Final

from pybench.harness.measure import MEASUREMENTS
from pybench.harness.scenario.language import ScenarioModel, WorkloadModel
from pybench.harness.targets import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
"""JSON Schema draft 2020-12, which pydantic writes."""
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{[a-z0-9][a-z0-9._-]*\}"}
_NOT_TEXT: Final = ("integer", "number", "boolean")


def json_schema() -> dict[str, Any]:
    """The schema of a scenario file.

    A target's options are those of its kind, which its label or its key `kind` names. Wherever a parameter
    may stand, in workloads and targets, a `${reference}` is as good as a value.
    """
    schema = ScenarioModel.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for name, kind in KINDS.items():
        settings = kind.settings.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(settings.pop("$defs", {}))
        definitions[f"target-{name}"] = {**settings, "title": kind.title, "description": kind.description}
    for name in [WorkloadModel.__name__, *_used_by(definitions, WorkloadModel.__name__)]:
        definitions[name] = _with_references(definitions[name])
    for name in KINDS:
        definitions[f"target-{name}"] = _with_references(definitions[f"target-{name}"])
    schema["properties"]["targets"] = {
        **{key: schema["properties"]["targets"][key] for key in ("title", "minProperties", "maxProperties")},
        "type": "object",
        "properties": {name: _by_kind(name) for name in KINDS},
        "additionalProperties": {"required": ["kind"], **_by_kind(None)},
    }
    schema["properties"]["measure"] = _measure(definitions, schema["properties"]["measure"])
    workload_defaults = definitions["DefaultsModel"]["properties"]["workload"]
    workload_defaults["properties"] = definitions[WorkloadModel.__name__]["properties"]
    workload_defaults["additionalProperties"] = False
    # Each of these may come from a file that is included.
    schema.pop("required", None)
    return {"$schema": DIALECT, "title": "pybench scenario", **schema}


def _measure(definitions: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A list of measurements, or each with its options."""
    for name, measurement in MEASUREMENTS.items():
        settings = measurement.settings.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(settings.pop("$defs", {}))
        definitions[f"measure-{name}"] = {**settings, "title": name, "description": measurement.description}
    names = {"type": "array", "items": {"enum": list(MEASUREMENTS)}, "minItems": 1, "uniqueItems": True}
    options = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/measure-{name}"} for name in MEASUREMENTS},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {"description": described["description"], "anyOf": [names, options]}


def _by_kind(default: str | None) -> dict[str, Any]:
    """The options of the kind that a target names; of `default` where it names none."""
    rules: list[dict[str, Any]] = [
        {
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": {"$ref": f"#/$defs/target-{name}"},
        }
        for name in KINDS
    ]
    if default is not None:
        rules.append({"if": {"not": {"required": ["kind"]}}, "then": {"$ref": f"#/$defs/target-{default}"}})
    return {"type": "object", "properties": {"kind": {"enum": list(KINDS)}}, "allOf": rules}


def _used_by(definitions: dict[str, Any], name: str) -> list[str]:
    """The definitions that one refers to, directly or not."""
    found: list[str] = []
    pending = [definitions[name]]
    while pending:
        match pending.pop():
            case {"$ref": str(reference), **rest}:
                target = reference.removeprefix("#/$defs/")
                if target not in found:
                    found.append(target)
                    pending.append(definitions[target])
                pending += rest.values()
            case dict(node):
                pending += node.values()
            case list(items):
                pending += items
    return found


def _with_references(node: Any) -> Any:  # noqa: ANN401 - a schema is JSON
    """Each value that is no text may also be a reference to a parameter."""
    if isinstance(node, list):
        return [_with_references(item) for item in node]
    if not isinstance(node, dict):
        return node
    kinds = node.get("type")
    if kinds in _NOT_TEXT or isinstance(kinds, list) or ("pattern" in node and kinds == "string"):
        kept = {key: node[key] for key in ("title", "description", "default") if key in node}
        return {**kept, "anyOf": [{key: node[key] for key in node if key not in kept}, _REFERENCE]}
    if "enum" in node:
        return {"anyOf": [node, _REFERENCE]}
    return {key: _with_references(value) for key, value in node.items()}
