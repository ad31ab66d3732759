"""Layers and archives as they come: plain, gzip or zstd, told apart by their first bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, Final, cast

from pybench.runtime.container.image.digest import CHUNK
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from typing import IO

    from pybench.runtime.container.image.digest import Readable

PLAIN: Final = "plain"
GZIP: Final = "gzip"
ZSTD: Final = "zstd"

_MAGIC: Final = {b"\x1f\x8b": GZIP, b"\x28\xb5\x2f\xfd": ZSTD}
MAGIC_SIZE: Final = 4
_WINDOW: Final = 1 << 27
"""Bytes of memory that a zstd frame may ask for: what `zstd -d` accepts without being told more."""


def compression_of(start: bytes) -> str:
    """How a file that begins so is compressed."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), PLAIN)


def decompressed(source: Readable, compression: str, where: str) -> Readable:
    """A stream of what `source` unpacks to; its errors are InputErrors."""
    if compression == PLAIN:
        return source
    if compression == GZIP:
        # GzipFile asks for more than `read`, but only when it is told to seek.
        return _Decompressed(cast("Readable", gzip.GzipFile(fileobj=cast("IO[bytes]", source))), where)
    import zstandard  # noqa: PLC0415 - few images need it

    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    reader = unpacker.stream_reader(cast("IO[bytes]", source), read_size=CHUNK, read_across_frames=True)
    return _Decompressed(cast("Readable", reader), where, zstandard.ZstdError)


class _Decompressed(io.RawIOBase):
    def __init__(self, source: Readable, where: str, *errors: type[Exception]) -> None:
        super().__init__()
        self._source = source
        self._where = where
        self._errors: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error, *errors)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(CHUNK if size < 0 else size)
        except self._errors as error:
            raise InputError(f"{self._where} cannot be unpacked: {error}", "the file is damaged") from error
