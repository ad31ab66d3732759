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
    return load_recipe(path, inputs.recipe_folder).recipe


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    """What is left out is empty, a single kernel package is a list of one."""
    recipe = load(tmp_path, GOOD)
    assert recipe.kernel is not None
    assert recipe.kernel.package == ["linux-image-cloud-amd64"]
    assert recipe.kernel.modules == []
    assert recipe.files[0].mode == "0644"
    assert recipe.workloads == []
    assert (recipe.init, recipe.form, recipe.writable) == ("pybench", "auto", False)


@pytest.mark.parametrize("name", vm_images.recipes())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    """Each folder of vm-images that holds an image.yaml holds a good one."""
    loaded = load_recipe(inputs.recipe_folder(name) / inputs.RECIPE_FILE, inputs.recipe_folder)
    assert loaded.recipe.kernel is not None
    assert loaded.kernel_folder.name == name


@pytest.mark.parametrize(
    ("old", "new", "line", "words", "hint"),
    [
        ("base: busybox", "bsae: busybox", 2, "bsae: unknown key", "did you mean base?"),
        ("base: busybox", "base: solaris", 2, "base: Input should be 'busybox', 'debian' or 'none'", ""),
        ("base: busybox", "base: busybox\ndebian: {suite: sid}", 1, "debian is for base: debian", ""),
        ("base: busybox", "base: debian\ndebian: {suit: sid}", 3, "debian.suit: unknown key", "suite"),
        ("base: busybox", "base: debian\ndebian: {variant: tiny}", 3, "debian.variant: ", ""),
        ("base: busybox", "base: busybox\nform: floppy", 3, "form: ", ""),
        ("base: busybox", "base: busybox\nform: initramfs\nwritable: true", 1, "writable anyway", ""),
        ("base: busybox", "base: busybox\nremove: [usr/share]", 3, "remove.0: must be a plain", ""),
        ("base: busybox", "base: busybox\ninit: none", 1, "init: none and kernel.sources", ""),
        ("  package: linux", "  path: vmlinux\n  package: linux", 10, "exactly one of package, path", ""),
        ("  package: linux-image-cloud-amd64", "  sources: [a.S]", 10, "sources and script go together", ""),
        (
            "  package: linux-image-cloud-amd64",
            "  path: vmlinux\n  modules: [loop]",
            10,
            "only a package has modules",
            "",
        ),
        ("kernel:\n  package: linux-image-cloud-amd64", "kernel:", 10, "kernel: is empty", ""),
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
        load_recipe(tmp_path / "image.yaml", inputs.recipe_folder)
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_recipe(tmp_path / "image.yaml", inputs.recipe_folder)


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


def test_an_image_without_a_kernel_is_for_containers_alone(tmp_path: Path) -> None:
    """`kernel: none` is read as no kernel."""
    text = GOOD.replace("kernel:\n  package: linux-image-cloud-amd64\n", "kernel: none\n")
    assert load(tmp_path, text).kernel is None


def test_a_variant_has_the_root_filesystem_of_another_recipe(tmp_path: Path) -> None:
    """What it says replaces what the other says, and the files are looked for where each of them is."""
    folder = tmp_path / "faster"
    folder.mkdir()
    (folder / "image.yaml").write_text("variant_of: minimal\nkernel: {path: vmlinux}\n")
    loaded = load_recipe(folder / "image.yaml", inputs.recipe_folder)
    original = load_recipe(inputs.recipe_folder("minimal") / "image.yaml", inputs.recipe_folder)
    assert loaded.recipe.kernel is not None
    assert loaded.recipe.kernel.path == "vmlinux"
    assert loaded.recipe.files == original.recipe.files
    assert (loaded.root_folder.name, loaded.kernel_folder) == ("minimal", folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variant_of: minimla\nkernel: none\n", ":1: variant_of: there is no image called 'minimla'"),
        ("variant_of: minimal\nfiles: []\n", ":2: files: not a variant's to say"),
        ("variant_of: minimal-tiny\nkernel: none\n", ":1: variant_of: minimal-tiny is a variant itself"),
        ("variant_of: [minimal]\n", ":1: variant_of: there is no image"),
    ],
)
def test_a_mistaken_variant_is_reported_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    """A variant of nothing, of a variant, or one that touches the root filesystem is an input error."""
    (tmp_path / "image.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "image.yaml", inputs.recipe_folder)
    assert caught.value.message.startswith(f"{tmp_path / 'image.yaml'}{words}")


def test_recipes_of_the_users_own_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that $PYBENCH_RECIPES names is looked into, too; a name may not be taken twice."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/image.yaml").write_text(GOOD)
    monkeypatch.setenv(inputs.RECIPES_VARIABLE, str(tmp_path))
    assert "mine" in vm_images.recipes()
    (tmp_path / "mine").rename(tmp_path / "minimal")
    with pytest.raises(InputError, match="two recipes are called minimal"):
        vm_images.recipes()
    monkeypatch.setenv(inputs.RECIPES_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(InputError, match="not a folder"):
        vm_images.recipes()


def test_a_recipe_and_all_that_it_names_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe, a file beside it and the user's kernel each change the hash of the inputs."""
    monkeypatch.setenv(inputs.RECIPES_VARIABLE, str(tmp_path / "recipes"))
    folder = tmp_path / "recipes/mine"
    folder.mkdir(parents=True)
    kernel = tmp_path / "vmlinux"
    kernel.write_text("a kernel")
    (folder / "image.yaml").write_text(f"variant_of: minimal\nkernel: {{path: {kernel}}}\n")
    found = {inputs.find_inputs("mine").hash}
    assert inputs.find_inputs("mine").hash in found
    kernel.write_text("another kernel")
    found.add(inputs.find_inputs("mine").hash)
    (folder / "notes").write_text("beside it")
    found.add(inputs.find_inputs("mine").hash)
    monkeypatch.setattr(inputs, "COMMAND_LINE", "console=ttyS0")
    found.add(inputs.find_inputs("mine").hash)
    assert len(found) == 4
