"""Our archives are read by skopeo and docker, and theirs by us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from docker_daemon import docker_daemon
from oci_archives import archive_of, describe, directory, entry, hard_link, symlink, tar

from pybench.runtime.container.image import ImageStore, StoredImage, export_image, flatten

_PATIENCE = 180
LAYERS = (
    tar(
        directory("./", mode=0o755),
        directory("etc/", mtime=100),
        entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n", mtime=5, uid=3, gid=4),
        entry("etc/old", data=b"old"),
        entry("bin/su", data=b"program", mode=0o4755, mtime=6),
        hard_link("bin/twin", "bin/su"),
        symlink("link", "/etc/passwd"),
        directory("opaque/"),
        entry("opaque/lower"),
    ),
    tar(
        directory("etc/", mtime=101),
        entry("etc/.wh.old"),
        directory("opaque/", mtime=7),
        entry("opaque/.wh..wh..opq"),
        entry("opaque/upper", data=b"upper"),
        entry("long/" + "n" * 150, pax_headers={"SCHILY.xattr.user.note": "hello"}),
    ),
)
CONFIG = {"Env": ["A=b"], "Cmd": ["/bin/su"], "WorkingDir": "/etc", "Labels": {"x": "y"}}


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(tmp_path / "cache")


@pytest.fixture
def exported(store: ImageStore, tmp_path: Path) -> Path:
    """An archive that we wrote."""
    export_image(
        store.add(archive_of(tmp_path / "file", *LAYERS, config=CONFIG), "example:1"), tmp_path / "oci"
    )
    return tmp_path / "oci"


def skopeo(*arguments: str) -> str:
    """Run skopeo; it needs no policy, since everything is local."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: apt-get install skopeo")
    command = ["skopeo", "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE).stdout


def same_tree(one: StoredImage, two: StoredImage, place: Path) -> bool:
    """Whether two images show the same files."""
    flatten(one.directories, place / "one")
    flatten(two.directories, place / "two")
    return describe(place / "one", owners=True) == describe(place / "two", owners=True)


def test_skopeo_reads_what_we_export(exported: Path) -> None:
    """It finds the image, its configuration and as many layers as there are."""
    found = json.loads(skopeo("inspect", f"oci-archive:{exported}:example:1"))
    assert (found["Architecture"], found["Env"], found["Labels"]) == ("amd64", ["A=b"], {"x": "y"})
    assert len(found["Layers"]) == 2
    assert json.loads(skopeo("inspect", "--config", f"docker-archive:{exported}"))["config"]["Cmd"]


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive", "zstd"])
def test_what_skopeo_writes_is_read_by_us(
    store: ImageStore, exported: Path, tmp_path: Path, kind: str
) -> None:
    """Directories, both kinds of archives, and layers that it compressed anew with zstd."""
    target = tmp_path / "copy"
    extra = ["--dest-compress-format", "zstd"] if kind == "zstd" else []
    transport = "oci" if kind == "zstd" else kind
    skopeo("copy", *extra, f"oci-archive:{exported}", f"{transport}:{target}:example:2")
    image = store.add(target, "copy")
    assert image.configuration.working_dir == "/etc"
    assert same_tree(store.image("example:1"), image, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run dockerd")
def test_docker_loads_what_we_export_and_saves_what_we_import(
    store: ImageStore, exported: Path, tmp_path: Path
) -> None:
    """There and back, the image shows the same files and has the same configuration."""
    if not Path("/usr/sbin/dockerd").exists() or not Path("/usr/bin/docker").exists():
        pytest.skip("docker is not installed: apt-get install docker.io")
    # Its path has to be short: a socket's name may have 107 bytes.
    with tempfile.TemporaryDirectory() as folder, docker_daemon(Path(folder)) as docker:
        loaded = subprocess.run(
            [*docker, "load", "--input", exported], check=True, capture_output=True, text=True
        )
        assert "example:1" in loaded.stdout
        subprocess.run([*docker, "save", "--output", tmp_path / "saved", "example:1"], check=True)
    image = store.add(tmp_path / "saved")
    assert image.name == "example:1"
    assert (image.configuration.cmd, image.configuration.labels) == (("/bin/su",), {"x": "y"})
    original = ImageStore(tmp_path / "other").add(exported)
    assert same_tree(original, image, tmp_path)
