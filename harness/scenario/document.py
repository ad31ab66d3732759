"""YAML text as plain data that knows where each key and value stood; hostile input is bounded first."""

from __future__ import annotations

import difflib
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from pybench import scenarios
from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE: Final = 2**20
DEEPEST: Final = 32
MOST_NODES: Final = 20_000
"""Counted after aliases are expanded, so that a few lines of aliases cannot fill the memory."""

KeyPath = tuple[str | int, ...]
Position = tuple[int, int]
"""Line and column, both from 1."""
TOP: Final[Position] = (1, 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for, as errors have it."""

    noun: str
    example: str
    """Where a complete one is to be seen."""


SCENARIO: Final = Kind("scenario", "`docs/scenarios.md` shows a complete scenario")


class Place(NamedTuple):
    """Where something stands: in a file, at a line and column; or, with line 0, in an option."""

    source: str
    line: int
    column: int

    def error(self, problem: str, hint: str = "") -> InputError:
        """An error whose message starts with the place."""
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return InputError(f"{where}: {problem}", hint)


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one YAML file, later of several that were merged."""

    source: str
    data: Any
    """Dictionaries with text keys, lists and scalars."""
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    """Where each key stands; for an item of a list, where the item stands."""
    values: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath, *, at_key: bool = False) -> Place:
        """Where a value stands, or its key, or the nearest enclosing value whose place is known."""
        positions = self.keys if at_key else self.values
        for length in range(len(path), 0, -1):
            if found := positions.get(path[:length]) or self.keys.get(path[:length]):
                return found
        return Place(self.source, *TOP)

    def error(self, path: KeyPath, problem: str, *, at_key: bool = False, hint: str = "") -> InputError:
        """An error that names the place and the key."""
        text = f"{dotted(path)}: {problem}" if path else problem
        return self.place(path, at_key=at_key).error(text, hint)


def dotted(path: KeyPath) -> str:
    """`workloads.ready.command[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def located(source: str, position: Position, problem: str, hint: str = "") -> InputError:
    """An error whose message starts with `file:line:column`."""
    return Place(source, *position).error(problem, hint)


def read_document(path: Path, kind: Kind) -> Document:
    """A file of YAML with its places.

    Raises:
        InputError: as of `read_text` and `parse_document`.
    """
    return parse_document(str(path), read_text(path, kind), kind)


def read_text(path: Path, kind: Kind = SCENARIO) -> str:
    """The text of a file.

    Raises:
        InputError: it is missing, not a file, unreadable, larger than 1 MiB, or not UTF-8 text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise InputError(f"{path}: this is {what}", f"the {kind.noun} is a file of YAML: {kind.example}")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        hint = _instead_of(path, kind) if absent else "name a file that you may read"
        raise InputError(f"{path}: cannot read the {kind.noun}: {error.strerror}", hint) from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not a file name: {error}") from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path}: the file is larger than 1 MiB", f"a {kind.noun} has a few dozen lines")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise located(
            str(path), (line, column), "this is not UTF-8 text", "save the file as UTF-8"
        ) from error
    return text


def _instead_of(path: Path, kind: Kind) -> str:
    """What may have been meant by a file that is not there."""
    if kind is not SCENARIO:
        return kind.example
    near = difflib.get_close_matches(path.stem, scenarios.names(), n=1)
    return f"did you mean {near[0]}?" if near else "see `pybench list` for the shipped scenarios"


