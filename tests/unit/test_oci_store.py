"""Images are imported from every kind of file, verified, shared by layer, and collected."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from oci_archives import (
    BASE,
    INDEX,
    LAYER,
    MANIFEST,
    TOP,
    Layout,
    archive_of,
    as_json,
    contents,
    digest,
    entry,
    symlink,
    tar,
)

from pybench.runtime.container.image import (
    DEFAULT_LIMITS,
    ImageStore,
    Limits,
    Platform,
    flatten,
)
from pybench.runtime.errors import InputError

ARM64 = {"os": "linux", "architecture": "arm64"}


@pytest.fixture(autouse=True)
def on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of these tests are for amd64, whatever runs the tests."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(tmp_path / "cache")


def _layout_archive(path: Path) -> Path:
    return archive_of(path, BASE, TOP)


def _plain_layers(path: Path) -> Path:
    return archive_of(path, BASE, TOP, compress=False)


def _layout_directory(path: Path) -> Path:
    layout = Layout()
    layout.add(BASE, TOP)
    return layout.directory(path)


def _gzip_archive(path: Path) -> Path:
    path.write_bytes(gzip.compress(_layout_archive(path).read_bytes()))
    return path


def _zstd_archive(path: Path) -> Path:
    path.write_bytes(zstandard.compress(_layout_archive(path).read_bytes()))
    return path


def _sha512(path: Path) -> Path:
    layout = Layout(algorithm="sha512")
    layout.add(BASE, TOP)
    return layout.archive(path)


def _zstd_layers(path: Path) -> Path:
    layout = Layout()
    descriptor = layout.image(BASE, TOP)
    manifest = json.loads(layout.blobs["blobs/" + descriptor["digest"].replace(":", "/")])
    manifest["layers"] = [layout.blob(f"{LAYER}+zstd", zstandard.compress(layer)) for layer in (BASE, TOP)]
    layout.manifests.append(layout.blob(MANIFEST, as_json(manifest)))
    return layout.archive(path)


def _nested_index(path: Path) -> Path:
    layout = Layout()
    attestation = layout.image(
        tar(entry("sbom")), annotations={"vnd.docker.reference.type": "attestation-manifest"},
        platform={"os": "unknown", "architecture": "unknown"},
    )  # fmt: skip
    other = {**layout.image(tar(entry("arm")), platform=ARM64), "platform": ARM64}
    newer = {
        **layout.image(tar(entry("v3"))),
        "platform": {"os": "linux", "architecture": "amd64", "variant": "v3"},
    }
    ours = {**layout.image(BASE, TOP), "platform": {"os": "linux", "architecture": "amd64"}}
    second = {**layout.image(TOP), "platform": {"os": "linux", "architecture": "amd64"}}
    inner = as_json({"schemaVersion": 2, "manifests": [attestation, other, newer, ours, second]})
    layout.manifests.append(layout.blob(INDEX, inner))
    return layout.archive(path)


def _without_platform(path: Path) -> Path:
    layout = Layout()
    layout.add(tar(entry("arm")), platform=ARM64)
    layout.add(BASE, TOP)
    return layout.archive(path)


def docker_archive(
    path: Path, *layers: bytes, tags: list[str] | None = None, change: dict[str, Any] | None = None
) -> Path:
    """What `docker save` of version 20.10 writes: a repeated layer is a link to the first."""
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        **(change or {}),
    }
    configuration = as_json(document)
    name = hashlib.sha256(configuration).hexdigest() + ".json"
    items, listed = [entry(name, data=configuration)], []
    seen: dict[bytes, str] = {}
    for number, layer in enumerate(layers):
        place = f"{number:064x}/layer.tar"
        first = seen.setdefault(layer, place)
        items.append(symlink(place, f"../{first}") if first != place else entry(place, data=layer))
        listed.append(place)
    manifest = [{"Config": name, "RepoTags": tags, "Layers": listed}]
    path.write_bytes(tar(*items, entry("manifest.json", data=as_json(manifest))))
    return path


def _docker(path: Path) -> Path:
    return docker_archive(path, BASE, TOP, TOP)


@pytest.mark.parametrize(
    "make",
    [
        _layout_archive, _plain_layers, _layout_directory, _gzip_archive, _zstd_archive, _sha512,
        _zstd_layers, _nested_index, _without_platform, _docker,
    ],
)  # fmt: skip
def test_every_kind_of_file_gives_the_same_tree(store: ImageStore, tmp_path: Path, make: Any) -> None:
    """Layouts and archives, compressed or not, whichever digest, with other platforms beside."""
    image = store.add(make(tmp_path / "file.tar"), "image")
    assert contents(store, "image", tmp_path / "flat") == {"etc/name": b"top", "link": b"top"}
    assert image.configuration.platform == Platform("linux", "amd64")
    assert len(image.directories) == 2


def test_layers_are_shared_by_content(store: ImageStore, tmp_path: Path) -> None:
    """Two images with a layer in common have it once, however it was compressed."""
    one = store.add(archive_of(tmp_path / "one", BASE, TOP), "one")
    two = store.add(docker_archive(tmp_path / "two", BASE), "two")
    assert one.layers[0] == two.layers[0]
    assert [image.name for image in store.images()] == ["one", "two"]
    assert len(list((tmp_path / "cache/layers/sha256").iterdir())) == 2


def test_nobody_else_can_reach_the_layers(store: ImageStore, tmp_path: Path) -> None:
    """They hold setuid programs of unknown origin."""
    store.add(archive_of(tmp_path / "file", BASE), "image")
    assert (tmp_path / "cache/layers").stat().st_mode & 0o777 == 0o700


def test_collecting_removes_what_no_image_has_and_nobody_holds(store: ImageStore, tmp_path: Path) -> None:
    """A removed image's layers go, except those of another image and those in use."""
    one = store.add(archive_of(tmp_path / "one", BASE, TOP), "one")
    store.add(archive_of(tmp_path / "two", BASE), "two")
    store.remove("one")
    with store.hold(one) as directories:
        assert directories == (one.layers[1].tree, one.layers[0].tree)
        assert store.collect() == ()
    assert store.collect() == (one.layers[1].diff_id,)
    assert store.image("two").layers[0].tree.is_dir()
    with pytest.raises(InputError, match="was removed"), store.hold(one):
        pass
    with pytest.raises(InputError, match="no imported image one"):
        store.image("one")
    with pytest.raises(InputError, match="no imported image one"):
        store.remove("one")


