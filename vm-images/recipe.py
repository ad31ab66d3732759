"""Recipes: what `image.yaml` says, validated; an error names the file, the line and the key."""

from __future__ import annotations

import difflib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pybench.runtime.errors import InputError

_LONGEST_RECIPE: Final = 1 << 20


def _guest_path(value: str) -> str:
    if not value.startswith("/") or value == "/" or str(PurePosixPath(value)) != value or "\0" in value:
        raise ValueError("must be a plain absolute path such as /etc/hosts")
    if ".." in PurePosixPath(value).parts or value.startswith("//"):
        raise ValueError("must not contain '..' or begin with '//'")
    if PurePosixPath(value).parts[1] == ".pybench":
        raise ValueError("/.pybench belongs to the harness")
    return value


def _local_name(value: str) -> str:
    if not value or value.startswith(".") or PurePosixPath(value).name != value:
        raise ValueError("must name a file in the recipe's folder")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


GuestPath = Annotated[str, AfterValidator(_guest_path)]
LocalName = Annotated[str, AfterValidator(_local_name)]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Mode = Annotated[str, Field(pattern=r"^[0-7]{3,4}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Placed(_Strict):
    path: GuestPath


class FileEntry(_Placed):
    """A file, either with the text given here or copied from the recipe's folder."""

    text: str | None = None
    source: LocalName | None = None
    mode: Mode = "0644"

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if (self.text is None) == (self.source is None):
            raise ValueError("needs either text or source")
        return self


class DirectoryEntry(_Placed):
    """An empty directory, for instance a mount point."""

    mode: Mode = "0755"


class LinkEntry(_Placed):
    """A symbolic link."""

    target: Annotated[str, Field(min_length=1, max_length=4095, pattern=r"^[^\x00]+$")]


class WorkloadEntry(_Placed):
    """A program compiled statically from C files of the recipe's folder."""

    sources: Annotated[list[LocalName], Field(min_length=1)]


class KernelEntry(_Strict):
    """The guest's kernel: a Debian package, and the modules its init loads."""

    package: Annotated[list[PackageName], BeforeValidator(_as_list), Field(min_length=1)]
    """Alternatives, the preferred one first; the file may give a single name."""
    modules: list[ModuleName] = []


class Recipe(_Strict):
    """How one image is made; the order of the keys here is the order in which they apply."""

    description: str
    base: Literal["busybox"]
    packages: list[PackageName] = []
    directories: list[DirectoryEntry] = []
    files: list[FileEntry] = []
    links: list[LinkEntry] = []
    workloads: list[WorkloadEntry] = []
    marking: list[GuestPath] = []
    kernel: KernelEntry

    @model_validator(mode="after")
    def _paths_are_unique(self) -> Self:
        seen: set[str] = set()
        entries: tuple[_Placed, ...] = (*self.directories, *self.files, *self.links, *self.workloads)
        for entry in entries:
            if entry.path in seen:
                raise ValueError(f"{entry.path} is listed twice")
            seen.add(entry.path)
        return self


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Recipe,
    "directories": DirectoryEntry,
    "files": FileEntry,
    "links": LinkEntry,
    "workloads": WorkloadEntry,
    "kernel": KernelEntry,
}
"""The key under which each kind of mapping stands; the recipe itself stands under none."""


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        InputError: it cannot be read, is not YAML, or says something that makes no sense.
    """
    try:
        with path.open(encoding="utf-8") as content:
            text = content.read(_LONGEST_RECIPE)
        document = YAML(typ="rt").load(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text") from error
    except YAMLError as error:
        raise _syntax_error(path, error) from error
    if not isinstance(document, CommentedMap):
        raise InputError(f"{path}:1: a recipe is a mapping of keys such as base and kernel")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise _meaning_error(path, document, error) from error


def _syntax_error(path: Path, error: YAMLError) -> InputError:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return InputError(f"{path}:{error.problem_mark.line + 1}: {error.problem}")
    return InputError(f"{path}: {str(error).splitlines()[0]}")


def _meaning_error(path: Path, document: CommentedMap, error: ValidationError) -> InputError:
    # An unknown key first: a misspelt one is also missing, and then the spelling is the mistake.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location = first["loc"]
    key = ".".join(str(part) for part in location) or "the recipe"
    reason = first["msg"].removeprefix("Value error, ")
    hint = ""
    if first["type"] == "extra_forbidden":
        reason = "unknown key"
        known = list(_MODELS[str(location[0]) if len(location) > 1 else ""].model_fields)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    elif location and location[-1] == "mode":
        reason = 'a mode is three or four octal digits in quotes, such as "0755"'
    return InputError(f"{path}:{_line(document, location)}: {key}: {reason}", hint)


def _line(document: CommentedMap, location: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `location` that the file contains, from 1."""
    line = 0
    node: Any = document
    for part in location:
        try:
            line = node.lc.key(part)[0] if isinstance(node, CommentedMap) else node.lc.item(part)[0]
            node = node[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return int(line) + 1
