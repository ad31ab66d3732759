"""From JSON to frozen dataclasses: each value is of its type, or refused by the path of its key.

The types in the dataclass are the whole grammar. `null` counts as absent, as it does for the
programs in Go that write most of these documents. A key that no field has is not an error, since
the runtime specification forbids that ("Extensibility"); it becomes a warning.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pybench.runtime.errors import InputError

T = TypeVar("T")

SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Between:
    """The range of a whole number, both ends included."""

    lowest: int
    highest: int


Int64 = Annotated[int, Between(-(2**63), 2**63 - 1)]
UInt16 = Annotated[int, Between(0, 2**16 - 1)]
UInt32 = Annotated[int, Between(0, 2**32 - 1)]
UInt64 = Annotated[int, Between(0, 2**64 - 1)]


def key(name: str) -> Mapping[str, str]:
    """The metadata of a field whose key is not its own name in camel case."""
    return {"json": name}


def show(value: object) -> str:
    """A value from a document for an error message: escaped, and cut where it is long."""
    text = ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def decode(kind: type[T], value: object, path: str, warnings: list[str]) -> T:
    """Build a dataclass from a JSON object; appends a warning for each key it does not know.

    Raises:
        InputError: a value has the wrong type, or a required key is missing; starts with its path.
    """
    return cast(T, _object(kind, value, path, warnings))


def field_paths(kind: type[Any], path: str = "") -> Iterator[str]:
    """The path of every field that holds no further fields: `mounts[].options`, `linux.sysctl`.

    `[]` stands for any index and `{}` for any key.
    """
    for name, annotation, _ in _fields(kind):
        inner, suffix = _contained(annotation)
        place = _join(path, name) + suffix
        if dataclasses.is_dataclass(inner):
            yield from field_paths(cast(type[Any], inner), place)
        else:
            yield place.removesuffix("[]").removesuffix("{}")


def _contained(annotation: object) -> tuple[object, str]:
    """What an annotation is about, without `None` and containers, and the signs of the latter."""
    annotation = _without_none(annotation)
    match get_origin(annotation), get_args(annotation):
        case builtin, (item, *_) if builtin is tuple:
            return item, "[]"
        case abstract, (_, item) if abstract is Mapping:
            return item, "{}"
    return annotation, ""


_FIELDS: Final[dict[type[Any], tuple[tuple[str, object, bool], ...]]] = {}
"""What `_fields` has found out: it looks at annotations, which is slow."""


def _fields(kind: type[Any]) -> tuple[tuple[str, object, bool], ...]:
    """Key, type and whether it must be there, for each field."""
    if kind not in _FIELDS:
        hints = get_type_hints(kind, include_extras=True)
        _FIELDS[kind] = tuple(
            (
                json_key(field),
                hints[field.name],
                field.default is field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(kind)
        )
    return _FIELDS[kind]


def json_key(field: dataclasses.Field[Any]) -> str:
    """The key of a field in the document."""
    camel_case = re.sub(r"_(\w)", lambda match: match[1].upper(), field.name)
    return cast(str, field.metadata.get("json", camel_case))


def _join(path: str, name: str) -> str:
    if not re.fullmatch(r"\w+", name, re.ASCII):
        return f"{path}[{show(name)}]"
    return f"{path}.{name}" if path else name


def _object(kind: type[Any], value: object, path: str, warnings: list[str]) -> object:
    document = _expect(dict, value, path, "an object")
    given: dict[str, object] = {}
    expected = _fields(kind)
    for (name, annotation, required), field in zip(expected, dataclasses.fields(kind), strict=True):
        if document.get(name) is not None:
            given[field.name] = _value(annotation, document[name], _join(path, name), warnings)
        elif required:
            raise InputError(f"{_join(path, name)}: is required and not given")
    known = {name for name, _, _ in expected}
    warnings.extend(
        f"{_join(path, name)}: not a property of the runtime specification; ignored"
        for name in document
        if name not in known
    )
    return kind(**given)


def _value(annotation: object, value: object, path: str, warnings: list[str]) -> object:
    annotation = _without_none(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        items = _expect(list, value, path, "a list")
        return tuple(_value(arguments[0], item, f"{path}[{i}]", warnings) for i, item in enumerate(items))
    if origin is Mapping:
        entries = _expect(dict, value, path, "an object")
        return {
            _text(name, path): _value(arguments[1], item, _join(path, name), warnings)
            for name, item in entries.items()
        }
    if dataclasses.is_dataclass(annotation):
        return _object(cast(type[Any], annotation), value, path, warnings)
    return _scalar(annotation, value, path)


def _scalar(annotation: object, value: object, path: str) -> object:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _number(value, path, arguments[1])
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{path}: {show(value)} is not one of {', '.join(arguments)}")
        return value
    if annotation is str:
        return _text(value, path)
    if annotation is bool:
        return _expect(bool, value, path, "true or false")
    # What is left is `object`: a part of the document that is passed on as it is.
    return value


def _without_none(annotation: object) -> object:
    if get_origin(annotation) in {Union, types.UnionType}:
        return next(part for part in get_args(annotation) if part is not types.NoneType)
    return annotation


def _expect(kind: type[T], value: object, path: str, wanted: str) -> T:
    if not isinstance(value, kind):
        raise InputError(f"{path or 'the document'}: expected {wanted}, not {show(value)}")
    return value


def _number(value: object, path: str, between: Between) -> int:
    # To Python true is a number; to JSON it is not.
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not between.lowest <= value <= between.highest
    ):
        wanted = f"a whole number from {between.lowest} to {between.highest}"
        raise InputError(f"{path}: expected {wanted}, not {show(value)}")
    return value


def _text(value: object, path: str) -> str:
    text = _expect(str, value, path, "a string")
    # Neither can be handed to a system call: it would see another text than the one given here.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{path}: {show(text)} has a null character or half of a surrogate pair")
    return text
