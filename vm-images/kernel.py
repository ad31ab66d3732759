"""The guest's kernel: the uncompressed ELF inside a bzImage, and the modules that a recipe names.

A kernel entered through PVH skips the bzImage's own decompressor, which under emulation costs
more than a second of every boot.
"""

from __future__ import annotations

import bz2
import lzma
import re
import shutil
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError
from pybench.vm_images import commands, elf

if TYPE_CHECKING:
    from collections.abc import Callable

# Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
_SETUP_SECTORS_AT: Final = 0x1F1
_HEADER_MAGIC_AT: Final = 0x202
_HEADER_MAGIC: Final = b"HdrS"
_VERSION_AT: Final = 0x206
_PAYLOAD_AT: Final = 0x248
_FIRST_VERSION_WITH_PAYLOAD: Final = 0x0208
_SECTOR: Final = 512
_SIZE_WORD: Final = 4
_ARM64_MAGIC_AT: Final = 0x38
_ARM64_MAGIC: Final = b"ARM\x64"
"""Documentation/arch/arm64/booting.rst"""
_BANNER: Final = re.compile(rb"Linux version ([!-~]{1,64}) \(")


@dataclass(frozen=True, slots=True)
class Compression:
    """One way in which a kernel's payload or a module can be packed."""

    name: str
    magic: bytes
    unpack: Callable[[bytes], bytes]
    has_size_word: bool = True
    """Whether the kernel's build appends the unpacked size (scripts/Makefile.lib, `size_append`)."""


def _unpack_by(command: list[str], package: str) -> Callable[[bytes], bytes]:
    """Unpack through a program that reads and writes files, where Python has no module for it."""

    def unpack(data: bytes) -> bytes:
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
            source.write(data)
            source.seek(0)
            commands.run(command, package=package, source=source, sink=sink)
            sink.seek(0)
            return sink.read()

    return unpack


COMPRESSIONS: Final = (
    Compression(
        "gzip", b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data), has_size_word=False
    ),
    Compression("xz", b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)),
    Compression("lzma", b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    Compression("bzip2", b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _unpack_by(["zstd", "-d", "-q", "-c"], "zstd")),
    Compression("lz4", b"\x02\x21\x4c\x18", _unpack_by(["lz4", "-d", "-q", "-c"], "lz4")),
)


def read_kernel(path: Path, output: Path) -> None:
    """Write a kernel of the user's own, a vmlinux or a bzImage, to `output` as an ELF with a PVH entry.

    Raises:
        InputError: it is neither, for another processor, or cannot be entered through PVH.
        OSError: it cannot be read.
    """
    with path.open("rb") as content:
        start = content.read(_ARM64_MAGIC_AT + len(_ARM64_MAGIC))
    if start.startswith(elf.MAGIC):
        elf.check_guest_kernel(path)
        shutil.copyfile(path, output)
    elif start.endswith(_ARM64_MAGIC) and len(start) > _ARM64_MAGIC_AT:
        raise InputError(f"{path} is for another processor than x86-64 (arm64)")
    else:
        extract_vmlinux(path, output)


def release_of(kernel: bytes) -> str:
    """What `uname -r` will say, from the banner that every Linux contains; empty if there is none."""
    match = _BANNER.search(kernel)
    return match[1].decode("ascii") if match else ""


def extract_vmlinux(image: Path, output: Path) -> str:
    """Write the ELF inside a bzImage to `output`; returns the name of the payload's compression.

    Raises:
        InputError: it is not a bzImage, its payload cannot be unpacked, or the kernel inside
            has no PVH entry.
        HostError: the program that unpacks it is missing.
    """
    payload = _payload(image)
    compression = _compression_of(payload)
    if compression is None:
        raise InputError(f"{image}: the payload begins with {payload[:6].hex(' ')}, an unknown compression")
    expected = None
    if compression.has_size_word:
        payload, word = payload[:-_SIZE_WORD], payload[-_SIZE_WORD:]
        expected = int.from_bytes(word, "little")
    kernel = _unpacked(compression, payload, image)
    if expected is not None and len(kernel) != expected:
        raise InputError(f"{image}: unpacked to {len(kernel)} bytes where {expected} were announced")
    output.write_bytes(kernel)
    elf.check_guest_kernel(output, f"the kernel in {image}")
    return compression.name


def _payload(image: Path) -> bytes:
    content = image.read_bytes()
    try:
        magic = content[_HEADER_MAGIC_AT : _HEADER_MAGIC_AT + len(_HEADER_MAGIC)]
        (version,) = struct.unpack_from("<H", content, _VERSION_AT)
        if magic != _HEADER_MAGIC or version < _FIRST_VERSION_WITH_PAYLOAD:
            raise InputError(f"{image} is not a bzImage of boot protocol 2.08 or later")
        offset, length = struct.unpack_from("<II", content, _PAYLOAD_AT)
    except struct.error as error:
        raise InputError(f"{image} is too short for a bzImage") from error
    # Zero means four, for the sake of very old kernels.
    start = ((content[_SETUP_SECTORS_AT] or 4) + 1) * _SECTOR + offset
    payload = content[start : start + length]
    if len(payload) != length or length <= _SIZE_WORD:
        raise InputError(f"{image} is cut short: its payload of {length} bytes is not there")
    return payload


def _compression_of(data: bytes) -> Compression | None:
    return next((entry for entry in COMPRESSIONS if data.startswith(entry.magic)), None)


def _unpacked(compression: Compression, data: bytes, origin: Path) -> bytes:
    try:
        return compression.unpack(data)
    except OSError as error:
        # bz2 reports bad data as an OSError without a number; with one it is the disk that failed.
        if error.errno is not None:
            raise
        raise InputError(f"{origin}: cannot unpack its {compression.name} data: {error}") from error
    except (zlib.error, lzma.LZMAError, EOFError, commands.CommandError) as error:
        raise InputError(f"{origin}: cannot unpack its {compression.name} data: {error}") from error


def unpacked_module(path: Path) -> bytes:
    """The content of a kernel module, unpacked if it is packed: init_module(2) wants it plain.

    Raises:
        InputError: it cannot be unpacked.
    """
    content = path.read_bytes()
    compression = _compression_of(content)
    return content if compression is None else _unpacked(compression, content, path)
