"""Write an image as an OCI archive that docker can load, too; the same image gives the same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pybench.runtime.container.image.beneath import is_whiteout
from pybench.runtime.container.image.configuration import ImageConfiguration, host_platform
from pybench.runtime.container.image.digest import CHUNK, Digest, digest_of
from pybench.runtime.container.image.layer import (
    CAPABILITY_ATTRIBUTE,
    OPAQUE_NAME,
    WHITEOUT_PREFIX,
    Recorded,
)
from pybench.runtime.container.image.layout import (
    CONFIGURATION_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    LAYOUT_VERSION,
    MANIFEST_TYPE,
    NAME_ANNOTATION,
)
from pybench.runtime.container.image.merged import is_opaque
from pybench.runtime.container.image.store import check_name
from pybench.runtime.errors import HostError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from pybench.runtime.container.image.stored import StoredImage

_SECOND: Final = 10**9
_LEVEL: Final = 6
_KEPT_ATTRIBUTES: Final = "user."
_OVERLAY_ATTRIBUTES: Final = "user.overlay."
# github.com/distribution/reference: what docker takes as a name with or without a tag.
_DOCKER_NAME: Final = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: Digest
    size: int
    file: Path
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a layer is made from."""

    tree: Path
    recorded: Mapping[str, Recorded]
    is_layer: bool
    """Whiteouts and opaque directories have their overlay's meaning."""
    opaque_root: bool
    date: int | None
    """Seconds; None keeps the files' own."""


def export_image(image: StoredImage, file: Path, name: str = "") -> None:
    """Write a stored image; its layers are packed anew, so their digests may differ from the original's.

    Raises:
        InputError: the file exists as something else than a regular file, or its directory does not
            exist, or the name is impossible.
        HostError: the file cannot be written.
    """
    layers = [_Layer(layer.tree, layer.recorded(), True, layer.opaque_root, None) for layer in image.layers]
    document = json.loads(image.configuration_content)
    _write(layers, document, file, check_name(name or image.name))


def export_tree(
    tree: Path, file: Path, name: str, configuration: ImageConfiguration | None = None, date: int | None = 0
) -> None:
    """Write a directory tree as an image of one layer.

    Args:
        tree: the root filesystem; as root its owners are kept, else everything belongs to 0:0.
        file: the archive; replaced when the new one is complete.
        name: goes into the archive.
        configuration: how to run it; by default an image for this machine without a command.
        date: of every file, in seconds since the epoch; None keeps their own.

    Raises:
        InputError: the tree holds what no image can, such as a device or a socket.
        HostError: the file cannot be written.
    """
    document = _document(configuration or ImageConfiguration(host_platform()))
    _write([_Layer(tree, {}, False, False, date)], document, file, check_name(name))


def _write(layers: list[_Layer], document: dict[str, object], file: Path, name: str) -> None:
    if file.exists() and not file.is_file():
        raise InputError(f"{file} exists and is no regular file")
    if not file.parent.is_dir():
        raise InputError(f"there is no directory {file.parent}")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
            scratch = Path(folder)
            # The same layer twice is one blob.
            blobs = [_pack(layer, scratch / str(number)) for number, layer in enumerate(layers)]
            archive = scratch / "archive"
            _write_archive(archive, blobs, document, name)
            archive.replace(file)
    except OSError as error:
        raise HostError(f"cannot write {file}: {error.filename or ''} {error.strerror}") from error


def _write_archive(archive: Path, blobs: list[_Blob], document: dict[str, object], name: str) -> None:
    document["rootfs"] = {"type": "layers", "diff_ids": [str(blob.diff_id) for blob in blobs]}
    configuration = _json(document)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIGURATION_TYPE, digest_of(configuration), len(configuration)),
            "layers": [_descriptor(f"{LAYER_TYPE}+gzip", blob.digest, blob.size) for blob in blobs],
        }
    )
    entry = _descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest))
    platform = {"os": document["os"], "architecture": document["architecture"]}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [{**entry, "platform": platform, "annotations": {NAME_ANNOTATION: name}}],
    }
    docker = {
        "Config": digest_of(configuration).blob,
        "RepoTags": _docker_tags(name),
        "Layers": [blob.digest.blob for blob in blobs],
    }
    files: dict[str, bytes | Path] = {blob.digest.blob: blob.file for blob in blobs}
    files |= {digest_of(content).blob: content for content in (configuration, manifest)}
    layout = {"imageLayoutVersion": LAYOUT_VERSION}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, value in (("oci-layout", layout), ("index.json", index), ("manifest.json", [docker])):
            _add(tar, path, _json(value))
        for path in sorted(files):
            _add(tar, path, files[path])


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if isinstance(content, bytes):
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        return
    with content.open("rb") as stream:
        info.size = content.stat().st_size
        tar.addfile(info, stream)


