"""What layers look like through the kernel's own overlayfs, and to an ordinary user."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oci_archives import archive_of, describe, directory, entry, hard_link, symlink, tar

from pybench.runtime.container.image import ImageStore, export_image, flatten

NAMES = ("a", "b", "c")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
ENTRIES = st.one_of(
    st.tuples(st.just("file"), PATHS, st.binary(max_size=3)),
    st.tuples(st.just("directory"), PATHS, st.sampled_from([0o755, 0o700])),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("whiteout"), PATHS),
    st.tuples(st.just("opaque"), PATHS),
)

# Mounts and describes in a mount namespace of its own, which ends with it.
_DESCRIBE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from oci_archives import describe
print(repr(describe(Path(sys.argv[2]))))
"""


def through_overlay(
    directories: tuple[Path, ...], place: Path, *, in_user_namespace: bool
) -> dict[str, tuple[object, ...]]:
    """What describe() says of an overlay of the directories, mounted in a namespace that ends with it."""
    mounted = place / "mounted"
    mounted.mkdir()
    empty = place / "empty"
    empty.mkdir()
    # overlayfs wants two lower directories where there is no upper one.
    lower = ":".join(map(str, (*directories, empty)))
    options = f"ro,lowerdir={lower}" + (",userxattr" if in_user_namespace else "")
    namespaces = ["--user", "--map-root-user", "--mount"] if in_user_namespace else ["--mount"]
    script = 'mount -t overlay overlay -o "$1" "$2" && shift 2 && exec "$@"'
    describing = [sys.executable, "-c", _DESCRIBE, json.dumps(sys.path), str(mounted)]
    done = subprocess.run(
        ["unshare", *namespaces, "sh", "-c", script, "sh", options, str(mounted), *describing],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    mounted.rmdir()
    empty.rmdir()
    shown: dict[str, tuple[object, ...]] = ast.literal_eval(done.stdout)
    return shown


def as_layer(items: list[tuple[Any, ...]]) -> bytes:
    """A layer of what can be unpacked: nothing beneath what the same layer has as a file or a link."""
    leaves: set[str] = set()
    parents: set[str] = set()
    found = []
    for kind, path, *rest in items:
        above = {path[:end] for end in range(len(path)) if path[end : end + 1] == "/"}
        inside = above | ({path} if kind in {"directory", "opaque"} else set())
        if inside & leaves or (kind in {"file", "link"} and path in parents):
            continue
        parents |= inside
        name = path.rpartition("/")
        match kind:
            case "file":
                leaves.add(path)
                found.append(entry(path, data=rest[0], mtime=5))
            case "directory":
                found.append(directory(path, mode=rest[0], mtime=7))
            case "link":
                leaves.add(path)
                found.append(symlink(path, rest[0]))
            case "whiteout":
                found.append(entry(f"{name[0]}{name[1]}.wh.{name[2]}"))
            case "opaque":
                found.append(entry(f"{path}/.wh..wh..opq"))
    return tar(*found)


def require_root_for(in_user_namespace: bool) -> None:
    """Skip what only root can mount."""
    if os.geteuid() != 0 and not in_user_namespace:
        pytest.skip("only root can mount an overlay outside of a user namespace")


@pytest.mark.parametrize("in_user_namespace", [False, True], ids=["root", "user namespace"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=4))
def test_the_kernel_and_we_merge_layers_alike(in_user_namespace: bool, layers: list[list[Any]]) -> None:
    """A flattened image is what an overlay of its layers shows, for random layers with whiteouts."""
    require_root_for(in_user_namespace)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store = ImageStore(place / "cache")
        image = store.add(archive_of(place / "file", *map(as_layer, layers)), "image")
        flatten(image.directories, place / "flat")
        shown = through_overlay(image.directories, place, in_user_namespace=in_user_namespace)
        assert shown == describe(place / "flat")


@pytest.mark.parametrize("in_user_namespace", [False, True], ids=["root", "user namespace"])
def test_whiteouts_of_all_kinds_hide_for_the_kernel(tmp_path: Path, in_user_namespace: bool) -> None:
    """Files, directories and whole contents; also a whiteout that has nothing to hide is not listed."""
    require_root_for(in_user_namespace)
    base = tar(
        entry("etc/gone"), entry("etc/kept"), entry("old/x"), entry("opaque/lower"), entry("dir/lower")
    )
    top = tar(
        entry("etc/.wh.gone"),
        entry(".wh.old"),
        entry("opaque/.wh..wh..opq"),
        entry("opaque/upper"),
        entry(".wh.dir"),
        entry("dir/upper"),
        entry("new/.wh.never-there"),
    )
    image = ImageStore(tmp_path / "cache").add(archive_of(tmp_path / "file", base, top), "image")
    facts = through_overlay(image.directories, tmp_path, in_user_namespace=in_user_namespace)
    assert set(facts) == {".", "etc", "etc/kept", "opaque", "opaque/upper", "dir", "dir/upper", "new"}


_AS_NOBODY = """
import encodings.ascii, json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from pybench.runtime.container.image import ImageStore, export_image, flatten
# Not before: the interpreter and its libraries may be where only root can read them.
os.setgroups([]), os.setgid(65534), os.setuid(65534)
place = Path(sys.argv[2])
store = ImageStore(place / "cache")
image = store.add(place / "file", "image")
export_image(image, place / "export")
flatten(image.directories, place / "flat")
store.remove("image")
print(len(store.collect()), sorted(path.name for path in (place / "flat").rglob("*")))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_loses_nothing(tmp_path: Path) -> None:
    """Owners, modes and capabilities that the user's files cannot have are in what the user exports."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        place = Path(folder)
        capability = {"SCHILY.xattr.security.capability": "\x01\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"}
        layer = tar(
            directory("./", mode=0o555, mtime=3),
            directory("locked/", mode=0o500, uid=5, gid=6, mtime=4),
            entry("locked/shadow", data=b"secret", mode=0, uid=7, gid=8, mtime=5),
            hard_link("locked/twin", "locked/shadow"),
            entry("ping", data=b"ping", mode=0o4755, gid=9, pax_headers=capability),
            entry("pipe", tarfile.FIFOTYPE, uid=10),
            symlink("link", "ping"),
            entry(".wh.gone"),
        )
        archive_of(place / "file", layer)
        os.chown(place, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, json.dumps(sys.path), str(place)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert done.stdout == "1 ['link', 'locked', 'ping', 'pipe', 'shadow', 'twin']\n"
        # As root, both the original and what the user exported give the same tree.
        for number, file in enumerate(("file", "export")):
            store = ImageStore(tmp_path / f"cache{number}")
            flatten(store.add(place / file, "image").directories, tmp_path / f"flat{number}")
        assert describe(tmp_path / "flat0", owners=True) == describe(tmp_path / "flat1", owners=True)
        assert (tmp_path / "flat1/locked/shadow").stat().st_uid == 7
        assert os.getxattr(tmp_path / "flat1/ping", "security.capability")
        shown = ImageStore(tmp_path / "cache1").image("image").layers[0]
        assert shown.recorded() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """Import into a small file system: the error says so, and all of the space is free again."""
    script = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from pybench.runtime.container.image import ImageStore
from pybench.runtime.errors import HostError
cache = Path(sys.argv[3])
try:
    ImageStore(cache).add(Path(sys.argv[2]), "image")
except HostError as error:
    print(error.message, "/", error.hint)
print([path.name for path in cache.rglob("*") if path.is_file() and path.name != ".store.lock"])
"""
    file = archive_of(tmp_path / "file", tar(entry("large", data=os.urandom(8 << 20))))
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3" "$4" "$5" "$1"'
    place, paths = str(tmp_path / "small"), json.dumps(sys.path)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", place, sys.executable, script, paths, str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    first, left = done.stdout.splitlines()
    assert "No space left on device / free some space" in first
    assert left == "[]"


def test_an_image_exported_by_root_is_the_same_image(tmp_path: Path) -> None:
    """Whiteouts and opaque directories of the layers go out as OCI spells them."""
    store = ImageStore(tmp_path / "cache")
    layer = tar(entry("d/.wh..wh..opq"), entry("d/.wh.x"), entry(".wh.y"), entry("d/own"))
    export_image(store.add(archive_of(tmp_path / "file", layer), "image"), tmp_path / "export")
    again = store.add(tmp_path / "export", "again")
    names = {str(path.relative_to(again.layers[0].tree)) for path in again.layers[0].tree.rglob("*")}
    assert names == {"d", "d/own", "d/x", "y"}
