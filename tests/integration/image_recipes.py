"""Recipes and caches of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.vm_images import cache, inputs

BUSYBOX = """\
description: for a test
base: busybox
directories: [{path: /dev}, {path: /etc}, {path: /proc}, {path: /run}, {path: /sys}, {path: /tmp}]
"""


def ignore(_: str) -> None:
    """Progress that nobody wants to hear of."""


def use_empty_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache of images that shares the user's own cache of packages."""
    downloads = cache.downloads_directory()
    downloads.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "downloads").symlink_to(downloads)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder))
    return folder


def add_recipe(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add a recipe to the user's own ones, which are kept in `folder`; returns its folder."""
    recipe = folder / name
    recipe.mkdir(parents=True)
    (recipe / inputs.RECIPE_FILE).write_text(text, encoding="utf-8")
    monkeypatch.setenv(inputs.RECIPES_VARIABLE, str(folder))
    return recipe
