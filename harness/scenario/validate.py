"""Data held against a model; every problem is told with its place and the nearest valid name."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pybench.harness.errors import InputError
from pybench.harness.fields import PATTERN_PROBLEMS
from pybench.harness.scenario.document import Document, KeyPath, Place

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_LONGEST_QUOTE: Final = 60
_PROBLEMS: Final = {
    "missing": "this key is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
}
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something valid is near, else nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def validate(document: Document, model: type[AnyModel], data: object, path: KeyPath = ()) -> AnyModel:
    """The data as the model.

    Args:
        document: what knows where everything stands.
        model: the model.
        data: what stands at `path`.
        path: where the data stands in the document.

    Raises:
        InputError: the first problem, missing keys last, with its place; the hint tells of the others.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(document, model, details, path) for details in error.errors(include_url=False)]
    # A key that is missing is often one that was misspelt, so what is there comes before what is not.
    (*_, first), *others = sorted(problems, key=lambda entry: entry[:2])
    if others:
        rest = f"{len(others)} more: " + " | ".join(other.message for *_, other in others[:3])
        raise InputError(first.message, f"{first.hint}; {rest}" if first.hint else rest)
    raise first


def _problem(
    document: Document, model: type[BaseModel], details: ErrorDetails, path: KeyPath
) -> tuple[bool, Place, InputError]:
    """Whether a key is missing, the place, and the error."""
    kind, location = details["type"], tuple(details["loc"])
    at_key = kind in {"extra_forbidden", "missing"} or location[-1:] == ("[key]",)
    if location[-1:] == ("[key]",):
        location = location[:-1]
    hint = ""
    value = details["input"]
    if kind == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        problem = f"unknown key{nearest(str(location[-1]), known)}"
        hint = f"known are {', '.join(known)}"
    else:
        pattern = details.get("ctx", {}).get("pattern", "")
        problem = _length_problem(details) or _PROBLEMS.get(kind) or PATTERN_PROBLEMS.get(pattern, "")
        problem = problem or details["msg"]
        problem = problem.removeprefix("Value error, ").replace("Input should be", "must be")
        if kind != "missing" and isinstance(value, str | int | float | None) and repr(value) not in problem:
            problem = f"{problem}, not {_quoted(value)}"
    if kind == "string_type" and not isinstance(value, dict | list):
        hint = "put it in quotes"
    elif kind == "literal_error" and isinstance(value, str):
        known = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        problem += nearest(value, known)
    full = (*path, *location)
    error = document.error(full, problem, at_key=at_key, hint=hint)
    return kind == "missing", document.place(full, at_key=at_key), error


def _length_problem(details: ErrorDetails) -> str:
    """Of a list or a mapping with too few or too many entries; else nothing."""
    context = details.get("ctx", {})
    if details["type"] == "too_short":
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have {least} entries at least"
    if details["type"] == "too_long":
        return f"must have {context['max_length']} entries at most, not {context['actual_length']}"
    return ""


def _quoted(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that are valid at a place: follow the models' annotations down the location."""
    annotation: Any = model
    for part in location:
        annotation = _bare(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]
    annotation = _bare(annotation)
    return list(annotation.model_fields)


def _bare(annotation: Any) -> Any:  # noqa: ANN401 - annotations are of any type
    """Without `Annotated[…]` and `| None`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in {types.UnionType, typing.Union}:
            annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
        else:
            return annotation
