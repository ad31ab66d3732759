"""Images that differ from others in the guest's kernel alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pybench import vm_images
from pybench.harness.errors import InputError
from pybench.runtime.journal import open_journal

_VARIABLE: Final = "PYBENCH_RECIPES"
_RECIPE: Final = "image.yaml"
_DIGITS: Final = 8


class Variants:
    """Images with another kernel; what is built of them stays in the cache, as every image does."""

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[str, str]] = {}

    def add(self, image: str, kernel: str) -> str:
        """The name of an image's variant, the same one for the same kernel.

        Args:
            image: one that has a recipe.
            kernel: the path of a `vmlinux` or `bzImage`, or the name of one that is built from source.
        """
        name = f"{image}-{hashlib.sha256(kernel.encode()).hexdigest()[:_DIGITS]}"
        self._wanted[name] = image, kernel
        return name

    @contextmanager
    def recipes(self) -> Iterator[None]:
        """Have recipes of the variants beside the user's own, for as long as this lasts.

        Raises:
            InputError: an image has no recipe, or there is no such kernel.
        """
        if not self._wanted:
            yield
            return
        users = os.environ.get(_VARIABLE)
        with open_journal() as journal:
            folder, number = journal.make_directory("directory", "recipes-")
            try:
                for recipe in Path(users).absolute().glob(f"*/{_RECIPE}") if users else ():
                    (folder / recipe.parent.name).symlink_to(recipe.parent)
                for name, (image, kernel) in self._wanted.items():
                    _write(folder / name, image, kernel)
                os.environ[_VARIABLE] = str(folder)
                yield
            finally:
                if users is None:
                    os.environ.pop(_VARIABLE, None)
                else:
                    os.environ[_VARIABLE] = users
                shutil.rmtree(folder)
                journal.forget(number)


def _write(folder: Path, image: str, kernel: str) -> None:
    if image not in vm_images.recipes():
        raise InputError(
            f"kernel={kernel}: the image {image} has no recipe, so there is no variant of it",
            "`pybench images list` tells which have one",
        )
    if "/" in kernel:
        path = Path(kernel).expanduser().absolute()
        if not path.is_file():
            raise InputError(f"kernel={kernel}: there is no such file", "name a vmlinux or a bzImage")
        chosen = {"path": str(path)}
    else:
        chosen = {"build": kernel}
    recipe = {"description": f"{image} with {kernel}", "variant_of": image, "kernel": chosen}
    folder.mkdir()
    # JSON is YAML.
    (folder / _RECIPE).write_text(json.dumps(recipe), encoding="utf-8")