def test_importing_again_replaces_the_image(store: ImageStore, tmp_path: Path) -> None:
    """The name stands for the newer one, whose layers are taken from the store where they are there."""
    store.add(archive_of(tmp_path / "one", BASE), "image")
    store.add(archive_of(tmp_path / "two", BASE, TOP, config={"Cmd": ["x"]}), "image")
    assert store.image("image").configuration.cmd == ("x",)
    assert [path.name for path in (tmp_path / "cache/oci").iterdir() if path.name[0] != "."] == ["image"]


def test_a_layer_that_is_known_is_verified_all_the_same(store: ImageStore, tmp_path: Path) -> None:
    """To have a layer it does not suffice to name its digest."""
    store.add(archive_of(tmp_path / "one", BASE), "one")
    change = {"rootfs": {"type": "layers", "diff_ids": [digest(BASE)]}}
    with pytest.raises(InputError, match="has the digest"):
        store.add(docker_archive(tmp_path / "two", TOP, change=change), "two")


def test_what_a_killed_import_left_is_removed_by_the_next(store: ImageStore, tmp_path: Path) -> None:
    """Its folders are hidden and never taken for layers."""
    store.add(archive_of(tmp_path / "one", BASE), "one")
    leftover = tmp_path / "cache/layers/sha256/.unfinished-x"
    (leftover / "layer").mkdir(parents=True)
    store.add(archive_of(tmp_path / "two", BASE), "two")
    assert not leftover.exists()


def test_a_failed_import_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    """No image, no layer, no hidden folder."""
    with pytest.raises(InputError):
        store.add(archive_of(tmp_path / "file", tar(entry("../escape"))), "image")
    assert store.images() == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [
        tmp_path / "cache/oci/.store.lock"
    ]
    assert list((tmp_path / "cache/layers/sha256").iterdir()) == []


