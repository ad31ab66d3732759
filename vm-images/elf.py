"""As much of the ELF format as an image needs: notes of a kernel, sections of a module (elf(5))."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PVH_NOTE_NAME: Final = b"Xen"
PVH_NOTE_TYPE: Final = 18
"""XEN_ELFNOTE_PHYS32_ENTRY of Xen's public/elfnote.h: where a virtual machine monitor may enter
the kernel in 32-bit mode. QEMU's PVH boot looks for it."""

MAGIC: Final = b"\x7fELF"
X86_64: Final = 62
"""EM_X86_64 of elf(5)."""

_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_PT_NOTE: Final = 4

_FILE_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER: Final = struct.Struct("<IIQQQQIIQQ")
_NOTE_HEADER: Final = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of a PT_NOTE segment."""

    name: bytes
    type: int
    content: bytes


class Elf:
    """The content of a 64-bit little-endian ELF file; `origin` is what errors call it.

    Raises:
        InputError: it is none, or (from any method) it is cut short.
    """

    def __init__(self, data: bytes, origin: str) -> None:
        self._data = data
        self._origin = origin
        if not data.startswith(_ELF64_LITTLE):
            raise InputError(f"{origin} is not a 64-bit little-endian ELF file")
        header = self._unpack(_FILE_HEADER, 0)
        self.machine = header[2]
        """The processor it is for, one of the EM_ numbers of elf(5)."""
        self._programs_at, self._sections_at = header[5], header[6]
        self._program_size, self._program_count = header[9], header[10]
        self._section_size, self._section_count, self._names_index = header[11], header[12], header[13]

    def notes(self) -> Iterator[Note]:
        """Every note of every PT_NOTE segment."""
        for index in range(self._program_count):
            header = self._unpack(_PROGRAM_HEADER, self._programs_at + index * self._program_size)
            kind, offset, length = header[0], header[2], header[5]
            if kind == _PT_NOTE:
                yield from self._notes_of_segment(offset, offset + length)

    def _notes_of_segment(self, position: int, end: int) -> Iterator[Note]:
        while position + _NOTE_HEADER.size <= end:
            name_length, content_length, kind = self._unpack(_NOTE_HEADER, position)
            name_at = position + _NOTE_HEADER.size
            content_at = name_at + _aligned(name_length)
            name = self._data[name_at : name_at + name_length].rstrip(b"\0")
            yield Note(name, kind, self._data[content_at : content_at + content_length])
            position = content_at + _aligned(content_length)

    def section(self, name: str) -> bytes:
        """The content of the section called `name`; empty if there is none."""
        wanted = name.encode() + b"\0"
        names = self._section_header(self._names_index)[4]
        for index in range(self._section_count):
            header = self._section_header(index)
            if self._data.startswith(wanted, names + header[0]):
                return self._data[header[4] : header[4] + header[5]]
        return b""

    def _section_header(self, index: int) -> tuple[int, ...]:
        return self._unpack(_SECTION_HEADER, self._sections_at + index * self._section_size)

    def _unpack(self, form: struct.Struct, offset: int) -> tuple[int, ...]:
        try:
            return form.unpack_from(self._data, offset)
        except struct.error as error:
            raise InputError(f"{self._origin} is cut short: {error}") from error


def has_pvh_entry(kernel: Path) -> bool:
    """Whether a kernel can be entered through PVH, without unpacking itself first."""
    return _has_pvh_note(Elf(kernel.read_bytes(), str(kernel)))


def check_guest_kernel(kernel: Path, origin: str = "") -> None:
    """Verify that a file is a kernel that QEMU can enter; errors call it `origin`.

    Raises:
        InputError: it is for another processor, has no PVH entry, or is no ELF file at all.
    """
    origin = origin or str(kernel)
    content = Elf(kernel.read_bytes(), origin)
    if content.machine != X86_64:
        raise InputError(f"{origin} is for another processor than x86-64 (ELF machine {content.machine})")
    if not _has_pvh_note(content):
        raise InputError(f"{origin} has no PVH entry", "choose a kernel built with CONFIG_PVH=y")


def _has_pvh_note(content: Elf) -> bool:
    return any(note.name == PVH_NOTE_NAME and note.type == PVH_NOTE_TYPE for note in content.notes())


def _aligned(length: int) -> int:
    return (length + 3) & ~3
