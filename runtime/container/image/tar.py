"""A tar archive read once from its beginning to its end, with every claim of its headers bounded.

Not the standard library's `tarfile`: it reads a header of any size into memory, searches it with
expressions of quadratic cost (CVE-2024-6232, present in the Python of Debian 12), follows a chain
of headers by recursion, and decodes names. Formats: V7, ustar, pax (POSIX.1-2008, `pax`, "Extended
Description"), GNU with long names, and sparse files as GNU tar writes them (its manual, "Storing
Sparse Files").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.digest import CHUNK
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybench.runtime.container.image.digest import Readable
    from pybench.runtime.container.image.limits import Limits

BLOCK: Final = 512

FILE: Final = b"0"
HARD_LINK: Final = b"1"
SYMBOLIC_LINK: Final = b"2"
CHARACTER_DEVICE: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"
TYPE_NAMES: Final = {
    FILE: "a file",
    HARD_LINK: "a hard link",
    SYMBOLIC_LINK: "a symbolic link",
    CHARACTER_DEVICE: "a character device",
    BLOCK_DEVICE: "a block device",
    DIRECTORY: "a directory",
    FIFO: "a named pipe",
}

_PAX: Final = b"x"
_GLOBAL_PAX: Final = b"g"
_LONG_NAME: Final = b"L"
_LONG_LINK: Final = b"K"
_GNU_SPARSE: Final = b"S"
_FILES: Final = {FILE, b"\0", b"7", _GNU_SPARSE}  # 7 is a contiguous file: a file, where nobody cares
_XATTR: Final = b"SCHILY.xattr."
_DATE: Final = re.compile(rb"(-?)(\d{1,12})(?:\.(\d*))?")
_SECOND: Final = 10**9
_OLD_SPARSE_ROWS: Final = 4
_EXTENDED_SPARSE_ROWS: Final = 21
_RECORD_LENGTH_DIGITS: Final = 8

Segment = tuple[int, int]


@dataclass(slots=True)
class Entry:
    """One entry of an archive; names are bytes, as the kernel has them."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    modified: int
    """Nanoseconds since the epoch."""
    size: int = 0
    """Bytes of a file, holes included."""
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    attributes: dict[bytes, bytes] = field(default_factory=dict)
    """Extended attributes by full name."""
    segments: tuple[Segment, ...] = ()
    """Offset and length of what a file is made of; between them are holes."""