def parse_document(source: str, text: str, kind: Kind = SCENARIO) -> Document:
    """Parse bounded YAML 1.2.

    Raises:
        InputError: the YAML is malformed, empty, has duplicate keys, tags, more than one document, nests
            deeper than 32 levels, or expands to more than 20,000 nodes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_bounds(source, text)
            data = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        raise _syntax_error(source, error) from error
    except ReaderError as error:
        position = (
            text.count("\n", 0, error.position) + 1,
            error.position - text.rfind("\n", 0, error.position),
        )
        raise located(source, position, "this control character is not allowed in YAML") from error
    except (YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: this is not valid YAML: {reason}") from error
    if data is None:
        raise located(source, TOP, "the file is empty", kind.example)
    document = Document(source, None)
    plain = _Plainer(document).plain(data, ())
    return Document(source, plain, document.keys, document.values)


def _syntax_error(source: str, error: MarkedYAMLError) -> InputError:
    mark = error.problem_mark or error.context_mark
    position = (mark.line + 1, mark.column + 1) if mark else TOP
    # The parser appends advice about its own interface after the first line.
    problem = (str(error.problem) if error.problem else "malformed YAML").splitlines()[0]
    if problem.startswith("but ") and error.context:
        problem = f"{error.context} {problem}"
    hint = ""
    if problem.startswith("found duplicate key"):
        problem = problem.split(" with value")[0].replace("found duplicate key", "duplicate key")
        hint = "remove one of the two"
    elif "cannot start any token" in problem and "'\\t'" in problem:
        hint = "indent with spaces, not tabs"
    return located(source, position, problem, hint)


def _check_bounds(source: str, text: str) -> None:
    bounds = _Bounds(source)
    events: Iterator[Any] = YAML(typ="rt", pure=True).parse(text)
    for event in events:
        bounds.see(event)


class _Bounds:
    """Walks the parser's events, which are not yet expanded, and counts what expanding them would make."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sizes: dict[str, int] = {}
        """Nodes of each anchored value that is complete."""
        self._open: list[tuple[str | None, int]] = [(None, 0)]
        """One entry per open collection: its anchor and the nodes in it so far."""

    def see(self, event: Any) -> None:  # noqa: ANN401 - the parser is not typed
        """Count one event; refuse what the bounds do not allow."""
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case CollectionEndEvent():
                added = self._close()
            case AliasEvent():
                if event.anchor not in self._sizes:
                    problem = f"the alias *{event.anchor} refers to nothing that is complete"
                    raise located(self._source, place, problem)
                added = self._sizes[event.anchor]
            case NodeEvent():
                added = self._begin(event, place)
            case _:
                added = 0
        anchor, size = self._open[-1]
        self._open[-1] = (anchor, size + added)
        if size + added > MOST_NODES:
            raise located(self._source, place, f"the file expands to more than {MOST_NODES:,} values")

    def _begin(self, event: NodeEvent, place: Position) -> int:
        anchor = event.anchor
        if anchor is not None:
            if anchor in self._sizes or any(anchor == other for other, _ in self._open):
                raise located(self._source, place, f"the anchor &{anchor} is used twice")
            if not isinstance(event, CollectionStartEvent):
                self._sizes[anchor] = 1
        if not isinstance(event, CollectionStartEvent):
            return 1
        self._open.append((anchor, 1))
        if len(self._open) > DEEPEST:
            raise located(self._source, place, f"nested deeper than {DEEPEST} levels")
        return 0

    def _close(self) -> int:
        anchor, size = self._open.pop()
        if anchor is not None:
            self._sizes[anchor] = size
        return size


class _Plainer:
    """Turns the round-trip tree into plain data and notes the positions on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def plain(self, node: object, path: KeyPath) -> Any:  # noqa: ANN401 - YAML data is anything
        match node:
            case CommentedMap():
                return self._mapping(node, path)
            case CommentedSeq():
                return self._sequence(node, path)
            case TaggedScalar():
                raise self._document.error(path, "tags such as !this are not part of the language")
            case bool() | None:
                return node
            case ScalarBoolean():
                return bool(node)
            case str() | int() | float():
                # The round-trip tree has subclasses of these that remember how they were written.
                return next(kind(node) for kind in (str, int, float) if isinstance(node, kind))
            case _:
                kind = "date" if hasattr(node, "year") else "value"
                raise self._document.error(path, f"a {kind} cannot stand here", hint="put it in quotes")

    def _mapping(self, node: CommentedMap, path: KeyPath) -> dict[str, Any]:
        self._refuse_tag(node, path)
        plain: dict[str, Any] = {}
        for key, value in node.items():
            if not isinstance(key, str):
                raise self._document.error(path, f"the key {key!r} is not text", hint="put it in quotes")
            inner = (*path, str(key))
            if key in (node.lc.data or {}):
                line, column, value_line, value_column = node.lc.data[key]
                self._document.keys[inner] = Place(self._document.source, line + 1, column + 1)
                # A value that is not there stands, for the parser, where the next thing begins.
                there = (line, column) if value is None else (value_line, value_column)
                self._document.values[inner] = Place(self._document.source, there[0] + 1, there[1] + 1)
            plain[str(key)] = self.plain(value, inner)
        return plain

    def _sequence(self, node: CommentedSeq, path: KeyPath) -> list[Any]:
        self._refuse_tag(node, path)
        plain = []
        for index, value in enumerate(node):
            inner = (*path, index)
            line, column = node.lc.item(index)
            place = Place(self._document.source, line + 1, column + 1)
            self._document.keys[inner] = self._document.values[inner] = place
            plain.append(self.plain(value, inner))
        return plain

    def _refuse_tag(self, node: CommentedMap | CommentedSeq, path: KeyPath) -> None:
        if node.tag.value is not None:
            raise self._document.error(path, "tags such as !this are not part of the language")
