"""Find the image for this platform in an OCI image layout or in what `docker save` wrote.

Follows the OCI image-spec v1.1 (image-layout.md, image-index.md, manifest.md), Docker's image
manifest v2 schema 2, and Docker's image specification v1.2 for archives with a `manifest.json`.
"""

from __future__ import annotations

import io
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pybench.runtime.container.image.compression import GZIP, PLAIN, ZSTD
from pybench.runtime.container.image.configuration import ImageConfiguration, Platform, parse_configuration
from pybench.runtime.container.image.digest import Digest, VerifiedStream, parse_digest
from pybench.runtime.container.image.documents import Document, objects, parse_json
from pybench.runtime.container.image.source import read_all, read_document
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pybench.runtime.container.image.limits import Limits
    from pybench.runtime.container.image.source import Source

Item = TypeVar("Item")

LAYOUT_VERSION: Final = "1.0.0"
NAME_ANNOTATION: Final = "org.opencontainers.image.ref.name"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"

_INDEX_TYPES: Final = {INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json"}
_MANIFEST_TYPES: Final = {MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json"}
_CONFIGURATION_TYPES: Final = {CONFIGURATION_TYPE, "application/vnd.docker.container.image.v1+json"}
_NONDISTRIBUTABLE_TYPE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_LAYER_TYPE: Final = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN_TYPE: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_LAYER_TYPES: Final = {
    **{f"{start}{end}": kind for start in (LAYER_TYPE, _NONDISTRIBUTABLE_TYPE)
       for end, kind in (("", PLAIN), ("+gzip", GZIP), ("+zstd", ZSTD))},
    **{f"{start}{end}": kind for start in (_DOCKER_LAYER_TYPE, _DOCKER_FOREIGN_TYPE)
       for end, kind in (("", PLAIN), (".gzip", GZIP), (".zstd", ZSTD))},
}  # fmt: skip
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_ATTESTATION: Final = "vnd.docker.reference.type"  # buildkit's, docs/attestations/attestation-storage.md
_BASIC_VARIANTS: Final = {"", "v1", "v8"}
"""What every amd64 and every arm64 machine runs."""
_DEPTH: Final = 4
"""Indexes within indexes."""
_DOCKER_CONFIGURATION: Final = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_DOCKER_BLOB: Final = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer as it lies in a source, and what is known of it beforehand."""

    name: str
    diff_id: Digest
    digest: Digest | None
    """Of the blob as it is; None in older archives of Docker's."""
    size: int
    compression: str | None
    """None where only the first bytes tell."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """One image of a source; manifest and configuration are verified, the layers are not yet."""

    names: tuple[str, ...]
    manifest: bytes
    configuration_content: bytes
    configuration: ImageConfiguration
    layers: tuple[LayerBlob, ...]


@dataclass(frozen=True, slots=True)
class _Descriptor:
    media_type: str
    digest: Digest
    size: int
    platform: Platform | None
    names: tuple[str, ...]
    is_attestation: bool


def find_image(source: Source, platform: Platform, limits: Limits, reference: str = "") -> FoundImage:
    """The image for `platform`, called `reference` if the source holds several.

    Raises:
        InputError: there is none, or more than one; or a document is missing, damaged or not understood.
    """
    if source.size("oci-layout") is not None:
        found = _find_oci(source, platform, limits, reference)
    elif source.size("manifest.json") is not None:
        found = _find_docker(source, platform, limits, reference)
    else:
        raise InputError(
            f"{source.where} holds no image: neither oci-layout nor manifest.json is in it",
            "give an OCI image layout, or a file written by docker save, podman save or skopeo copy",
        )
    count = len(found.configuration.layers)
    if count > limits.layers:
        raise InputError(f"{source.where}: an image of {count} layers, more than {limits.layers}")
    return found


class _OciImages:
    """The manifests that an index leads to."""

    def __init__(self, source: Source, platform: Platform, limits: Limits) -> None:
        self._source = source
        self._platform = platform
        self._limits = limits
        self._seen: set[Digest] = set()
        self.other_platforms: set[str] = set()

    def first(self, descriptor: _Descriptor, depth: int = 0) -> _Descriptor | None:
        """The first manifest for the platform: the one that the specification wants used."""
        if descriptor.is_attestation or not self._suits(descriptor):
            return None
        if descriptor.media_type in _MANIFEST_TYPES:
            return descriptor if descriptor.platform or self._configured_for_platform(descriptor) else None
        if descriptor.media_type not in _INDEX_TYPES:
            raise InputError(
                f"{self._source.where}: {descriptor.digest} is of the unknown media type "
                f"{descriptor.media_type[:100]!r}"
            )
        # The same index may be named often, and each of its own again: visited once, it cannot multiply.
        if depth == _DEPTH or descriptor.digest in self._seen:
            return None
        self._seen.add(descriptor.digest)
        where = f"{self._source.where}: index {descriptor.digest}"
        index = Document(parse_json(self._read(descriptor), where), where)
        for inner in index.objects("manifests"):
            if found := self.first(_descriptor(inner), depth + 1):
                return found
        return None

    def load(self, descriptor: _Descriptor) -> tuple[bytes, bytes, Document]:
        """Manifest and configuration as bytes, and the parsed manifest."""
        content = self._read(descriptor)
        where = f"{self._source.where}: manifest {descriptor.digest}"
        manifest = Document(parse_json(content, where), where)
        configuration = _descriptor(manifest.object("config"))
        if configuration.media_type not in _CONFIGURATION_TYPES:
            raise InputError(
                f"{where}: its configuration is of the unknown media type "
                f"{configuration.media_type[:100]!r}: no container image"
            )
        return content, self._read(configuration), manifest

    def _suits(self, descriptor: _Descriptor) -> bool:
        found = descriptor.platform
        if found is None:
            return True
        suits = (found.os, found.architecture) == (self._platform.os, self._platform.architecture)
        if suits and found.variant in _BASIC_VARIANTS:
            return True
        self.other_platforms.add(str(found))
        return False

    def _configured_for_platform(self, descriptor: _Descriptor) -> bool:
        _, content, _ = self.load(descriptor)
        found = parse_configuration(content, f"{self._source.where}: configuration").platform
        if (found.os, found.architecture) == (self._platform.os, self._platform.architecture):
            return True
        self.other_platforms.add(str(found))
        return False

    def _read(self, descriptor: _Descriptor) -> bytes:
        return _read_blob(self._source, descriptor.digest, descriptor.size, self._limits)


def _find_oci(source: Source, platform: Platform, limits: Limits, reference: str) -> FoundImage:
    layout = _document(source, "oci-layout", limits)
    version = layout.required_text("imageLayoutVersion")
    if version != LAYOUT_VERSION:
        raise InputError(f"{source.where}: oci-layout: unknown version {version[:40]!r}")
    images = _OciImages(source, platform, limits)
    named: dict[Digest, tuple[_Descriptor, list[str]]] = {}
    for item in _document(source, "index.json", limits).objects("manifests"):
        descriptor = _descriptor(item)
        if reference and reference not in descriptor.names:
            continue
        if found := images.first(descriptor):
            named.setdefault(found.digest, (found, []))[1].extend(descriptor.names)
    if not named:
        raise _none_found(source, platform, reference, images.other_platforms)
    descriptor, names = _only(source, list(named.values()))
    manifest, configuration, document = images.load(descriptor)
    parsed = _configuration(source, configuration, platform)
    return FoundImage(tuple(names), manifest, configuration, parsed, _oci_layers(source, document, parsed))


def _oci_layers(
    source: Source, manifest: Document, configuration: ImageConfiguration
) -> tuple[LayerBlob, ...]:
    descriptors = [_descriptor(item) for item in manifest.objects("layers")]
    _check_count(source, len(descriptors), configuration)
    layers = []
    for descriptor, diff_id in zip(descriptors, configuration.layers, strict=True):
        where = f"{source.where}: layer {descriptor.digest}"
        if descriptor.media_type.endswith("+encrypted"):
            raise InputError(
                f"{where} is encrypted", "decrypt it first: skopeo copy --decryption-key KEY SOURCE TARGET"
            )
        if descriptor.media_type not in _LAYER_TYPES:
            raise InputError(f"{where} is of the unknown media type {descriptor.media_type[:100]!r}")
        _check_size(source, descriptor.digest, descriptor.size)
        compression = _LAYER_TYPES[descriptor.media_type]
        digest = descriptor.digest
        layers.append(LayerBlob(digest.blob, diff_id, digest, descriptor.size, compression))
    return tuple(layers)


def _find_docker(source: Source, platform: Platform, limits: Limits, reference: str) -> FoundImage:
    content = read_document(source, "manifest.json", limits.document)
    where = f"{source.where}: manifest.json"
    found = []
    for item in objects(parse_json(content, where), where):
        names = item.texts("RepoTags")
        if not reference or reference in names:
            found.append((item, list(names)))
    if not found:
        raise _none_found(source, platform, reference, set())
    item, tags = _only(source, found)
    name = _inside(item.required_text("Config"), where)
    configuration = read_document(source, name, limits.document)
    if match := _DOCKER_CONFIGURATION.fullmatch(name):
        _verify(configuration, Digest("sha256", match[1]), f"{source.where}: {name}")
    parsed = _configuration(source, configuration, platform)
    blobs = item.texts("Layers")
    _check_count(source, len(blobs), parsed)
    layers = []
    for path, diff_id in zip(blobs, parsed.layers, strict=True):
        blob = _inside(path, where)
        size = source.size(blob)
        if size is None:
            raise InputError(f"{source.where}: the layer {blob} is missing", "the file is incomplete")
        match = _DOCKER_BLOB.fullmatch(blob)
        layers.append(LayerBlob(blob, diff_id, Digest("sha256", match[1]) if match else None, size, None))
    return FoundImage(tuple(tags), content, configuration, parsed, tuple(layers))


def _only(source: Source, found: list[tuple[Item, list[str]]]) -> tuple[Item, list[str]]:
    """The one image; several without names are alternatives, of which the first counts."""
    names = sorted({name for _, several in found for name in several})
    if len(found) > 1 and names:
        listed = ", ".join(name[:100] for name in names[:20])
        raise InputError(f"{source.where} holds several images: {listed}", "say which: --reference NAME")
    return found[0]


def _none_found(source: Source, platform: Platform, reference: str, others: set[str]) -> InputError:
    wanted = f"{reference} for {platform}" if reference else f"an image for {platform}"
    message = f"{source.where} does not hold {wanted}"
    return InputError(f"{message}, only for {', '.join(sorted(others))[:200]}" if others else message)


def _configuration(source: Source, content: bytes, platform: Platform) -> ImageConfiguration:
    found = parse_configuration(content, f"{source.where}: configuration")
    if (found.platform.os, found.platform.architecture) != (platform.os, platform.architecture):
        raise InputError(f"{source.where} holds an image for {found.platform}; this machine is {platform}")
    return found


def _check_count(source: Source, count: int, configuration: ImageConfiguration) -> None:
    if count != len(configuration.layers):
        expected = len(configuration.layers)
        raise InputError(f"{source.where}: the manifest names {count} layers, the configuration {expected}")


def _document(source: Source, name: str, limits: Limits) -> Document:
    where = f"{source.where}: {name}"
    return Document(parse_json(read_document(source, name, limits.document), where), where)


def _descriptor(document: Document) -> _Descriptor:
    platform = None
    if document.values.get("platform") is not None:
        inner = document.object("platform")
        platform = Platform(inner.text("os"), inner.text("architecture"), inner.text("variant"))
    annotations = document.text_mapping("annotations")
    names = (annotations.get(key) for key in (_CONTAINERD_NAME, NAME_ANNOTATION))
    return _Descriptor(
        document.required_text("mediaType"),
        parse_digest(document.required_text("digest"), document.where),
        document.size("size"),
        platform,
        tuple(name for name in names if name),
        _ATTESTATION in annotations or platform == Platform("unknown", "unknown"),
    )


def _read_blob(source: Source, digest: Digest, size: int, limits: Limits) -> bytes:
    _check_size(source, digest, size)
    if size > limits.document:
        raise InputError(f"{source.where}: {digest.blob} has {size} bytes, more than {limits.document}")
    with source.open(digest.blob) as stream:
        verified = VerifiedStream(stream, digest, f"{source.where}: {digest.blob}")
        content = read_all(verified)
        verified.finish()
    return content


def _check_size(source: Source, digest: Digest, size: int) -> None:
    found = source.size(digest.blob)
    if found is None:
        raise InputError(f"{source.where}: the blob {digest} is missing", "the file is incomplete")
    if found != size:
        raise InputError(f"{source.where}: the blob {digest} has {found} bytes, its descriptor says {size}")


def _verify(content: bytes, digest: Digest, where: str) -> None:

    VerifiedStream(io.BytesIO(content), digest, where).finish()


def _inside(name: str, where: str) -> str:
    normal = posixpath.normpath(name)
    if normal.startswith(("/", "../")) or normal in {".", ".."}:
        raise InputError(f"{where}: {name[:200]!r} leads outside of the image")
    return normal