def printable(name: bytes) -> str:
    """A name as a message can show it: escaped and bounded."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - a line or two of a terminal


class TarReader:
    """Iterates over the entries; `content` gives the data of the one that came last."""

    def __init__(self, source: Readable, where: str, limits: Limits) -> None:
        self._source = source
        self._where = where
        self._limits = limits
        self._position = 0
        self._end_of_content = 0
        self._end_of_entry = 0
        self._header_budget = 0

    def __iter__(self) -> Iterator[Entry]:
        """All entries.

        Raises:
            InputError: the archive is malformed, truncated or beyond a limit.
        """
        for number in range(1, self._limits.entries + 2):
            entry = self._next()
            if entry is None:
                return
            if number > self._limits.entries:
                raise self._error(f"more than {self._limits.entries} entries")
            yield entry

    def content(self, entry: Entry) -> Iterator[tuple[int, bytes]]:
        """The data of the current entry, in pieces with their offset in the file; holes are left out."""
        for offset, length in entry.segments:
            done = 0
            while done < length:
                piece = self._read(min(CHUNK, length - done))
                yield offset + done, piece
                done += len(piece)

    @property
    def data_position(self) -> int:
        """Where in the archive the current entry's data begin, as long as none were read."""
        return self._position

    def _next(self) -> Entry | None:
        self._skip(self._end_of_entry - self._position)
        self._header_budget = self._limits.header
        records = _Records()
        while True:
            block = self._header_block()
            if block is None:
                return None
            size, kind = self._number(block, 124, 12), block[156:157]
            if kind == _PAX:
                records.update(self._records(self._extension(size)))
            elif kind == _GLOBAL_PAX:
                self._check_global(self._records(self._extension(size)))
            elif kind == _LONG_NAME:
                records.values[b"path"] = self._extension(size).rstrip(b"\0")
            elif kind == _LONG_LINK:
                records.values[b"linkpath"] = self._extension(size).rstrip(b"\0")
            else:
                return self._entry(block, records)

    def _header_block(self) -> bytes | None:
        block = self._source.read(BLOCK)
        if not block:
            return None
        block += self._exactly(BLOCK - len(block))
        self._position += BLOCK
        self._spend(BLOCK)
        if not any(block):
            return None  # what follows the end is padding
        summed = block[:148] + b" " * 8 + block[156:]
        claimed = self._number(block, 148, 8)
        # Some old programs summed signed bytes.
        if claimed != sum(summed) and claimed != sum(memoryview(summed).cast("b")):
            raise self._error("no tar header where one should be")
        return block

    def _entry(self, block: bytes, records: _Records) -> Entry:
        values = records.values
        stored = self._decimal(values, b"size", self._number(block, 124, 12))
        name = values.get(b"GNU.sparse.name") or values.get(b"path") or _header_name(block)
        kind = block[156:157]
        is_file = kind in _FILES
        if is_file:
            kind = DIRECTORY if name.endswith(b"/") else FILE
        elif kind not in TYPE_NAMES:
            raise self._error(f"{printable(name)} is an entry of unknown type {printable(kind)}")
        entry = Entry(
            name=name,
            type=kind,
            mode=self._number(block, 100, 8) & 0o7777,
            uid=self._decimal(values, b"uid", self._number(block, 108, 8)),
            gid=self._decimal(values, b"gid", self._number(block, 116, 8)),
            modified=self._date(values, self._number(block, 136, 12)),
            link=values.get(b"linkpath") or block[157:257].partition(b"\0")[0],
            attributes={key.removeprefix(_XATTR): v for key, v in values.items() if key.startswith(_XATTR)},
        )
        if kind in {CHARACTER_DEVICE, BLOCK_DEVICE}:
            entry.device = (self._number(block, 329, 8), self._number(block, 337, 8))
        # Links, directories and the like have no data, whatever their size says (as in Go's archive/tar).
        stored = stored if is_file else 0
        self._end_of_content = self._position + stored
        self._end_of_entry = self._position + -(-stored // BLOCK) * BLOCK
        if kind == FILE:
            self._lay_out(entry, block, records, stored)
        return entry

    def _lay_out(self, entry: Entry, block: bytes, records: _Records, stored: int) -> None:
        """Find the size of a file and where its data belong."""
        values = records.values
        if block[156:157] == _GNU_SPARSE:
            entry.size = self._number(block, 483, 12)
            entry.segments = self._gnu_map(block)
            # The rows beyond the header's own come before the data and are not part of their size.
            self._end_of_content = self._position + stored
            self._end_of_entry = self._position + -(-stored // BLOCK) * BLOCK
        elif values.get(b"GNU.sparse.major") == b"1":
            entry.size = self._decimal(values, b"GNU.sparse.realsize", 0)
            entry.segments = self._pax_map()
        elif b"GNU.sparse.map" in values or records.sparse:
            numbers = values[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in values else records.sparse
            entry.size = self._decimal(values, b"GNU.sparse.size", 0)
            entry.segments = _pairs([self._digits(number) for number in numbers if number])
        else:
            entry.size = stored
            entry.segments = ((0, stored),)
        position = 0
        for offset, length in entry.segments:
            if offset < position or offset + length > entry.size:
                raise self._error(f"{printable(entry.name)}: the map of the sparse file contradicts itself")
            position = offset + length
        if sum(length for _, length in entry.segments) != self._end_of_content - self._position:
            raise self._error(f"{printable(entry.name)}: the map of the sparse file does not cover its data")

    def _gnu_map(self, block: bytes) -> tuple[Segment, ...]:
        rows, start, more = _OLD_SPARSE_ROWS, 386, block[482]
        numbers: list[int] = []
        while True:
            for row in range(start, start + rows * 24, 24):
                if block[row : row + 24].strip(b"\0 "):
                    numbers += self._number(block, row, 12), self._number(block, row + 12, 12)
            if not more:
                return _pairs(numbers)
            block = self._extension(BLOCK)
            rows, start, more = _EXTENDED_SPARSE_ROWS, 0, block[504]

    def _pax_map(self) -> tuple[Segment, ...]:
        """Format 1.0: decimal numbers, each on a line, in whole blocks before the data."""
        text, lines, wanted = bytearray(), 0, 1
        while lines < wanted:
            if self._position + BLOCK > self._end_of_content:
                raise self._error("the map of a sparse file is longer than the file")
            block = self._extension(BLOCK)
            text += block
            lines += block.count(b"\n")
            if wanted == 1 and lines:
                wanted += 2 * self._digits(bytes(text[: text.index(b"\n")]))
        return _pairs([self._digits(line) for line in bytes(text).split(b"\n")[1:wanted]])

    def _records(self, content: bytes) -> _Records:
        """The records of a pax header, each `length key=value` and a line feed."""
        records, position = _Records(), 0
        while position < len(content):
            space = content.find(b" ", position, position + _RECORD_LENGTH_DIGITS)
            end = position + self._digits(content[position:space]) if space > position else 0
            key, equals, value = content[space + 1 : end - 1].partition(b"=")
            if end <= space or end > len(content) or content[end - 1 : end] != b"\n" or not equals:
                raise self._error("a malformed pax header")
            records.add(key, value)
            position = end
        return records

    def _check_global(self, records: _Records) -> None:
        # Go's reader, and with it docker and containerd, applies none of them.
        for key in records.values:
            if key != b"comment":
                raise self._error(f"a global pax header sets {printable(key)}, which image layers do not use")

    def _date(self, values: dict[bytes, bytes], seconds: int) -> int:
        text = values.get(b"mtime", b"%d" % seconds)
        match = _DATE.fullmatch(text)
        if match is None:
            raise self._error(f"{printable(text)} is no date")
        fraction = int((match[3] or b"")[:9].ljust(9, b"0"))
        nanoseconds = int(match[2]) * _SECOND + fraction
        return -nanoseconds if match[1] else nanoseconds

    def _number(self, block: bytes, start: int, length: int) -> int:
        """A number in octal digits, or in GNU's base 256."""
        text = block[start : start + length]
        if text[0] & 0x80:
            # The second highest bit is the sign.
            value = int.from_bytes(text, "big") & ((1 << (8 * length - 1)) - 1)
            return value - (1 << (8 * length - 1)) if text[0] & 0x40 else value
        digits = text.partition(b"\0")[0].strip(b" ")
        if digits.strip(b"01234567"):
            raise self._error(f"{printable(text)} is no octal number")
        return int(digits or b"0", 8)

    def _decimal(self, values: dict[bytes, bytes], key: bytes, default: int) -> int:
        value = self._digits(values[key]) if key in values else default
        if value < 0:
            raise self._error(f"a negative {key.decode()}")
        return value

    def _digits(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > 20:  # noqa: PLR2004 - the digits of 2**64
            raise self._error(f"{printable(text)} is no decimal number")
        return int(text)

    def _extension(self, size: int) -> bytes:
        if size < 0:
            raise self._error("a header of negative size")
        padded = -(-size // BLOCK) * BLOCK
        self._spend(padded)
        return self._read(padded)[:size]

    def _spend(self, size: int) -> None:
        self._header_budget -= size
        if self._header_budget < 0:
            raise self._error(f"an entry with more than {self._limits.header} bytes of headers")

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._read(min(CHUNK, size)))

    def _read(self, size: int) -> bytes:
        content = self._exactly(size)
        self._position += size
        return content

    def _exactly(self, size: int) -> bytes:
        content = self._source.read(size) if size else b""
        while len(content) < size:
            more = self._source.read(size - len(content))
            if not more:
                raise self._error("it ends in the middle of an entry")
            content += more
        return content

    def _error(self, reason: str) -> InputError:
        return InputError(f"{self._where}: {reason}", "the archive is damaged or malformed")


class _Records:
    """What pax headers say of the next entry; format 0.0 of sparse files repeats its keys."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.sparse: list[bytes] = []

    def add(self, key: bytes, value: bytes) -> None:
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            self.sparse.append(value)
        elif value or key.startswith(_XATTR):
            self.values[key] = value
        else:
            self.values.pop(key, None)

    def update(self, other: _Records) -> None:
        self.values.update(other.values)
        self.sparse += other.sparse


def _pairs(numbers: list[int]) -> tuple[Segment, ...]:
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))


def _header_name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] != b"ustar\0":
        return name  # GNU keeps other dates where POSIX has the prefix
    prefix = block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name
