"""What an image is made from: its recipe's folder, the guest's init, and the builder itself."""

from __future__ import annotations

import difflib
import platform
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from pybench.runtime.errors import InputError
from pybench.vm_images import cache

RECIPE_FILE: Final = "image.yaml"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one image is made from."""

    name: str
    folder: Path
    """The recipe's."""
    hash: str
    """SHA-256 over the recipe's folder, the guest's init and the builder."""


def recipe_names() -> list[str]:
    """The images that there are recipes for."""
    folders = _package_folder("pybench.vm_images").glob(f"*/{RECIPE_FILE}")
    return sorted(path.parent.name for path in folders if _NAME.fullmatch(path.parent.name))


def recipe_folder(name: str) -> Path:
    """The folder with the recipe of image `name`.

    Raises:
        InputError: there is none.
    """
    known = recipe_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
        raise InputError(f"there is no image called {name!r}", f"known images: {', '.join(near)}")
    return _package_folder("pybench.vm_images") / name


def guest_sources() -> tuple[list[Path], list[Path]]:
    """The C files of the guest's init, and the headers they may include."""
    folder = _package_folder("pybench.runtime.vm") / "guest"
    return sorted(folder.glob("*.c")), sorted(folder.glob("*.h"))


def find_inputs(name: str) -> Inputs:
    """Everything in this tree that decides what the image `name` becomes.

    Which versions of packages and tools take part is decided when an image is built and recorded
    in its manifest; asking for them here would need apt, and a new version would rebuild unasked.

    Raises:
        InputError: there is no such recipe.
    """
    folder = recipe_folder(name)
    builder = _package_folder("pybench.vm_images")
    sources, headers = guest_sources()
    files = [(f"recipe/{path.relative_to(folder)}", path) for path in sorted(folder.rglob("*"))]
    files += [(f"guest/{path.name}", path) for path in (*sources, *headers)]
    files += [(f"builder/{path.name}", path) for path in sorted(builder.glob("*.py"))]
    files.append(("builder/initramfs.py", _package_folder("pybench.runtime.vm") / "initramfs.py"))
    with cache.storage_errors():
        present = [(label, path) for label, path in files if path.is_file() and "__pycache__" not in label]
        return Inputs(name, folder, cache.hash_files(present, platform.machine()))


def _package_folder(package: str) -> Path:
    folder = resources.files(package)
    if not isinstance(folder, Path):
        raise InputError(f"the package {package} is not installed as plain files")
    return folder
