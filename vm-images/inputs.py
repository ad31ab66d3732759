"""What an image is made from: a recipe or an imported image, the guest's init, and the builder itself."""

from __future__ import annotations

import difflib
import os
import platform
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError
from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.vm_images import cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybench.runtime.container.image import ImageStore, StoredImage
    from pybench.vm_images.recipe import LoadedRecipe

RECIPES_VARIABLE: Final = "PYBENCH_RECIPES"
"""A folder with recipes of the user's own, beside those that are shipped."""
RECIPE_FILE: Final = "image.yaml"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_KERNELS: Final = "kernels"
_KEEPERS: Final = ("__init__.py", "cache.py")
"""What finds and keeps built images, and has no part in what they become."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one image is made from: either a recipe or an imported image."""

    name: str
    hash: str
    """SHA-256 over all that is in this tree or in the cache of imported images, the command line included."""
    recipe: LoadedRecipe | None = None
    imported: StoredImage | None = None
    original: Inputs | None = None
    """Of a variant: what it is a variant of."""


def recipe_names() -> list[str]:
    """The images that there are recipes for."""
    return sorted(_recipe_folders())


def source_names() -> list[str]:
    """The images that can be built, from recipes and from imported images."""
    return sorted({*recipe_names(), *_store().names()})


def recipe_folder(name: str) -> Path:
    """The folder with the recipe of image `name`.

    Raises:
        InputError: there is none.
    """
    folders = _recipe_folders()
    if name not in folders:
        raise _unknown(name, sorted(folders))
    return folders[name]


def recipe_file(folder: Path, name: str) -> Path:
    """A file that a recipe names.

    Raises:
        InputError: there is none in the recipe's folder.
    """
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise InputError(f"the recipe names {name}, which is not a file in {folder}")
    return path


def kernel_configuration(name: str) -> Path:
    """The options of a kernel that is built from source.

    Raises:
        InputError: there is no such kernel.
    """
    folder = _package_folder("pybench.vm_images") / _KERNELS
    path = folder / f"{name}.config"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.config")))
        raise InputError(f"kernel.build: there are no options for a kernel called {name}", f"known: {known}")
    return path


def guest_sources() -> tuple[list[Path], list[Path]]:
    """The C files of the guest's init, and the headers they may include."""
    folder = _package_folder("pybench.runtime.vm") / "guest"
    return sorted(folder.glob("*.c")), sorted(folder.glob("*.h"))


def find_inputs(name: str) -> Inputs:
    """Everything that decides what the image `name` becomes.

    Which versions of packages and tools take part is decided when an image is built and recorded
    in its manifest; asking for them here would need apt, and a new version would rebuild unasked.

    Raises:
        InputError: there is neither such a recipe nor such an imported image, or the recipe is invalid.
    """
    if name in _recipe_folders():
        return _recipe_inputs(name)
    store = _store()
    if name not in store.names():
        raise _unknown(name, source_names())
    image = store.image(name)
    salt = "\n".join(str(layer.diff_id) for layer in image.layers)
    return Inputs(name, _hash([], salt), imported=image)


def _store() -> ImageStore:
    from pybench.runtime.container.image import ImageStore  # noqa: PLC0415 - recipes have no use for it

    return ImageStore()


def _recipe_inputs(name: str) -> Inputs:
    from pybench.vm_images.recipe import load_recipe  # noqa: PLC0415 - pydantic and YAML are slow to import

    folder = recipe_folder(name)
    loaded = load_recipe(folder / RECIPE_FILE, recipe_folder)
    folders = {"recipe": folder} | ({"root": loaded.root_folder} if loaded.root_folder != folder else {})
    files = [
        (f"{label}/{path.relative_to(place)}", path)
        for label, place in folders.items()
        for path in sorted(place.rglob("*"))
    ]
    kernel = loaded.recipe.kernel
    if kernel is not None and kernel.path is not None:
        files.append(("kernel", folder / kernel.path))
    elif kernel is not None and kernel.build is not None:
        files.append(("kernel", kernel_configuration(kernel.build)))
    original = _recipe_inputs(loaded.variant_of) if loaded.variant_of else None
    return Inputs(name, _hash(files, ""), recipe=loaded, original=original)


def _hash(files: list[tuple[str, Path]], salt: str) -> str:
    builder = _package_folder("pybench.vm_images")
    runtime = _package_folder("pybench.runtime.vm")
    sources, headers = guest_sources()
    files = files + [(f"guest/{path.name}", path) for path in (*sources, *headers)]
    files += [
        (f"builder/{path.name}", path) for path in sorted(builder.glob("*.py")) if path.name not in _KEEPERS
    ]
    files.append(("builder/initramfs.py", runtime / "initramfs.py"))
    with cache.storage_errors():
        present = [(label, path) for label, path in files if path.is_file() and "__pycache__" not in label]
        return cache.hash_files(present, "\n".join([platform.machine(), COMMAND_LINE, salt]))


def _recipe_folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place in _recipe_places():
        for path in place.glob(f"*/{RECIPE_FILE}"):
            name = path.parent.name
            if not _NAME.fullmatch(name):
                continue
            if name in found:
                hint = "give the second one another name"
                raise InputError(f"two recipes are called {name}: {found[name]} and {path.parent}", hint)
            found[name] = path.parent
    return found


def _recipe_places() -> Iterator[Path]:
    yield _package_folder("pybench.vm_images")
    if place := os.environ.get(RECIPES_VARIABLE):
        if not Path(place).is_dir():
            raise InputError(f"{RECIPES_VARIABLE} names {place}, which is not a folder")
        yield Path(place).absolute()


def _unknown(name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"known images: {', '.join(known)}"
    return InputError(f"there is no image called {name!r}", hint)


def _package_folder(package: str) -> Path:
    folder = resources.files(package)
    if not isinstance(folder, Path):
        raise InputError(f"the package {package} is not installed as plain files")
    return folder
