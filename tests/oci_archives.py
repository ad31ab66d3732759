"""Builds OCI layouts, docker archives and layers for the tests, good ones and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pybench.runtime.container.image import ImageStore, flatten

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIGURATION = "application/vnd.oci.image.config.v1+json"
AMD64 = {"os": "linux", "architecture": "amd64"}


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **values: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of a tar archive; `values` are attributes of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **values: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A directory."""
    return entry(name, tarfile.DIRTYPE, **values)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link."""
    return entry(name, tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """A tar archive in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(content: bytes, algorithm: str = "sha256") -> str:
    """A digest as OCI spells it."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def as_json(value: object) -> bytes:
    """A document."""
    return json.dumps(value).encode()


@dataclass
class Layout:
    """An image layout in the making: blobs, and what the index will list."""

    algorithm: str = "sha256"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
        """Add a blob; returns its descriptor."""
        name = digest(content, self.algorithm)
        self.blobs[f"blobs/{name.replace(':', '/')}"] = content
        return {"mediaType": media_type, "digest": name, "size": len(content), **more}

    def image(
        self,
        *layers: bytes,
        config: dict[str, Any] | None = None,
        platform: dict[str, str] | None = None,
        compress: bool = True,
        **more: Any,
    ) -> dict[str, Any]:
        """Add an image of uncompressed layers; returns the manifest's descriptor, which no index has yet."""
        platform = platform or AMD64
        document = {
            **platform,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer, self.algorithm) for layer in layers]},
        }
        descriptors = [
            self.blob(f"{LAYER}+gzip", gzip.compress(layer, mtime=0)) if compress else self.blob(LAYER, layer)
            for layer in layers
        ]
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(CONFIGURATION, as_json(document)),
            "layers": descriptors,
        }
        return self.blob(MANIFEST, as_json(manifest), **more)

    def add(self, *layers: bytes, **more: Any) -> dict[str, Any]:
        """Add an image to the index."""
        descriptor = self.image(*layers, **more)
        self.manifests.append(descriptor)
        return descriptor

    def files(self) -> dict[str, bytes]:
        """All files of the layout."""
        return {
            "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
            "index.json": as_json({"schemaVersion": 2, "manifests": self.manifests}),
            **self.blobs,
        }

    def archive(self, path: Path) -> Path:
        """Write it as an archive."""
        path.write_bytes(tar(*(entry(name, data=content) for name, content in self.files().items())))
        return path

    def directory(self, path: Path) -> Path:
        """Write it as a directory."""
        for name, content in self.files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path


def archive_of(path: Path, *layers: bytes, **more: Any) -> Path:
    """An OCI archive with one image."""
    layout = Layout()
    layout.add(*layers, **more)
    return layout.archive(path)


def describe(root: Path, *, owners: bool = False) -> dict[str, tuple[object, ...]]:
    """Everything in a tree that an image should preserve, by path."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        names = [n for n in os.listxattr(path, follow_symlinks=False) if ".overlay." not in n]
        attributes = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
        who = (status.st_uid, status.st_gid) if owners else ()
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns, content, attributes, who)
    return found


def contents(store: ImageStore, name: str, target: Path) -> dict[str, bytes]:
    """The files of an image."""
    flatten(store.image(name).directories, target)
    return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}


BASE = tar(directory("etc/"), entry("etc/name", data=b"base"), entry("etc/old", data=b"old"))
TOP = tar(entry("etc/name", data=b"top"), entry("etc/.wh.old"), symlink("link", "etc/name"))
