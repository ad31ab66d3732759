"""The content hash of a tree, and how a tree is normalised."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pybench.runtime.errors import InputError
from pybench.vm_images import tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree with a file, a program, a link and an empty directory."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "bin/program").write_text("#!/bin/sh\n")
    (root / "bin/program").chmod(0o700)
    (root / "file").write_text("content")
    (root / "link").symlink_to("file")
    tree.normalise(root, {})
    return root


def _rename(root: Path) -> None:
    (root / "file").rename(root / "elif")


def _change(root: Path) -> None:
    (root / "file").write_text("CONTENT")


def _retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("bin")


def _unmode(root: Path) -> None:
    (root / "file").chmod(0o600)


def _retype(root: Path) -> None:
    (root / "empty").rmdir()
    (root / "empty").touch()


def _add(root: Path) -> None:
    (root / "empty/new").mkdir()


@pytest.mark.parametrize("change", [_rename, _change, _retarget, _unmode, _retype, _add])
def test_any_change_of_content_changes_the_hash(root: Path, change: Callable[[Path], None]) -> None:
    """Names, contents, targets, modes, types and additions all count."""
    before = tree.content_hash(root)
    change(root)
    assert tree.content_hash(root) != before


def test_dates_do_not_count(root: Path) -> None:
    """A tree that was copied a day later has the same hash."""
    before = tree.content_hash(root)
    os.utime(root / "file", (1, 1))
    assert tree.content_hash(root) == before


def test_normalising_makes_modes_and_dates_independent_of_the_builder(root: Path) -> None:
    """Modes become 0755 or 0644 except where one is asked for, and every date is the same."""
    tree.normalise(root, {"/empty": 0o1777})
    modes = {member.path: member.status.st_mode & 0o7777 for member in tree.members(root)}
    assert modes["/bin/program"] == modes["/bin"] == 0o755
    assert modes["/file"] == 0o644
    assert modes["/empty"] == 0o1777
    assert {member.status.st_mtime for member in tree.members(root)} == {tree.SOURCE_DATE}


def test_modes_of_packages_stay_but_give_no_privilege(root: Path) -> None:
    """Asked to keep modes, a private file stays private and a set-user-id program loses that bit alone."""
    (root / "file").chmod(0o640)
    (root / "bin/program").chmod(0o4755)
    (root / "empty").chmod(0o3777)
    tree.normalise(root, {"/link": 0o777}, keep=True)
    modes = {member.path: member.status.st_mode & 0o7777 for member in tree.members(root)}
    assert (modes["/file"], modes["/bin/program"], modes["/empty"]) == (0o640, 0o755, 0o1777)


def test_the_latest_date_is_a_full_second_that_nothing_is_later_than(root: Path) -> None:
    """A fraction counts as the whole second that follows; an empty tree is of the epoch."""
    assert tree.latest_date(root) == tree.SOURCE_DATE
    os.utime(root / "file", ns=(0, (tree.SOURCE_DATE + 7) * 10**9 + 1))
    assert tree.latest_date(root) == tree.SOURCE_DATE + 8
    assert tree.latest_date(root / "empty") == 0


def test_what_no_image_can_hold_is_refused(root: Path) -> None:
    """A pipe in the tree is an input error that names it."""
    os.mkfifo(root / "pipe")
    with pytest.raises(InputError, match="pipe is neither"):
        tree.content_hash(root)