class _HashedWriter:
    """Counts and hashes what goes to a file."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self._count = 0

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self._count += len(content)
        self._target.write(content)
        return len(content)

    def tell(self) -> int:
        return self._count

    def flush(self) -> None:
        self._target.flush()

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())


def _pack(layer: _Layer, file: Path) -> _Blob:
    with file.open("wb") as stream:
        packed = _HashedWriter(stream)
        with gzip.GzipFile(
            filename="", mode="wb", compresslevel=_LEVEL, fileobj=cast("BinaryIO", packed), mtime=0
        ) as compressor:
            plain = _HashedWriter(cast("BinaryIO", compressor))
            with tarfile.TarFile(
                fileobj=cast("BinaryIO", plain),
                mode="w",
                format=tarfile.PAX_FORMAT,
                encoding="utf-8",
                errors="surrogateescape",
            ) as tar:
                _Packer(layer, tar).pack()
    return _Blob(packed.digest, packed.tell(), file, plain.digest)


class _Packer:
    """Writes one tree, by name, a directory before what it contains."""

    def __init__(self, layer: _Layer, tar: tarfile.TarFile) -> None:
        self._layer = layer
        self._tar = tar
        self._privileged = os.geteuid() == 0
        self._linked: dict[tuple[int, int], str] = {}

    def pack(self) -> None:
        root = self._layer.tree
        self._tar.addfile(self._info("./", root, root.lstat()))
        if self._layer.opaque_root:
            self._mark(OPAQUE_NAME)
        self._pack_directory(root, "")

    def _pack_directory(self, directory: Path, prefix: str) -> None:
        with os.scandir(directory) as listing:
            names = sorted((entry.name for entry in listing), key=os.fsencode)
        for name in names:
            path, place = prefix + name, directory / name
            status = place.lstat()
            if os.fsencode(name).startswith(WHITEOUT_PREFIX):
                raise InputError(f"{place}: in an image such a name would be a whiteout")
            if self._layer.is_layer and is_whiteout(status):
                self._mark(os.fsencode(prefix) + WHITEOUT_PREFIX + os.fsencode(name))
            elif stat.S_ISDIR(status.st_mode):
                self._tar.addfile(self._info(path, place, status))
                if self._layer.is_layer and is_opaque(place):
                    self._mark(os.fsencode(path) + b"/" + OPAQUE_NAME)
                self._pack_directory(place, f"{path}/")
            else:
                self._pack_file(path, place, status)

    def _pack_file(self, path: str, place: Path, status: os.stat_result) -> None:
        info = self._info(path, place, status)
        key = (status.st_dev, status.st_ino)
        if key in self._linked:
            info.type, info.linkname = tarfile.LNKTYPE, self._linked[key]
            # A link has no attributes of its own.
            info.pax_headers = {}
            self._tar.addfile(info)
            return
        if status.st_nlink > 1:
            self._linked[key] = path
        if stat.S_ISREG(status.st_mode):
            info.size = status.st_size
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=CHUNK) as content:
                self._tar.addfile(info, content)
            return
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(place)  # noqa: PTH115 - kept as it is
        elif stat.S_ISFIFO(status.st_mode):
            info.type = tarfile.FIFOTYPE
        else:
            raise InputError(f"{place} is a device or a socket, which images do not hold")
        self._tar.addfile(info)

    def _mark(self, name: bytes) -> None:
        info = tarfile.TarInfo(os.fsdecode(name))
        info.mode = 0o644
        self._tar.addfile(info)

    def _info(self, path: str, place: Path, status: os.stat_result) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        info.mode = stat.S_IMODE(status.st_mode)
        if self._privileged:
            info.uid, info.gid = status.st_uid, status.st_gid
        attributes = {
            key: os.getxattr(place, key, follow_symlinks=False)
            for key in os.listxattr(place, follow_symlinks=False)
            if (key.startswith(_KEPT_ATTRIBUTES) and not key.startswith(_OVERLAY_ATTRIBUTES))
            or key == CAPABILITY_ATTRIBUTE
        }
        if record := self._layer.recorded.get(path.removesuffix("./")):
            info.mode, info.uid, info.gid = record.mode, record.uid, record.gid
            if record.capability:
                attributes[CAPABILITY_ATTRIBUTE] = base64.b64decode(record.capability)
        headers = {
            f"SCHILY.xattr.{key}": attributes[key].decode("utf-8", "surrogateescape")
            for key in sorted(attributes)
        }
        nanoseconds = status.st_mtime_ns if self._layer.date is None else self._layer.date * _SECOND
        info.mtime = nanoseconds // _SECOND
        if nanoseconds % _SECOND or nanoseconds < 0:
            # tarfile would write a fraction as a float, too coarse for nanoseconds.
            seconds, rest = divmod(abs(nanoseconds), _SECOND)
            headers["mtime"] = f"{'-' * (nanoseconds < 0)}{seconds}.{rest:09d}"
        info.pax_headers = headers
        return info


def _document(configuration: ImageConfiguration) -> dict[str, object]:
    config: dict[str, object] = {
        "Env": list(configuration.env),
        "Entrypoint": list(configuration.entrypoint),
        "Cmd": list(configuration.cmd),
        "User": configuration.user,
        "WorkingDir": configuration.working_dir,
        "ExposedPorts": {port: {} for port in configuration.exposed_ports},
        "Volumes": {path: {} for path in configuration.volumes},
        "StopSignal": configuration.stop_signal,
        "Labels": dict(configuration.labels),
    }
    platform = configuration.platform
    document: dict[str, object] = {
        "created": "1970-01-01T00:00:00Z",
        "os": platform.os,
        "architecture": platform.architecture,
        "config": {key: value for key, value in config.items() if value},
    }
    return document | ({"variant": platform.variant} if platform.variant else {})


def _descriptor(media_type: str, digest: Digest, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def _docker_tags(name: str) -> list[str] | None:
    match = _DOCKER_NAME.fullmatch(name)
    if match is None:
        return None  # docker loads it without a name
    return [name if match["tag"] else f"{name}:latest"]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
