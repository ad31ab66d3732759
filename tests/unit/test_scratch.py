"""Room on the host's disk for an instance: made, formatted, and gone in the end."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from pybench.runtime.errors import HostError, InputError, LeftoverError
from pybench.runtime.journal import open_journal
from pybench.runtime.leftovers import REMOVERS
from pybench.runtime.scratch import make_disk, scratch_directory


def test_a_directory_is_there_for_a_while(tmp_path: Path) -> None:
    """It is journalled before it is made, open to every user, and removed with what is in it."""
    with open_journal(tmp_path) as journal:
        with scratch_directory(journal, tmp_path) as place:
            (entry,) = journal.entries
            assert entry.details == {"path": str(place)}
            assert place.stat().st_mode & 0o7777 == 0o1777
            (place / "deep").mkdir()
            (place / "deep" / "file").write_text("x")
        assert not place.exists()
        assert journal.entries == ()


def test_what_a_killed_run_leaves_is_removed(tmp_path: Path) -> None:
    """By its journal's entry; and nothing that has another kind of name, or is a link to elsewhere."""
    remove = REMOVERS["scratch"]
    left = tmp_path / f"pybench-scratch-{'0' * 16}"
    left.mkdir()
    (left / "disk").write_bytes(b"x")
    assert str(left) in remove({"path": str(left)})
    assert not left.exists()
    assert remove({"path": str(left)}) == ""
    kept = tmp_path / "precious"
    kept.mkdir()
    left.symlink_to(kept)
    for path in (kept, left):
        with pytest.raises(LeftoverError, match="no scratch directory"):
            remove({"path": str(path)})
    assert kept.is_dir()


def test_a_place_that_cannot_hold_it_is_told(tmp_path: Path) -> None:
    """The path and the reason, and nothing stays in the journal."""
    with open_journal(tmp_path) as journal:
        with (
            pytest.raises(HostError, match=r"missing/pybench-scratch-.*: No such file"),
            scratch_directory(journal, tmp_path / "missing"),
        ):
            pass
        assert journal.entries == ()


def test_a_disk_has_an_empty_file_system(tmp_path: Path) -> None:
    """ext4 with a journal, of the whole size, all of it reserved on the host."""
    if shutil.which("mke2fs") is None:
        pytest.skip("mke2fs of e2fsprogs is missing")
    path = make_disk(tmp_path, 16 << 20)
    status = path.stat()
    assert status.st_size == 16 << 20
    assert status.st_blocks * 512 >= 16 << 20
    with path.open("rb") as disk:
        disk.seek(1024)
        block = disk.read(1024)
    # struct ext4_super_block: s_magic and s_feature_compat (https://docs.kernel.org/filesystems/ext4/).
    magic, compatible = struct.unpack_from("<H", block, 0x38)[0], struct.unpack_from("<I", block, 0x5C)[0]
    assert magic == 0xEF53
    assert compatible & 0x4


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """It would have no journal, and fsync would mean something else."""
    with pytest.raises(InputError, match="too small"):
        make_disk(tmp_path, 1 << 20)
