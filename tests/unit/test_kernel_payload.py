"""The ELF inside a bzImage, for every compression that a kernel is built with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from pybench.runtime.errors import InputError
from pybench.vm_images import elf, kernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETUP_SECTORS = 2
PAYLOAD_OFFSET = 64


def kernel_elf(name: bytes = b"Xen", kind: int = 18, machine: int = 62) -> bytes:
    """A kernel as far as its notes go: an ELF header, one PT_NOTE segment with two notes."""
    notes = struct.pack("<III4s4s", 4, 4, 1, b"GNU\0", b"abcd")
    notes += struct.pack("<III4sI", len(name) + 1, 4, kind, name + b"\0", 0x1000000)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, machine, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + bytes(5000)


def boot_image(payload: bytes) -> bytes:
    """A bzImage of boot protocol 2.15 around a payload."""
    setup = bytearray((SETUP_SECTORS + 1) * 512 + PAYLOAD_OFFSET)
    setup[0x1F1] = SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x020F)
    struct.pack_into("<II", setup, 0x248, PAYLOAD_OFFSET, len(payload))
    return bytes(setup) + payload + b"what follows the payload"


def packed_by(*command: str) -> Callable[[bytes], bytes]:
    """Packs through a program's standard input and output."""
    return lambda data: subprocess.run(command, input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": packed_by("zstd", "-q", "-c"),
    "lz4": packed_by("lz4", "-l", "-q", "-c"),
}


def size_word(compression: str, data: bytes) -> bytes:
    """What the kernel's build appends: the unpacked size, which gzip has inside already."""
    return b"" if compression == "gzip" else struct.pack("<I", len(data))


def test_every_known_compression_has_a_test() -> None:
    """The table of compressions and the packers of this test name the same ones."""
    assert {entry.name for entry in kernel.COMPRESSIONS} == PACKERS.keys()


@pytest.mark.parametrize("compression", PACKERS)
def test_the_kernel_is_extracted_from_every_compression(tmp_path: Path, compression: str) -> None:
    """The ELF comes out byte for byte, and the compression is told by its magic number."""
    content = kernel_elf()
    image, output = tmp_path / "bzImage", tmp_path / "vmlinux"
    image.write_bytes(boot_image(PACKERS[compression](content) + size_word(compression, content)))
    assert kernel.extract_vmlinux(image, output) == compression
    assert output.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"too short", "too short for a bzImage"),
        (bytes(4096), "is not a bzImage"),
        (boot_image(b"unknown compression"), "an unknown compression"),
        (boot_image(b"\x1f\x8b" + b"not really gzip"), "cannot unpack its gzip data"),
        (boot_image(b"BZh9" + bytes(100)), "cannot unpack its bzip2 data"),
        (boot_image(b"\x02\x21\x4c\x18" + bytes(range(100))), "cannot unpack its lz4 data"),
        (boot_image(bz2.compress(kernel_elf()) + struct.pack("<I", 7)), "7 were announced"),
        (boot_image(gzip.compress(kernel_elf()))[:-40], "is cut short"),
        (boot_image(gzip.compress(b"no ELF at all")), "is not a 64-bit little-endian ELF file"),
        (boot_image(gzip.compress(kernel_elf()[:100])), "is cut short"),
        (boot_image(gzip.compress(kernel_elf(kind=17))), "has no PVH entry"),
        (boot_image(gzip.compress(kernel_elf(name=b"GNU"))), "has no PVH entry"),
    ],
)
def test_a_damaged_or_unsuitable_image_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """Whatever is wrong with a kernel is an input error, never a wrong kernel."""
    image = tmp_path / "bzImage"
    image.write_bytes(content)
    with pytest.raises(InputError, match=words):
        kernel.extract_vmlinux(image, tmp_path / "vmlinux")


def test_notes_are_read_in_order() -> None:
    """Each note has its name, type and content; names and contents are padded to four bytes."""
    notes = list(elf.Elf(kernel_elf(), "kernel").notes())
    assert [(note.name, note.type, note.content) for note in notes] == [
        (b"GNU", 1, b"abcd"),
        (b"Xen", 18, struct.pack("<I", 0x1000000)),
    ]


def test_a_packed_module_is_unpacked(tmp_path: Path) -> None:
    """A module compressed with xz and a plain one give the same content."""
    plain, packed = tmp_path / "a.ko", tmp_path / "a.ko.xz"
    plain.write_bytes(b"\x7fELF module")
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    assert kernel.unpacked_module(plain) == kernel.unpacked_module(packed) == b"\x7fELF module"


def test_a_kernel_of_the_users_own_is_taken_in_either_shape(tmp_path: Path) -> None:
    """A vmlinux is taken as it is, and a bzImage is unpacked."""
    content = kernel_elf() + b"Linux version 6.1.0-mine (me@here) #1"
    plain, packed, output = tmp_path / "vmlinux", tmp_path / "bzImage", tmp_path / "output"
    plain.write_bytes(content)
    packed.write_bytes(boot_image(gzip.compress(content)))
    for path in (plain, packed):
        kernel.read_kernel(path, output)
        assert output.read_bytes() == content
    assert kernel.release_of(content) == "6.1.0-mine"
    assert kernel.release_of(b"no banner") == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (kernel_elf(machine=183), "another processor than x86-64"),
        (boot_image(gzip.compress(kernel_elf(machine=183))), "another processor than x86-64"),
        (bytes(0x38) + b"ARM\x64" + bytes(4096), "another processor than x86-64"),
        (kernel_elf(kind=17), "has no PVH entry"),
        (b"neither", "too short for a bzImage"),
        (b"", "too short for a bzImage"),
    ],
)
def test_a_kernel_that_cannot_be_entered_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """A kernel for another processor, without PVH entry, or none at all is named with the reason."""
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        kernel.read_kernel(path, tmp_path / "output")
    assert str(path) in caught.value.message
