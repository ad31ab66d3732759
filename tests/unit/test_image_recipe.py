"""Recipes: what is accepted, and how a mistake is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybench import vm_images
from pybench.runtime.errors import InputError
from pybench.vm_images import inputs
from pybench.vm_images.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
description: for a test
base: busybox
directories:
  - path: /srv
    mode: "1777"
files:
  - path: /etc/hosts
    text: |
      127.0.0.1 localhost
kernel:
  package: linux-image-cloud-amd64
"""


def load(folder: Path, text: str) -> Recipe:
    """Read `text` as a recipe from a file in `folder`."""
    path = folder / "image.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    """What is left out is empty, a single kernel package is a list of one."""
    recipe = load(tmp_path, GOOD)
    assert recipe.kernel.package == ["linux-image-cloud-amd64"]
    assert recipe.kernel.modules == []
    assert recipe.files[0].mode == "0644"
    assert recipe.workloads == []


@pytest.mark.parametrize("name", vm_images.recipes())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    """Each folder of vm-images that holds an image.yaml holds a good one."""
    assert load_recipe(inputs.recipe_folder(name) / inputs.RECIPE_FILE).base == "busybox"


@pytest.mark.parametrize(
    ("old", "new", "line", "words", "hint"),
    [
        ("base: busybox", "bsae: busybox", 2, "bsae: unknown key", "did you mean base?"),
        ("base: busybox", "base: solaris", 2, "base: ", ""),
        (
            "  package: linux",
            "  packages: linux",
            11,
            "kernel.packages: unknown key",
            "did you mean package?",
        ),
        ("    text: |\n      127.0.0.1 localhost\n", "", 7, "files.0: needs either text or source", ""),
        ('"1777"', "1777", 5, "directories.0.mode: a mode is three or four octal digits", ""),
        ('"1777"', '"9999"', 5, "directories.0.mode: a mode is three or four octal digits", ""),
        ("/etc/hosts", "etc/hosts", 7, "files.0.path: must be a plain absolute path", ""),
        ("/etc/hosts", "/etc/../hosts", 7, "files.0.path: ", ""),
        ("/etc/hosts", "/.pybench/init", 7, "belongs to the harness", ""),
        ("/etc/hosts", "/srv", 1, "/srv is listed twice", ""),
        ("linux-image-cloud-amd64", "'; rm -rf /'", 11, "kernel.package", ""),
        ("linux-image-cloud-amd64", "[]", 11, "kernel.package", ""),
        ("description: for a test\n", "", 1, "description: Field required", ""),
        ("base: busybox", "base: [busybox", 3, "", ""),
        ("base: busybox", "base: busybox\nbase: busybox", 3, "duplicate key", ""),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_key(
    tmp_path: Path, *, old: str, new: str, line: int, words: str, hint: str
) -> None:
    """The message begins with file and line and names the key; a near miss suggests the right key."""
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    position = f"{tmp_path / 'image.yaml'}:"
    assert caught.value.message.startswith(position)
    if words:
        assert caught.value.message.startswith(f"{position}{line}: ")
    assert words in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["", "- a list\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file, a list and a scalar are input errors."""
    with pytest.raises(InputError, match="a recipe is a mapping"):
        load(tmp_path, text)


def test_an_unreadable_recipe_is_named(tmp_path: Path) -> None:
    """A missing file and one that is not text are input errors that name the path."""
    with pytest.raises(InputError, match="No such file"):
        load_recipe(tmp_path / "image.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_recipe(tmp_path / "image.yaml")


def test_an_unknown_image_names_those_there_are() -> None:
    """A misspelt name is an input error whose hint has the nearest one."""
    with pytest.raises(InputError, match="minimla") as caught:
        vm_images.find("minimla")
    assert "minimal" in caught.value.hint


@pytest.mark.parametrize("name", ["../minimal", "", ".", "minimal/", "__pycache__"])
def test_a_name_cannot_lead_out_of_the_recipes(name: str) -> None:
    """Whatever is no recipe's plain name is unknown, paths included."""
    with pytest.raises(InputError, match="there is no image"):
        vm_images.find(name)
