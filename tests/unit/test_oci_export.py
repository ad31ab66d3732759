"""Images and trees are exported, the same bytes each time, and are the same when they come back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oci_archives import BASE, TOP, archive_of, contents, describe, directory, entry, hard_link, tar

from pybench.harness.cli.main import run
from pybench.runtime.container.image import (
    ImageConfiguration,
    ImageStore,
    Platform,
    export_image,
    export_tree,
    flatten,
)
from pybench.runtime.errors import InputError


@pytest.fixture(autouse=True)
def on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of these tests are for amd64, whatever runs the tests."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(tmp_path / "cache")


def test_an_export_is_the_same_image_again_and_again(store: ImageStore, tmp_path: Path) -> None:
    """Its bytes depend on the image alone; imported and exported again they do not change."""
    config = {"Env": ["A=b"], "Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}}
    opaque = tar(
        directory("etc/", mtime=3), entry("etc/.wh..wh..opq"), entry("etc/n", data=b"n"), entry(".wh.l")
    )
    store.add(archive_of(tmp_path / "file", BASE, TOP, opaque, config=config), "debian:12")
    export_image(store.image("debian:12"), tmp_path / "one")
    assert store.add(tmp_path / "one", "again").configuration.cmd == ("sh",)
    export_image(store.image("again"), tmp_path / "two", "debian:12")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    flatten(store.image("debian:12").directories, tmp_path / "flat-one")
    flatten(store.image("again").directories, tmp_path / "flat-two")
    assert describe(tmp_path / "flat-one") == describe(tmp_path / "flat-two")
    with tarfile.open(tmp_path / "one") as archive:
        manifest = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        index = json.load(archive.extractfile("index.json") or io.BytesIO())
        assert all(member.mtime == 0 for member in archive.getmembers())
    assert manifest[0]["RepoTags"] == ["debian:12"]
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "debian:12"}
    assert b"Healthcheck" in store.image("again").configuration_content


def test_a_tree_becomes_an_image_with_the_configuration_given(store: ImageStore, tmp_path: Path) -> None:
    """One layer, every date the one that is asked for."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_bytes(b"program")
    configuration = ImageConfiguration(
        Platform("linux", "amd64"), env=("A=b",), cmd=("sh",), exposed_ports=("80/tcp",), labels={"x": "y"}
    )
    export_tree(tree, tmp_path / "file.tar", "tree", configuration, date=42)
    image = store.add(tmp_path / "file.tar")
    assert (image.name, replace(image.configuration, layers=())) == ("tree", configuration)
    assert (image.layers[0].tree / "bin/sh").stat().st_mtime == 42


@pytest.mark.parametrize("name", [".wh.file", "socket"])
def test_a_tree_that_no_image_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    """Names that would become whiteouts, and sockets; the file is not written."""
    tree = tmp_path / "tree"
    tree.mkdir()
    if name == "socket":
        script = f"import socket; socket.socket(socket.AF_UNIX).bind({str(tree / name)!r})"
        subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
    else:
        (tree / name).touch()
    with pytest.raises(InputError, match=name):
        export_tree(tree, tmp_path / "file", "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_an_export_to_an_impossible_place_is_refused(tmp_path: Path) -> None:
    """A directory that is not there, and a file that is one."""
    with pytest.raises(InputError, match="there is no directory"):
        export_tree(tmp_path, tmp_path / "missing/file", "tree")
    with pytest.raises(InputError, match="is no regular file"):
        export_tree(tmp_path, tmp_path, "tree")


NAMES = st.sampled_from(["a", "b", "é", os.fsdecode(b"\xff"), "n" * 120])
ATTRIBUTES = st.dictionaries(st.sampled_from(["user.a", "user.b"]), st.binary(max_size=20), max_size=2)
MODES = st.sampled_from([0o644, 0o400, 0o4755, 0o1666])
DATES = st.integers(-(10**18), 10**19 // 2)
FILES = st.tuples(st.just("file"), st.binary(max_size=2000), MODES, DATES, ATTRIBUTES)
LINKS = st.tuples(st.just("link"), st.sampled_from(["a", "/b/c", "../../x", "n" * 200]))
TREES = st.recursive(
    FILES | LINKS | st.just(("pipe",)) | st.just(("twin",)),
    lambda inner: st.tuples(
        st.just("directory"),
        st.dictionaries(NAMES, inner, max_size=4),
        st.sampled_from([0o755, 0o700, 0o2775]),
        DATES,
    ),
    max_leaves=12,
)


def _make(path: Path, what: Any, first: list[Path]) -> None:
    match what:
        case ("file", content, mode, date, attributes):
            path.write_bytes(content)
            for name, value in attributes.items():
                os.setxattr(path, name, value)
            path.chmod(mode)
            os.utime(path, ns=(0, date))
            first.append(path)
        case ("link", target):
            path.symlink_to(target)
        case ("pipe",):
            os.mkfifo(path)
        case ("twin",):
            if first:
                path.hardlink_to(first[-1])
        case ("directory", inner, mode, date):
            path.mkdir()
            for name, member in inner.items():
                _make(path / name, member, first)
            path.chmod(mode)
            os.utime(path, ns=(0, date))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_whatever_is_exported_is_imported_the_same(members: dict[str, Any]) -> None:
    """Any tree of files, links, twins, pipes and directories survives the way through an archive."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _make(place / "tree", ("directory", members, 0o755, 10**9), [])
        export_tree(place / "tree", place / "file.tar", "tree", date=None)
        store = ImageStore(place / "cache")
        flatten(store.add(place / "file.tar").directories, place / "flat")
        assert describe(place / "flat") == describe(place / "tree")
        twins = {
            path.relative_to(place / "tree")
            for path in (place / "tree").rglob("*")
            if path.lstat().st_nlink > 1
        }
        assert all((place / "flat" / twin).lstat().st_nlink > 1 for twin in twins)


def test_hard_links_are_kept_by_the_way_through_an_archive(store: ImageStore, tmp_path: Path) -> None:
    """Two names of one file are two names of one file afterwards, also in the flattened tree."""
    store.add(archive_of(tmp_path / "file", tar(entry("a", data=b"x"), hard_link("b", "a"))), "image")
    export_image(store.image("image"), tmp_path / "export")
    flatten(store.add(tmp_path / "export", "again").directories, tmp_path / "flat")
    assert (tmp_path / "flat/a").samefile(tmp_path / "flat/b")


def test_the_command_line_imports_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was imported under a name is exported by it; an unknown name ends with exit code 2."""
    monkeypatch.setenv("PYBENCH_CACHE", str(tmp_path / "cache"))
    file = archive_of(tmp_path / "file.tar", BASE, TOP)
    assert run(["images", "import", str(file), "--name", "example:1"]) == 0
    assert "example:1, 2 layers" in capsys.readouterr().out
    assert run(["images", "export", "example:1", str(tmp_path / "copy.tar")]) == 0
    assert contents(ImageStore(tmp_path / "cache"), "example:1", tmp_path / "flat")["link"] == b"top"
    assert ImageStore(tmp_path / "other").add(tmp_path / "copy.tar").name == "example:1"
    assert run(["images", "export", "missing", str(tmp_path / "x")]) == 2
    assert "there is no image missing" in capsys.readouterr().err
