"""Images: one recipe gives one root filesystem, in every form that a target needs.

Importing this package is cheap; what a build needs is imported when something is built.
"""

# ruff: noqa: N999 - the folder is called vm-images, the package pybench.vm_images

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from pybench.runtime.errors import InputError
from pybench.vm_images import cache, inputs
from pybench.vm_images.image import Image, image_name, read_image, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = [
    "Image",
    "RecipeState",
    "build",
    "check",
    "damaged",
    "find",
    "list_images",
    "outdated",
    "recipe_state",
    "recipes",
    "remove",
    "remove_leftovers",
    "sources",
    "verify",
]


RecipeState = Literal["current", "changed since", "gone"]
"""What became of the recipe, or the imported image, that an image was built from."""


def recipes() -> list[str]:
    """The names of all images that there are recipes for."""
    return inputs.recipe_names()


def sources() -> list[str]:
    """The names of all images that can be built: from recipes, and from imported images."""
    return inputs.source_names()


def build(name: str, *, rebuild: bool = False, progress: Callable[[str], None]) -> Image:
    """Build an image, unless an intact one of the same inputs is in the cache.

    Args:
        name: one of `sources()`; an imported image gets a kernel and an init.
        rebuild: build it anew even so, with the package versions that apt offers now.
        progress: told, in a few words, what is being done.

    Raises:
        InputError: there is no such recipe, it makes no sense, or a source does not compile.
        HostError: a tool, a package, the network or disk space is missing.
    """
    from pybench.vm_images.builder import build_image  # noqa: PLC0415 - pydantic and YAML are slow to import

    return build_image(inputs.find_inputs(name), rebuild=rebuild, progress=progress)


def find(name: str) -> Image:
    """The built image of today's recipe; its sizes are checked, not its content (see `verify`).

    Raises:
        InputError: there is no such recipe, or it is not built, or the image is damaged.
    """
    folder = cache.image_folder(name, inputs.find_inputs(name).hash)
    with cache.storage_errors():
        if not folder.is_dir():
            hint = f"pybench images build {name}"
            raise InputError(f"image {name} is not built, or its recipe changed since", hint)
        return read_image(folder)


def check(names: Sequence[str] = ()) -> list[tuple[str, Path, str]]:
    """Recompute the hashes of everything built, or of all builds of the images named.

    Returns for each of them its name, its folder, and what is wrong with it; nothing if it is intact.

    Raises:
        InputError: nothing is built of an image named.
    """
    found = []
    with cache.storage_errors():
        for folder in _built(names):
            problem = ""
            try:
                verify(read_image(folder))
            except InputError as error:
                problem = error.message
            found.append((image_name(folder), folder, problem))
    return found


def remove(name: str, *, keep_current: bool = False, progress: Callable[[str], None]) -> list[Path]:
    """Remove all builds of an image, or only those of earlier recipes; returns their folders.

    Waits for a build of the image that is under way.

    Raises:
        InputError: nothing is built of it.
    """
    current = inputs.find_inputs(name).hash if keep_current else ""
    with cache.storage_errors(), cache.locked(cache.images_directory(), cache.safe_name(name), progress):
        folders = [
            folder
            for folder in _built([name])
            if not keep_current or folder != cache.image_folder(name, current)
        ]
        for folder in folders:
            cache.discard(folder, cache.safe_name(name))
    return folders


def remove_leftovers() -> list[Path]:
    """Remove what killed builds left; a build that is under way is left alone. Returns what is gone."""
    with cache.storage_errors():
        return cache.remove_all_leftovers()


def _built(names: Sequence[str]) -> list[Path]:
    folders = cache.image_folders()
    if not names:
        return folders
    for name in names:
        if name not in {image_name(folder) for folder in folders}:
            raise InputError(f"no image called {name} is built", "pybench images list")
    return [folder for folder in folders if image_name(folder) in names]


def list_images() -> list[Image]:
    """Every intact-looking image in the cache, those of earlier recipes included, by name, newest first."""
    images = [image for _, image in _read_built() if image is not None]
    images.sort(key=lambda image: image.created, reverse=True)
    return sorted(images, key=lambda image: image.name)


def damaged() -> list[tuple[str, Path]]:
    """Name and folder of every build that `find` would refuse; what looks intact `check` looks into."""
    return [(image_name(folder), folder) for folder, image in _read_built() if image is None]


def outdated() -> list[str]:
    """The names of all images of which there are builds from an earlier state of their recipe."""
    names = []
    with cache.storage_errors():
        folders = cache.image_folders()
    for name in sorted({image_name(folder) for folder in folders}):
        # What has no recipe here may be another project's, which is current there.
        with contextlib.suppress(InputError):
            current = cache.image_folder(name, inputs.find_inputs(name).hash)
            if any(image_name(folder) == name and folder != current for folder in folders):
                names.append(name)
    return names


def recipe_state(image: Image) -> RecipeState:
    """Whether the image was built from what its recipe, or the imported image, says now."""
    try:
        current = image.input_hash == inputs.find_inputs(image.name).hash
    except InputError:
        return "gone"
    return "current" if current else "changed since"


def _read_built() -> list[tuple[Path, Image | None]]:
    found: list[tuple[Path, Image | None]] = []
    with cache.storage_errors():
        for folder in cache.image_folders():
            try:
                found.append((folder, read_image(folder)))
            except InputError:
                found.append((folder, None))
    return found
