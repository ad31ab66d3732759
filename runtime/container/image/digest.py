"""Digests as OCI spells them, and streams that are read once and verified on the way."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 1 << 20
"""Bytes that are read at a time."""

_DIGITS: Final = {"sha256": 64, "sha512": 128}
_FORM: Final = re.compile(r"(?P<algorithm>sha256|sha512):(?P<digits>[0-9a-f]+)")


class Readable(Protocol):
    """Anything that gives its bytes in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Digest:
    """A content's address: `sha256` or `sha512`, and lower-case hexadecimal digits."""

    algorithm: str
    digits: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"

    @property
    def blob(self) -> str:
        """The path of the blob in an image layout."""
        return f"blobs/{self.algorithm}/{self.digits}"


def parse_digest(text: str, where: str) -> Digest:
    """Read `algorithm:digits`.

    Raises:
        InputError: another algorithm, or digits that cannot be its own.
    """
    match = _FORM.fullmatch(text)
    if match is None or len(match["digits"]) != _DIGITS[match["algorithm"]]:
        raise InputError(f"{where}: {text[:200]!r} is no digest of sha256 or sha512")
    return Digest(match["algorithm"], match["digits"])


def digest_of(content: bytes) -> Digest:
    """The SHA-256 of a content held in memory."""
    return Digest("sha256", hashlib.sha256(content).hexdigest())


class VerifiedStream(io.RawIOBase):
    """Passes bytes on, counts and hashes them; `finish` reads the rest and compares.

    `guard` is called with the number of bytes read so far and may refuse to go on.
    """

    def __init__(
        self, source: Readable, digest: Digest, where: str, guard: Callable[[int], None] = lambda _count: None
    ) -> None:
        super().__init__()
        self.count = 0
        self._source = source
        self._digest = digest
        self._where = where
        self._guard = guard
        self._hash = hashlib.new(digest.algorithm)

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, or a chunk of them; none at the end."""
        content = self._source.read(CHUNK if size < 0 else size)
        self.count += len(content)
        self._guard(self.count)
        self._hash.update(content)
        return content

    def finish(self) -> None:
        """Read what is left and compare.

        Raises:
            InputError: the content is not the one that the digest stands for.
        """
        while self.read(CHUNK):
            pass
        found = self._hash.hexdigest()
        if found != self._digest.digits:
            raise InputError(
                f"{self._where} has the digest {self._digest.algorithm}:{found}, not {self._digest}",
                "the file is damaged or was tampered with",
            )
