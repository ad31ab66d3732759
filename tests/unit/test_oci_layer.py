"""Layers become directories for overlayfs; hostile ones are refused and leave nothing outside."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from typing import TYPE_CHECKING

import pytest
from oci_archives import describe, directory, entry, hard_link, symlink, tar

from pybench.runtime.container.image import flatten
from pybench.runtime.container.image.beneath import is_whiteout
from pybench.runtime.container.image.layer import LayerFacts, unpack
from pybench.runtime.container.image.limits import Limits
from pybench.runtime.container.image.merged import is_opaque
from pybench.runtime.container.image.tar import TarReader
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Entries = list[tuple[tarfile.TarInfo, bytes]]


def unpacked(root: Path, *entries: tuple[tarfile.TarInfo, bytes], limits: Limits | None = None) -> LayerFacts:
    """Unpack a layer of these entries into the new directory `root`."""
    root.mkdir()
    limits = limits or Limits()
    return unpack(TarReader(io.BytesIO(tar(*entries)), "layer", limits), root, "layer", limits)


def test_files_keep_what_the_archive_says_of_them(tmp_path: Path) -> None:
    """Content, mode with setuid, date to the nanosecond and extended attributes; a directory's, too."""
    facts = unpacked(
        tmp_path / "root",
        directory("./", mode=0o711, mtime=7),
        directory("bin/", mode=0o1777, mtime=1000, pax_headers={"SCHILY.xattr.user.kind": "folder"}),
        entry(
            "bin/su",
            data=b"program",
            mode=0o4755,
            pax_headers={"mtime": "5.000000009", "SCHILY.xattr.user.note": "hello"},
        ),
        entry("bin/read-only", mode=0o444, pax_headers={"SCHILY.xattr.user.note": "set all the same"}),
        entry("bin/pipe", tarfile.FIFOTYPE, mode=0o640),
    )
    root, folder, program = tmp_path / "root", tmp_path / "root/bin", tmp_path / "root/bin/su"
    assert stat.S_IMODE(root.stat().st_mode) | 0o700 == 0o711
    assert (root.stat().st_mtime, folder.stat().st_mtime) == (7, 1000)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert os.getxattr(folder, "user.kind") == b"folder"
    assert (program.read_bytes(), stat.S_IMODE(program.stat().st_mode)) == (b"program", 0o4755)
    assert (program.stat().st_mtime_ns, os.getxattr(program, "user.note")) == (5_000_000_009, b"hello")
    assert os.getxattr(folder / "read-only", "user.note") == b"set all the same"
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    assert (facts.entries, facts.size) == (5, 7)


def test_links_keep_what_they_point_to(tmp_path: Path) -> None:
    """A hard link shares its file, also that of a symbolic link; a symbolic link may point anywhere."""
    unpacked(
        tmp_path / "root",
        symlink("outside", "../../etc/passwd"),
        symlink("absolute", "/etc/passwd"),
        entry("file", data=b"shared"),
        hard_link("a/twin", "./file"),
        hard_link("a/same-link", "absolute"),
    )
    root = tmp_path / "root"
    assert str((root / "outside").readlink()) == "../../etc/passwd"
    assert (root / "a/twin").samefile(root / "file")
    assert str((root / "a/same-link").readlink()) == "/etc/passwd"


def test_names_are_relative_to_the_layer_however_they_are_written(tmp_path: Path) -> None:
    """An absolute name counts from the root of the layer, and missing directories are made."""
    unpacked(tmp_path / "root", entry("/etc/hostname"), entry("./././usr//bin/env"))
    names = {str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*")}
    assert names == {"etc", "etc/hostname", "usr", "usr/bin", "usr/bin/env"}
    status = (tmp_path / "root/usr").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 0)


