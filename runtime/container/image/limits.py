"""How much an image may claim: what lies beyond is refused as a decompression bomb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MEBIBYTE: Final = 1 << 20
_GIBIBYTE: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one image; sizes are in bytes."""

    unpacked: int = 16 * _GIBIBYTE
    """Of all layers together, holes of sparse files included."""
    ratio: int = 200
    """Unpacked bytes of a layer per compressed byte, once it is larger than `unsuspicious`."""
    unsuspicious: int = _GIBIBYTE
    """A layer up to this size may be compressed however well: one file of zeros is no bomb."""
    entries: int = 1_000_000
    """Entries of one layer."""
    layers: int = 127
    """Docker's own limit; an overlay of the kernel takes 500 (OVL_MAX_STACK)."""
    path: int = 4095
    """PATH_MAX without its final zero byte."""
    depth: int = 256
    """Names of one path; every level of a path costs a file descriptor while it is written."""
    header: int = _MEBIBYTE
    """All headers that precede one entry; a Linux extended attribute alone may have 64 KiB."""
    document: int = 4 * _MEBIBYTE
    """A manifest, index or configuration; registries accept no larger manifest."""


DEFAULT_LIMITS: Final = Limits()