def test_an_image_has_the_name_that_its_file_gives_it(store: ImageStore, tmp_path: Path) -> None:
    """A tag such as `latest` is not one; then the file's own name counts."""
    name = {"org.opencontainers.image.ref.name": "debian:12"}
    assert store.add(archive_of(tmp_path / "a.tar", BASE, annotations=name)).name == "debian:12"
    name = {"org.opencontainers.image.ref.name": "latest"}
    assert store.add(archive_of(tmp_path / "b.tar.gz", BASE, annotations=name)).name == "b"
    tags = ["docker.io/library/x:1", "y:2"]
    assert store.add(docker_archive(tmp_path / "c.tar", BASE, tags=tags)).name == tags[0]
    assert {image.name for image in store.images()} == {"debian:12", "b", tags[0]}


@pytest.mark.parametrize("name", ["../x", ".hidden", "a b", "x" * 129, "/x", "a\0"])
def test_a_name_that_is_no_name_is_refused(store: ImageStore, tmp_path: Path, name: str) -> None:
    """No name leads out of the store."""
    with pytest.raises(InputError, match="an image cannot be called"):
        store.add(archive_of(tmp_path / "a.tar", BASE), name)


def test_a_file_with_several_images_needs_a_reference(store: ImageStore, tmp_path: Path) -> None:
    """The error lists them; a reference picks one."""
    layout = Layout()
    for name, layer in (("one", BASE), ("two", TOP)):
        layout.add(layer, annotations={"org.opencontainers.image.ref.name": name})
    file = layout.archive(tmp_path / "file")
    with pytest.raises(InputError, match="several images: one, two"):
        store.add(file)
    assert store.add(file, reference="two").layers[0].diff_id.digits == hashlib.sha256(TOP).hexdigest()
    with pytest.raises(InputError, match="does not hold three for linux/amd64"):
        store.add(file, reference="three")


def test_an_image_for_another_platform_is_refused_by_name(store: ImageStore, tmp_path: Path) -> None:
    """The error tells which platforms there are."""
    layout = Layout()
    layout.add(BASE, platform=ARM64)
    with pytest.raises(InputError, match="does not hold an image for linux/amd64, only for linux/arm64"):
        store.add(layout.archive(tmp_path / "oci"))
    with pytest.raises(InputError, match="holds an image for linux/arm64; this machine is linux/amd64"):
        store.add(docker_archive(tmp_path / "docker", BASE, change=ARM64))


def _damaged(tmp_path: Path, what: str, change: Any) -> Path:
    """A layout in which the files whose name or media type contains `what` are changed."""
    layout = Layout()
    layout.add(BASE, TOP)
    root = layout.directory(tmp_path / "layout")
    manifest = json.loads((root / "blobs" / layout.manifests[0]["digest"].replace(":", "/")).read_bytes())
    places = {
        "index": root / "index.json",
        "version": root / "oci-layout",
        "manifest": root / "blobs" / layout.manifests[0]["digest"].replace(":", "/"),
        "configuration": root / "blobs" / manifest["config"]["digest"].replace(":", "/"),
        "layer": root / "blobs" / manifest["layers"][0]["digest"].replace(":", "/"),
    }
    change(places[what])
    return root


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _remove(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    content = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _fill(path: Path) -> None:
    path.write_bytes(b" " * ((4 << 20) + 1))


def _retype(old: str, new: str) -> Any:
    return lambda path: path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("manifest", _flip, "has the digest sha256:.*, not sha256:"),
        ("configuration", _flip, "has the digest"),
        ("layer", _flip, "has the digest|cannot be unpacked|is plain"),
        ("layer", _cut, "has 1.. bytes, its descriptor says"),
        ("manifest", _remove, "the blob sha256:.* is missing"),
        ("configuration", _remove, "is missing"),
        ("layer", _remove, "is missing"),
        ("index", _remove, "index.json is missing"),
        ("layer", _link, "symbolic links are not followed|cannot read blobs"),
        ("index", _link, "cannot read index.json"),
        ("index", _pipe, "is no regular file"),
        ("index", _fill, "more than 4194304"),
        ("index", _cut, "is no JSON document"),
        ("index", _retype("manifests", "manifest_"), "manifests: expected a list, found nothing"),
        ("index", _retype(MANIFEST, "application/x-unknown"), "unknown media type 'application/x-unknown'"),
        ("index", _retype("sha256:", "sha255:"), "is no digest"),
        ("index", _retype("sha256:", "sha256:../"), "is no digest"),
        ("version", _retype("1.0.0", "2.0.0"), "unknown version '2.0.0'"),
    ],
)
def test_a_damaged_layout_is_refused(
    store: ImageStore, tmp_path: Path, what: str, change: Any, message: str
) -> None:
    """The error names the file and what is wrong."""
    root = _damaged(tmp_path, what, change)
    with pytest.raises(InputError, match=f"{root}.*({message})"):
        store.add(root, "image")