KINDS = {
    "file": [entry("x", data=b"new")],
    "directory": [directory("x/", mode=0o700), entry("x/inner", data=b"new")],
    "symbolic link": [symlink("x", "new")],
    "hard link": [entry("y", data=b"new"), hard_link("x", "y")],
    "pipe": [entry("x", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_the_last_entry_of_a_name_wins(tmp_path: Path, first: str, second: str) -> None:
    """Whatever kinds two entries of one name are, the result is that of the second alone."""
    unpacked(tmp_path / "both", *KINDS[first], *KINDS[second])
    unpacked(tmp_path / "alone", *KINDS[second])
    both, alone = describe(tmp_path / "both"), describe(tmp_path / "alone")
    assert {path: both[path] for path in alone} == alone
    assert set(both) - set(alone) <= {"y"}


def test_replacing_a_linked_file_leaves_its_twin_alone(tmp_path: Path) -> None:
    """The new content goes to a new file, as with tar."""
    unpacked(tmp_path / "root", entry("a", data=b"old"), hard_link("b", "a"), entry("a", data=b"new"))
    assert ((tmp_path / "root/a").read_bytes(), (tmp_path / "root/b").read_bytes()) == (b"new", b"old")


def test_a_directory_listed_twice_keeps_its_content(tmp_path: Path) -> None:
    """Mode, date and attributes are those of the second entry."""
    attribute = {"SCHILY.xattr.user.first": "1"}
    unpacked(
        tmp_path / "root",
        directory("d/", pax_headers=attribute),
        entry("d/f"),
        directory("d/", mode=0o750, mtime=9),
    )
    folder = tmp_path / "root/d"
    assert (folder / "f").exists()
    assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_mtime) == (0o750, 9)
    assert "user.first" not in os.listxattr(folder)


def test_a_whiteout_is_what_overlayfs_takes_for_one(tmp_path: Path) -> None:
    """It is a character device 0:0, whether written as OCI's empty file or as the device itself."""
    unpacked(
        tmp_path / "root",
        entry("etc/.wh.gone"),
        entry("raw", tarfile.CHRTYPE, devmajor=0, devminor=0),
    )
    for name in ("etc/gone", "raw"):
        assert is_whiteout((tmp_path / "root" / name).lstat())
    assert not (tmp_path / "root/etc/.wh.gone").exists()


@pytest.mark.parametrize("whiteout_first", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_a_whiteout_never_hides_what_its_own_layer_has(
    tmp_path: Path, whiteout_first: bool, listed: bool
) -> None:
    """The order does not count; a directory beside its whiteout is a new one, so it is opaque."""
    own: Entries = [entry("file", data=b"own")]
    own += ([directory("folder/")] if listed else []) + [entry("folder/own")]
    markers = [entry(".wh.file"), entry(".wh.folder")]
    unpacked(tmp_path / "upper", *(markers + own if whiteout_first else own + markers))
    unpacked(tmp_path / "lower", entry("file", data=b"lower"), entry("folder/lower"))
    flatten([tmp_path / "upper", tmp_path / "lower"], tmp_path / "flat")
    assert (tmp_path / "flat/file").read_bytes() == b"own"
    assert [path.name for path in (tmp_path / "flat/folder").iterdir()] == ["own"]


def test_an_opaque_directory_is_marked_for_both_kinds_of_overlay(tmp_path: Path) -> None:
    """With `user.overlay.opaque` always, and as root with `trusted.overlay.opaque`, too."""
    facts = unpacked(tmp_path / "root", entry("d/f"), entry("d/.wh..wh..opq"), entry(".wh..wh..opq"))
    assert is_opaque(tmp_path / "root/d")
    attributes = os.listxattr(tmp_path / "root/d")
    assert "user.overlay.opaque" in attributes
    assert ("trusted.overlay.opaque" in attributes) == (os.geteuid() == 0)
    assert facts.opaque_root


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    """A file of 1 GiB that is one hole takes no space, here and in the flattened tree."""
    size = 1 << 30
    headers = {"GNU.sparse.map": f"4096,4,{size},0", "GNU.sparse.size": str(size)}
    unpacked(tmp_path / "root", entry("hole", data=b"data", pax_headers=headers))
    flatten([tmp_path / "root"], tmp_path / "flat")
    for tree in ("root", "flat"):
        status = (tmp_path / tree / "hole").stat()
        assert status.st_size == size
        assert status.st_blocks * 512 < 1 << 20
        with (tmp_path / tree / "hole").open("rb") as file:
            assert os.pread(file.fileno(), 6, 4095) == b"\0data\0"


HOSTILE: dict[str, tuple[Entries, str]] = {
    "parent directory": ([entry("../escape")], "leads outside"),
    "parent directory within": ([entry("a/../../escape")], "leads outside"),
    "absolute parent": ([entry("/../escape")], "leads outside"),
    "through a symbolic link": ([symlink("a", ".."), entry("a/escape")], "parent 'a' of an entry is a symb"),
    "through an absolute link": ([symlink("a", "/"), entry("a/tmp/escape")], "is a symbolic link"),
    "through a link to a link": ([symlink("a", "b"), symlink("b", ".."), entry("a/escape")], "is a symbolic"),
    "deep link": ([directory("a/"), symlink("a/b", "../.."), entry("a/b/escape")], "'a/b'.*is a symbolic"),
    "directory through a link": ([symlink("a", ".."), directory("a/escape/")], "is a symbolic link"),
    "whiteout through a link": ([symlink("a", ".."), entry("a/.wh.secret")], "is a symbolic link"),
    "opaque link": ([symlink("a", ".."), entry("a/.wh..wh..opq")], "is a symbolic link"),
    "beneath a file": ([entry("a"), entry("a/b")], "is no directory"),
    "hard link outside": ([hard_link("a", "../secret")], "leads outside"),
    "hard link to an absolute path": ([hard_link("a", "/etc/passwd")], "not an earlier file of this layer"),
    "hard link through a link": ([symlink("a", ".."), hard_link("b", "a/secret")], "not an earlier file"),
    "hard link to a lower layer": ([hard_link("a", "bin/true")], "not an earlier file"),
    "hard link to a later file": ([hard_link("a", "b"), entry("b")], "not an earlier file"),
    "hard link to a directory": ([directory("a/"), hard_link("b", "a")], "not an earlier file"),
    "hard link to itself": ([entry("a"), hard_link("a", "a")], "not an earlier file"),
    "hard link to a whiteout": ([entry(".wh.a"), hard_link("b", "a")], "not an earlier file"),
    "hard link over its target": ([entry("a/b"), hard_link("a", "a/b")], "not an earlier file"),
    "block device": ([entry("sda", tarfile.BLKTYPE, devmajor=8, devminor=0)], r"block device \(8:0\)"),
    "character device": ([entry("kmem", tarfile.CHRTYPE, devmajor=1, devminor=2)], r"device \(1:2\)"),
    "whiteout of nothing": ([entry(".wh.")], "no possible name"),
    "whiteout of the parent": ([entry("a/.wh...")], "no possible name"),
    "whiteout of itself": ([entry("a/.wh..")], "no possible name"),
    "aufs": ([entry(".wh..wh.plnk")], "no possible name"),
    "inside a whiteout": ([entry(".wh.a/b")], "inside a whiteout"),
    "whiteout with content": ([entry(".wh.a", data=b"x")], "not an empty file"),
    "whiteout that is a link": ([symlink(".wh.a", "b")], "not an empty file"),
    "empty name": ([entry("")], "is no name"),
    "root that is a file": ([entry(".")], "is the root of the layer, and a file"),
    "root that is a link": ([symlink(".", "/")], "is the root of the layer, and a symbolic link"),
    "long name": ([entry("n" * 256)], "more than 255 bytes"),
    "long path": ([entry("n/" * 2100 + "n")], "more than 4095 bytes or 256 names"),
    "deep path": ([entry("n/" * 257 + "n")], "more than 4095 bytes or 256 names"),
    "link to nothing": ([symlink("a", "")], "is a symbolic link to ''"),
    "long target": ([symlink("a", "t" * 5000)], "is a symbolic link to"),
    "zero byte": ([entry("a", pax_headers={"path": "a\0b"})], "is no name"),
    "trusted attribute": ([entry("a", pax_headers={"SCHILY.xattr.trusted.x": "y"})], "'trusted.x'"),
    "system attribute": (
        [entry("a", pax_headers={"SCHILY.xattr.system.posix_acl_access": "y"})], "'system.posix_acl_access'"),
    "overlay attribute": (
        [directory("a/", pax_headers={"SCHILY.xattr.user.overlay.redirect": "/b"})], "'user.overlay.r"),
    "nameless attribute": ([entry("a", pax_headers={"SCHILY.xattr.other": "y"})], "'other'"),
    "capability of a directory": (
        [directory("a/", pax_headers={"SCHILY.xattr.security.capability": "y"})], "'security.capability'"),
    "impossible owner": ([entry("a", uid=2**32 - 1)], "impossible uid"),
    "impossible date": ([entry("a", pax_headers={"mtime": "999999999999"})], "impossible date"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_entry_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """The error names the layer and the entry; nothing outside of the layer's directory is touched."""
    entries, message = HOSTILE[case]
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "bin").mkdir()
    before = describe(tmp_path)
    with pytest.raises(InputError, match=f"(?s)layer: .*{message}"):
        unpacked(tmp_path / "root", *entries)
    after = {path: facts for path, facts in describe(tmp_path).items() if path.split("/")[0] != "root"}
    del before["."], after["."]  # its date: a directory was made in it
    assert after == before


def test_labels_of_the_builders_security_policy_are_left_out(tmp_path: Path) -> None:
    """An image built on a host with SELinux can be unpacked; its labels mean nothing here."""
    unpacked(tmp_path / "root", entry("file", pax_headers={"SCHILY.xattr.security.selinux": "system_u"}))
    assert (tmp_path / "root/file").exists()


def test_a_layer_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    """Holes count, too: their sum is what a copy might take."""
    headers = {"GNU.sparse.map": "", "GNU.sparse.size": str(1 << 40)}
    with pytest.raises(InputError, match="'b' makes the layer larger than 17179869184 bytes"):
        unpacked(tmp_path / "hole", entry("a"), entry("b", pax_headers={**headers, "GNU.sparse.map": "0,0"}))
    with pytest.raises(InputError, match="'b' makes the layer larger than 9 bytes"):
        unpacked(
            tmp_path / "data", entry("a", data=b"x" * 9), entry("b", data=b"x"), limits=Limits(unpacked=9)
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_as_root_owners_and_capabilities_are_kept(tmp_path: Path) -> None:
    """A change of the owner clears a capability, so the order counts."""
    net_raw = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": net_raw.decode("utf-8", "surrogateescape")}
    unpacked(
        tmp_path / "root",
        entry("ping", uid=12, gid=34, mode=0o6755, pax_headers=headers),
        entry(".wh.x"),
        directory("home/", uid=1000, gid=1000, mode=0o2700),
    )
    status, home = (tmp_path / "root/ping").stat(), (tmp_path / "root/home").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o6755)
    assert os.getxattr(tmp_path / "root/ping", "security.capability") == net_raw
    assert (home.st_uid, home.st_gid, stat.S_IMODE(home.st_mode)) == (1000, 1000, 0o2700)
