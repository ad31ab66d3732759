"""Recipes: what `image.yaml` says, validated; an error names the file, the line and the key."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

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

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_KERNELS: Final = ("linux-image-cloud-amd64", "linux-image-virtual")
"""Debian's and Ubuntu's kernel for virtual machines."""
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


def _none_by_name(value: object) -> object:
    """`none`, because an empty value in YAML looks like a mistake, and is taken for one."""
    if value is None:
        raise ValueError("is empty; an image without a kernel says: kernel: none")
    return None if value == "none" else value


GuestPath = Annotated[str, AfterValidator(_guest_path)]
LocalName = Annotated[str, AfterValidator(_local_name)]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
KernelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
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


class DebianEntry(_Strict):
    """Which Debian or Ubuntu the base is."""

    suite: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] | None = None
    """Its code name; by default that of this machine's own distribution."""
    variant: Literal["essential", "minbase", "apt", "required"] = "essential"
    """Which packages every image of it has; mmdebstrap(1) describes them."""


class KernelEntry(_Strict):
    """The guest's kernel, from one of four origins, and the modules its init loads."""

    package: Annotated[list[PackageName], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    """Debian packages, the preferred one first; the file may give a single name."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """A kernel of the user's own, a vmlinux or a bzImage; relative to the recipe's folder."""
    build: KernelName | None = None
    """A list of options in `kernels/`, compiled from the distribution's source package."""
    sources: Annotated[list[LocalName], Field(min_length=1)] | None = None
    """Assembler sources of the folder: the whole guest, which needs no other program."""
    script: LocalName | None = None
    """The linker script for `sources`."""
    modules: list[ModuleName] = []
    """Beside those that the form of the image needs, which are added."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.package, self.path, self.build, self.sources]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("needs exactly one of package, path, build and sources")
        if (self.sources is None) != (self.script is None):
            raise ValueError("sources and script go together")
        if self.modules and self.package is None:
            raise ValueError("only a package has modules")
        return self


class Recipe(_Strict):
    """How one image is made; the order of the keys here is the order in which they apply."""

    description: str
    base: Literal["busybox", "debian", "none"]
    debian: DebianEntry = DebianEntry()
    packages: list[PackageName] = []
    remove: list[GuestPath] = []
    directories: list[DirectoryEntry] = []
    files: list[FileEntry] = []
    links: list[LinkEntry] = []
    workloads: list[WorkloadEntry] = []
    marking: list[GuestPath] = []
    kernel: Annotated[KernelEntry | None, BeforeValidator(_none_by_name)]
    init: Literal["pybench", "none"] = "pybench"
    """What the kernel starts: our init, or nothing because the kernel is the whole guest."""
    form: Literal["auto", "initramfs", "disk"] = "auto"
    """What a guest finds its root filesystem in; `auto` takes a disk when it is large."""
    writable: bool = False
    """Whether a guest may write to its root, into memory; else a disk is read-only as in a container."""

    @model_validator(mode="after")
    def _paths_are_unique(self) -> Self:
        seen: set[str] = set()
        entries: tuple[_Placed, ...] = (*self.directories, *self.files, *self.links, *self.workloads)
        for entry in entries:
            if entry.path in seen:
                raise ValueError(f"{entry.path} is listed twice")
            seen.add(entry.path)
        return self

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if self.base != "debian" and "debian" in self.model_fields_set:
            raise ValueError("debian is for base: debian")
        bare_metal = self.kernel is not None and self.kernel.sources is not None
        if bare_metal != (self.init == "none"):
            raise ValueError("init: none and kernel.sources go together")
        if self.kernel is None and "form" in self.model_fields_set:
            raise ValueError("form is for images with a kernel")
        if self.writable and self.form == "initramfs":
            raise ValueError("an initramfs is writable anyway")
        return self


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe together with where its files are."""

    recipe: Recipe
    root_folder: Path
    """The folder of the files that the root filesystem is made of."""
    kernel_folder: Path
    """The folder of the files that the kernel is made of."""
    variant_of: str = ""
    """The recipe whose root filesystem it has, if not its own."""


def imported_recipe() -> Recipe:
    """What makes an imported image bootable: a kernel and our init are added, and nothing else changes.

    A disk keeps owners, dates and attributes, and the guest may write, as in a container of the image.
    """
    return Recipe(
        description="an imported image",
        base="none",
        kernel=KernelEntry(package=list(DEFAULT_KERNELS), modules=["virtio_console", "virtio_net"]),
        form="disk",
        writable=True,
    )


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Recipe,
    "debian": DebianEntry,
    "directories": DirectoryEntry,
    "files": FileEntry,
    "links": LinkEntry,
    "workloads": WorkloadEntry,
    "kernel": KernelEntry,
}
"""The key under which each kind of mapping stands; the recipe itself stands under none."""

_VARIANT_KEYS: Final = frozenset({"description", "variant_of", "kernel", "init", "form", "writable"})
"""What a variant may say: all that does not touch the root filesystem."""


def load_recipe(path: Path, find_folder: Callable[[str], Path]) -> LoadedRecipe:
    """Read and validate a recipe, or a variant of another one.

    A variant (`variant_of: NAME`) has the root filesystem of the recipe it names, and says what is
    different about the kernel.

    Args:
        path: the recipe.
        find_folder: gives the folder of the recipe of a name, or raises InputError.

    Raises:
        InputError: it cannot be read, is not YAML, or says something that makes no sense.
    """
    document = _read(path)
    if (name := document.get("variant_of")) is None:
        return LoadedRecipe(_validated(path, document), path.parent, path.parent)
    for key in document:
        if key not in _VARIANT_KEYS:
            hint = f"a variant may have: {', '.join(sorted(_VARIANT_KEYS))}"
            raise InputError(f"{path}:{_line(document, (key,))}: {key}: not a variant's to say", hint)
    try:
        origin = find_folder(str(name)) / path.name
        original = _read(origin)
    except InputError as error:
        line = _line(document, ("variant_of",))
        raise InputError(f"{path}:{line}: variant_of: {error.message}", error.hint) from error
    if "variant_of" in original:
        line = _line(document, ("variant_of",))
        raise InputError(f"{path}:{line}: variant_of: {name} is a variant itself")
    merged = CommentedMap(original)
    del document["variant_of"]
    merged.update(document)
    return LoadedRecipe(_validated(path, document, merged), origin.parent, path.parent, str(name))


def _read(path: Path) -> CommentedMap:
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
    return document


def _validated(path: Path, document: CommentedMap, merged: CommentedMap | None = None) -> Recipe:
    try:
        return Recipe.model_validate(merged or document)
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
