"""JSON of unknown origin: bounded, and every value checked for its type before it is used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def parse_json(content: bytes, where: str) -> Json:
    """Parse a document.

    Raises:
        InputError: it is no JSON in UTF-8, or is nested beyond all measure.
    """
    try:
        return cast("Json", json.loads(content.decode()))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where} is no JSON document: {reason}") from error


class Document:
    """A JSON object; each method gives the value of a key, or raises an InputError that names it.

    An absent key and null are the same, as everywhere in OCI's schemas.
    """

    def __init__(self, value: Json, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected an object, found {_kind(value)}")
        self.values: Mapping[str, Json] = value
        self.where = where

    def optional_text(self, key: str) -> str | None:
        """A string without zero bytes, or None."""
        value = self.values.get(key)
        return None if value is None else _text(value, self._at(key))

    def text(self, key: str, default: str = "") -> str:
        """A string, or the default where it is absent."""
        value = self.optional_text(key)
        return default if value is None else value

    def required_text(self, key: str) -> str:
        """A string that must be there."""
        value = self.optional_text(key)
        if not value:
            raise InputError(f"{self._at(key)} is missing")
        return value

    def size(self, key: str) -> int:
        """A number of bytes that must be there."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InputError(f"{self._at(key)}: expected a number of bytes, found {_kind(value)}")
        return value

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise InputError(f"{self._at(key)}: expected a list, found {_kind(value)}")
        return tuple(_text(item, f"{self._at(key)}[{index}]") for index, item in enumerate(value))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty where it is absent."""
        return self.optional_texts(key) or ()

    def object(self, key: str) -> Document:
        """An object, empty where it is absent."""
        value = self.values.get(key)
        return Document({} if value is None else value, self._at(key))

    def objects(self, key: str) -> list[Document]:
        """A list of objects that must be there."""
        return objects(self.values.get(key), self._at(key))

    def text_mapping(self, key: str) -> dict[str, str]:
        """An object whose values are strings, empty where it is absent."""
        inner = self.object(key)
        return {name: _text(value, inner._at(name)) for name, value in inner.values.items()}

    def _at(self, key: str) -> str:
        return f"{self.where}: {key}"


def objects(value: Json, where: str) -> list[Document]:
    """A list of objects.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list, found {_kind(value)}")
    return [Document(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _text(value: Json, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {_kind(value)}")
    try:
        # JSON can spell lone surrogates and zero bytes; neither fits into a file name or an argument.
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: no Unicode text: {value[:100]!r}") from error
    if "\0" in value:
        raise InputError(f"{where}: a zero byte in {value[:100]!r}")
    return value


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), f"{str(value)[:40]}")
