"""The images and layers in the cache: imported, found, held while they are used, and collected.

`layers/<algorithm>/<digits>/` is one layer and `oci/<name>/` is one image. A killed import leaves hidden
folders only, which the next one removes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from pybench.runtime.cache import cache_directory, locked, storage_errors
from pybench.runtime.container.image.compression import MAGIC_SIZE, compression_of, decompressed
from pybench.runtime.container.image.configuration import host_platform, parse_configuration
from pybench.runtime.container.image.digest import Digest, VerifiedStream
from pybench.runtime.container.image.layer import unpack
from pybench.runtime.container.image.layout import find_image
from pybench.runtime.container.image.limits import DEFAULT_LIMITS, Limits
from pybench.runtime.container.image.source import check_unpacked, open_source
from pybench.runtime.container.image.stored import TREE, StoredImage, read_layer, write_layer
from pybench.runtime.container.image.tar import TarReader
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pybench.runtime.container.image.digest import Readable
    from pybench.runtime.container.image.layout import FoundImage, LayerBlob
    from pybench.runtime.container.image.source import Source

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}")
_UNFINISHED: Final = ".unfinished-"
_CONFIGURATION: Final = "config.json"
_MANIFEST: Final = "manifest.json"
_LAYERS: Final = "layers.json"


def check_name(name: str) -> str:
    """The name, if an image can be called so.

    Raises:
        InputError: it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"an image cannot be called {name[:200]!r}",
            "up to 128 letters, digits and . _ / : @ + -, beginning with a letter or digit",
        )
    return name


