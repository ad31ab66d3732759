"""Images: one recipe gives one root filesystem, in every form that a target needs.

Importing this package is cheap; what a build needs is imported when something is built.
"""

# ruff: noqa: N999 - the folder is called vm-images, the package pybench.vm_images

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.runtime.errors import InputError
from pybench.vm_images import cache, inputs
from pybench.vm_images.image import Image, read_image, verify

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Image", "build", "find", "is_current", "list_images", "recipes", "verify"]


def recipes() -> list[str]:
    """The names of all images that can be built."""
    return inputs.recipe_names()


def build(name: str, *, rebuild: bool = False, progress: Callable[[str], None]) -> Image:
    """Build an image, unless an intact one of the same inputs is in the cache.

    Args:
        name: one of `recipes()`.
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
            raise InputError(
                f"image {name} is not built, or its recipe changed since", f"pybench images build {name}"
            )
        return read_image(folder)


def list_images() -> list[Image]:
    """Every intact-looking image in the cache, those of earlier recipes included, by name."""
    images = []
    with cache.storage_errors():
        for folder in cache.image_folders():
            try:
                images.append(read_image(folder))
            except InputError:
                # A damaged one is not usable, and `build` replaces it.
                continue
    return images


def is_current(image: Image) -> bool:
    """Whether the image was built from what its recipe says now."""
    return image.name in recipes() and image.input_hash == inputs.find_inputs(image.name).hash