def _with_layer(media_type: str, layer: bytes, **more: Any) -> Layout:
    layout = Layout()
    descriptor = layout.image(BASE)
    manifest = json.loads(layout.blobs["blobs/" + descriptor["digest"].replace(":", "/")])
    manifest["layers"] = [layout.blob(media_type, layer)]
    manifest.update(more)
    layout.manifests.append(layout.blob(MANIFEST, as_json(manifest)))
    return layout


@pytest.mark.parametrize(
    ("media_type", "layer", "message"),
    [
        (f"{LAYER}+gzip+encrypted", BASE, "is encrypted"),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", BASE, "unknown media type"),
        (f"{LAYER}+gzip", BASE, "is plain, its media type says gzip"),
        (LAYER, gzip.compress(BASE), "is gzip, its media type says plain"),
        (LAYER, TOP, "unpacked, has the digest"),
        (f"{LAYER}+gzip", gzip.compress(TOP), "unpacked, has the digest"),
        (f"{LAYER}+gzip", gzip.compress(BASE)[:-9], "cannot be unpacked"),
        (
            f"{LAYER}+zstd",
            zstandard.compress(BASE)[:-9],
            "ends in the middle|has the digest|cannot be unpacked",
        ),
        (f"{LAYER}+zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 20, "cannot be unpacked"),
        (LAYER, BASE + b"trailing", "unpacked, has the digest"),
    ],
)
def test_a_layer_that_is_not_what_it_claims_is_refused(
    store: ImageStore, tmp_path: Path, media_type: str, layer: bytes, message: str
) -> None:
    """Media type, digest and the digest of the unpacked layer are all verified."""
    with pytest.raises(InputError, match=f"layer .*({message})"):
        store.add(_with_layer(media_type, layer).archive(tmp_path / "file"), "image")


def test_an_artifact_is_no_image(store: ImageStore, tmp_path: Path) -> None:
    """A manifest may describe anything; only a container image's configuration will do."""
    artifact = Layout().blob("application/vnd.oci.empty.v1+json", b"{}")
    layout = _with_layer(LAYER, BASE, config=artifact)
    layout.blob("application/vnd.oci.empty.v1+json", b"{}")
    with pytest.raises(InputError, match="no container image"):
        store.add(layout.archive(tmp_path / "file"))


def test_as_many_layers_as_the_configuration_knows(store: ImageStore, tmp_path: Path) -> None:
    """A layer too many would not be verified."""
    layout = _with_layer(LAYER, BASE)
    descriptors = [layout.blob(LAYER, BASE)] * 2
    layout = _with_layer(LAYER, BASE, layers=descriptors)
    with pytest.raises(InputError, match="names 2 layers, the configuration 1"):
        store.add(layout.archive(tmp_path / "file"))
    with pytest.raises(InputError, match="an image of 3 layers, more than 2"):
        ImageStore(tmp_path / "cache", limits=replace(DEFAULT_LIMITS, layers=2)).add(
            archive_of(tmp_path / "many", BASE, BASE, BASE)
        )


def test_indexes_that_name_each_other_end(store: ImageStore, tmp_path: Path) -> None:
    """Four levels of indexes with a thousand entries each are read once each."""
    layout = Layout()
    level: list[dict[str, Any]] = []
    for _ in range(6):
        index = layout.blob(INDEX, as_json({"manifests": level * 1000}))
        level = [index]
    layout.manifests = level * 1000
    with pytest.raises(InputError, match="does not hold an image"):
        store.add(layout.archive(tmp_path / "file"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no image"),
        (tar(entry("etc/passwd")), "holds no image"),
        (b"no archive at all" * 100, "octal number|tar header"),
        (gzip.compress(b"no archive at all" * 100, mtime=0), "octal number|tar header"),
        (gzip.compress(tar(entry("oci-layout")), mtime=0)[:-5], "cannot be unpacked"),
        (tar(entry("manifest.json", data=b"{}")), "expected a list"),
        (tar(entry("manifest.json", data=b"[]")), "does not hold an image"),
        (tar(entry("manifest.json", data=b'[{"Config": "../x", "Layers": []}]')), "leads outside"),
        (tar(entry("manifest.json", data=b'[{"Config": "/x", "Layers": []}]')), "leads outside"),
        (tar(entry("manifest.json", data=b'[{"Config": "x", "Layers": []}]')), "x is missing"),
        (tar(symlink("manifest.json", "a"), symlink("a", "manifest.json")), "holds no image"),
        (tar(symlink("manifest.json", "/etc/passwd")), "holds no image"),
    ],
)
def test_a_file_that_is_no_image_is_refused(
    store: ImageStore, tmp_path: Path, content: bytes, message: str
) -> None:
    """The error names the file."""
    file = tmp_path / "file.tar"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"file.tar.*({message})"):
        store.add(file)