class ImageStore:
    """All images of one cache."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """A store in `directory`, by default the user's cache; `progress` is told what is being done."""
        self._limits = limits
        self._progress = progress
        root = directory or cache_directory()
        self._images = root / "oci"
        self._layers = root / "layers"

    def add(self, path: Path, name: str = "", reference: str = "") -> StoredImage:
        """Import an image from a layout directory or an archive; an image of that name is replaced.

        Args:
            path: an OCI image layout, or a tar archive of one, or what `docker save` wrote.
            name: what to call it; by default what the file calls it, or else the file's own name.
            reference: which image, if the file holds several.

        Raises:
            InputError: the file is damaged, hostile, not understood, or for another platform.
            HostError: the cache cannot be written.
        """
        if name:
            check_name(name)
        with storage_errors(), self._writing():
            with open_source(path, self._images, self._limits) as source:
                found = find_image(source, host_platform(), self._limits, reference)
                name = check_name(name or _default_name(found, path))
                budget = self._limits.unpacked
                for number, blob in enumerate(found.layers, start=1):
                    self._progress(f"layer {number} of {len(found.layers)}")
                    budget -= self._add_layer(source, blob, replace(self._limits, unpacked=budget))
            self._publish(name, found)
        return self.image(name)

    def image(self, name: str) -> StoredImage:
        """The image of that name.

        Raises:
            InputError: there is none, or a layer of it is gone.
        """
        folder = self._folder(check_name(name))
        with storage_errors():
            content = self._read(folder)
            if content is None:
                # While an image is replaced, it has no name for a moment.
                with self._renaming():
                    content = self._read(folder)
            if content is None:
                hint = "pybench images import FILE --name NAME"
                raise InputError(f"there is no imported image {name}", hint)
            configuration = parse_configuration(content, str(folder / _CONFIGURATION))
            layers = tuple(read_layer(self._place(digest), digest) for digest in configuration.layers)
        return StoredImage(name, folder, configuration, content, layers)

    def names(self) -> list[str]:
        """What the images are called."""
        try:
            return sorted(unquote(path.name) for path in self._images.iterdir() if path.name[0] != ".")
        except FileNotFoundError:
            return []

    def images(self) -> list[StoredImage]:
        """All images, by name; those that lost a layer are left out."""
        images = []
        for name in self.names():
            try:
                images.append(self.image(name))
            except InputError:
                continue
        return images

    def remove(self, name: str) -> None:
        """Forget an image; its layers stay until `collect`.

        Raises:
            InputError: there is none.
        """
        folder = self._folder(check_name(name))
        with storage_errors(), self._renaming():
            if not folder.is_dir():
                raise InputError(f"there is no imported image {name}")
            with self._scratch(self._images) as scratch:
                folder.rename(scratch / "removed")

    def collect(self) -> tuple[Digest, ...]:
        """Remove the layers that no image has and nobody holds; returns them."""
        removed = []
        with storage_errors(), self._writing():
            used = {digest for name in self.names() for digest in self._layers_of(name)}
            for folder in sorted(self._layers.glob("*/[0-9a-f]*")):
                digest = Digest(folder.parent.name, folder.name)
                if digest not in used and self._discard(folder):
                    removed.append(digest)
        return tuple(removed)

    @contextmanager
    def hold(self, image: StoredImage) -> Iterator[tuple[Path, ...]]:
        """The lower directories for an overlay, topmost first, which `collect` leaves alone meanwhile.

        Raises:
            InputError: a layer is gone.
        """
        with ExitStack() as stack:
            for layer in image.layers:
                try:
                    descriptor = os.open(layer.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    stack.callback(os.close, descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    gone = not os.path.samestat(os.fstat(descriptor), layer.folder.stat())
                except FileNotFoundError:
                    gone = True
                if gone:
                    raise InputError(f"the layer {layer.diff_id} was removed", "import the image again")
            yield image.directories

    def _add_layer(self, source: Source, blob: LayerBlob, limits: Limits) -> int:
        """Verify a layer, and unpack it if the store has none of this content; returns its unpacked size."""
        where = f"{source.where}: layer {blob.name}"
        with source.open(blob.name) as start:
            compression = compression_of(start.read(MAGIC_SIZE))
        if blob.compression not in {None, compression}:
            raise InputError(f"{where} is {compression}, its media type says {blob.compression}")
        with source.open(blob.name) as content:
            verified = VerifiedStream(content, blob.digest, where) if blob.digest else None
            stream: Readable = verified or content
            unpacked = VerifiedStream(
                decompressed(stream, compression, where),
                blob.diff_id,
                f"{where}, unpacked,",
                lambda count: check_unpacked(count, blob.size, where, limits),
            )
            if not self._place(blob.diff_id).is_dir():
                self._unpack(unpacked, blob.diff_id, where, limits)
            else:
                # A layer is not had for naming its digest: whoever imports it must have its content.
                unpacked.finish()
            if verified:
                verified.finish()
        return unpacked.count

    def _unpack(self, stream: VerifiedStream, diff_id: Digest, where: str, limits: Limits) -> None:
        final = self._place(diff_id)
        final.parent.mkdir(exist_ok=True)
        with self._scratch(final.parent) as scratch:
            folder = scratch / "layer"
            tree = folder / TREE
            tree.mkdir(parents=True)
            facts = unpack(TarReader(stream, where, limits), tree, where, limits)
            stream.finish()
            write_layer(folder, facts)
            folder.rename(final)

    def _publish(self, name: str, found: FoundImage) -> None:
        final = self._folder(name)
        with self._scratch(self._images) as scratch:
            folder = scratch / "image"
            folder.mkdir()
            (folder / _CONFIGURATION).write_bytes(found.configuration_content)
            (folder / _MANIFEST).write_bytes(found.manifest)
            layers = [str(digest) for digest in found.configuration.layers]
            (folder / _LAYERS).write_text(json.dumps(layers), encoding="ascii")
            with self._renaming():
                if final.exists():
                    final.rename(scratch / "superseded")
                folder.rename(final)

    def _discard(self, folder: Path) -> bool:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._scratch(folder.parent) as scratch:
                folder.rename(scratch / "removed")
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with locked(self._images, "store", self._progress):
            # Images hold setuid programs: nobody else may reach them, as with docker's /var/lib/docker.
            self._layers.mkdir(mode=0o700, exist_ok=True)
            self._layers.chmod(0o700)
            for place in (self._images, *(path for path in self._layers.iterdir() if path.is_dir())):
                for leftover in place.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(leftover)
            yield

    def _renaming(self) -> AbstractContextManager[None]:
        return locked(self._images, "names", self._progress)

    @contextmanager
    def _scratch(self, place: Path) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)

    def _place(self, digest: Digest) -> Path:
        return self._layers / digest.algorithm / digest.digits

    def _folder(self, name: str) -> Path:
        return self._images / quote(name, safe=":@+")

    def _layers_of(self, name: str) -> list[Digest]:
        listed = json.loads((self._folder(name) / _LAYERS).read_text(encoding="ascii"))
        return [Digest(*text.split(":")) for text in listed]

    @staticmethod
    def _read(folder: Path) -> bytes | None:
        try:
            return (folder / _CONFIGURATION).read_bytes()
        except FileNotFoundError:
            return None


def _default_name(found: FoundImage, path: Path) -> str:
    """What the file calls the image; a mere tag such as `latest` does not name it."""
    named = [name for name in found.names if name != "latest"]
    return named[0] if named else path.resolve().name.partition(".")[0]