def test_what_cannot_be_read_is_refused(store: ImageStore, tmp_path: Path) -> None:
    """A missing file, and a named pipe that would block for ever."""
    with pytest.raises(InputError, match=r"cannot read .*missing"):
        store.add(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a directory nor a regular file"):
        store.add(tmp_path / "pipe")


ZEROS = tar(entry("zeros", data=bytes(4 << 20)))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(unpacked=1 << 20), "(more|larger) than 1048576 bytes"),
        (Limits(unsuspicious=1 << 20, ratio=100), "decompression bomb: .* over 100 times"),
    ],
)
def test_a_decompression_bomb_is_refused(tmp_path: Path, limits: Limits, message: str) -> None:
    """By absolute size and by ratio; as a layer and as an archive."""
    store = ImageStore(tmp_path / "cache", limits=limits)
    with pytest.raises(InputError, match=message):
        store.add(archive_of(tmp_path / "layer", ZEROS))
    (tmp_path / "archive").write_bytes(
        gzip.compress(archive_of(tmp_path / "a", ZEROS, compress=False).read_bytes())
    )
    with pytest.raises(InputError, match=message):
        store.add(tmp_path / "archive")


def test_the_limit_of_size_is_that_of_all_layers_together(tmp_path: Path) -> None:
    """Two layers that would pass alone do not pass together."""
    store = ImageStore(tmp_path / "cache", limits=Limits(unpacked=3 * len(BASE) // 2))
    store.add(archive_of(tmp_path / "one", BASE))
    with pytest.raises(InputError, match="the limit of an image"):
        store.add(archive_of(tmp_path / "two", BASE, tar(entry("other"))))


def test_an_opaque_root_hides_all_lower_layers(store: ImageStore, tmp_path: Path) -> None:
    """Overlayfs does not look for one, so the layers below are not given to it at all."""
    image = store.add(archive_of(tmp_path / "file", BASE, tar(entry(".wh..wh..opq"), entry("own"))), "image")
    assert image.directories == (image.layers[1].tree,)
    assert contents(store, "image", tmp_path / "flat") == {"own": b""}


def test_an_image_without_layers_is_an_empty_tree(store: ImageStore, tmp_path: Path) -> None:
    """What `FROM scratch` alone gives."""
    image = store.add(archive_of(tmp_path / "file", config={"Cmd": ["/x"]}), "image")
    flatten(image.directories, tmp_path / "flat")
    assert list((tmp_path / "flat").iterdir()) == []


def test_a_tree_is_not_flattened_over_another(tmp_path: Path) -> None:
    """The target must be new; what is there stays as it is."""
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine: File exists"):
        flatten([tmp_path], tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()
