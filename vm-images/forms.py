"""The forms of an image for a virtual machine: initramfs and disk, the same bytes from the same tree."""

from __future__ import annotations

import os
import stat
import uuid
from typing import TYPE_CHECKING, Final

from pybench.runtime.vm.initramfs import ArchiveEntry, write_archive
from pybench.vm_images import commands, compiler, inputs, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pybench.vm_images.modules import Module

LARGEST_INITRAMFS: Final = 32 << 20
"""Bytes of a root filesystem that is still an initramfs when the recipe leaves the choice.

An initramfs is the quickest for a few megabytes, since no driver has to be loaded, but all of it is
copied at every start and stays in the guest's memory.
"""
FILE_SYSTEM: Final = "erofs"
DISK_MODULES: Final = ("virtio_pci", "virtio_blk", FILE_SYSTEM)
OVERLAY_MODULE: Final = "overlay"

_SEGMENT: Final = "/.pybench"
_CONSOLE_MAJOR: Final = 5
_MEMORY_MAJOR: Final = 1
_SERIAL_MAJOR: Final = 4
_FIRST_SERIAL_MINOR: Final = 64
# Documentation/admin-guide/devices.txt
_DEVICES: Final = (
    ("/dev/console", 0o600, (_CONSOLE_MAJOR, 1)),
    ("/dev/null", 0o666, (_MEMORY_MAJOR, 3)),
    *((f"/dev/ttyS{number}", 0o600, (_SERIAL_MAJOR, _FIRST_SERIAL_MINOR + number)) for number in range(3)),
)
_DISK_NAMESPACE: Final = uuid.UUID("8d7f3c1e-52a4-4a52-9a57-6a2b54f1c0de")
_DISK_TIMEOUT: Final = 600.0


def write_initramfs(output: Path, root: Path, scratch: Path, selected: Sequence[Module]) -> None:
    """Write an initramfs with the root filesystem, and after it what only a guest needs.

    Raises:
        HostError: a file cannot be read, or the compiler is missing.
    """
    with output.open("xb") as archive:
        write_archive(tree.archive_entries(root), archive)
        write_archive(_guest_entries(_compiled_init(scratch), selected), archive)


def write_boot_initramfs(
    output: Path, scratch: Path, selected: Sequence[Module], spare: Sequence[Module], *, writable: bool
) -> None:
    """Write an initramfs that holds no more than what it takes to get to the image's disk.

    Init loads the `spare` modules only where a read-only disk has to be written to.
    """
    access = "writable" if writable else "read-only"
    description = f"{FILE_SYSTEM} {access}\n".encode()
    with output.open("xb") as archive:
        write_archive(
            [
                ArchiveEntry("/dev", stat.S_IFDIR | 0o755),
                *_guest_entries(_compiled_init(scratch), selected, spare),
                ArchiveEntry(f"{_SEGMENT}/disk", stat.S_IFREG | 0o444, description),
            ],
            archive,
        )


def write_empty_initramfs(output: Path) -> None:
    """Write an archive without members, for a kernel that is the whole guest."""
    with output.open("xb") as archive:
        write_archive([], archive)


def write_disk(output: Path, root: Path, content_hash: str, *, as_found: bool) -> None:
    """Write the root filesystem as a read-only disk; the same tree gives the same bytes.

    Nothing is compressed: a guest reads from the host's page cache, and would have to unpack.

    Args:
        output: the file to write.
        root: the tree.
        content_hash: that of the tree; the disk's UUID is derived from it.
        as_found: keep owners (only root can), dates and attributes; else everything is root's, of
            `tree.SOURCE_DATE`, and has no attributes, which would be this host's.

    Raises:
        HostError: mkfs.erofs is missing or fails.
    """
    options = [f"-U{uuid.uuid5(_DISK_NAMESPACE, content_hash)}"]
    if not as_found:
        options += [f"-T{tree.SOURCE_DATE}", "-x-1"]
    if not as_found or os.geteuid() != 0:
        options.append("--all-root")
    # The date of the file system itself; later dates of files would be set back to it.
    date = tree.latest_date(root) if as_found else tree.SOURCE_DATE
    commands.run(
        ["mkfs.erofs", "--quiet", *options, str(output), str(root)],
        package="erofs-utils",
        timeout=_DISK_TIMEOUT,
        variables={"SOURCE_DATE_EPOCH": str(date)},
    )


def _compiled_init(scratch: Path) -> Path:
    sources, headers = inputs.guest_sources()
    compiler.compile_static(sources, scratch / "init", scratch, includes=headers)
    return scratch / "init"


def _guest_entries(
    init: Path, selected: Sequence[Module], spare: Sequence[Module] = ()
) -> Iterator[ArchiveEntry]:
    """What a guest needs beside the root filesystem that all targets share: init, nodes, modules."""
    yield ArchiveEntry(_SEGMENT, stat.S_IFDIR | 0o755)
    yield ArchiveEntry(f"{_SEGMENT}/init", stat.S_IFREG | 0o755, init)
    for path, mode, device in _DEVICES:
        yield ArchiveEntry(path, stat.S_IFCHR | mode, device=device)
    if selected or spare:
        yield ArchiveEntry(f"{_SEGMENT}/modules", stat.S_IFDIR | 0o755)
        for module in (*selected, *spare):
            yield ArchiveEntry(f"{_SEGMENT}/modules/{module.name}.ko", stat.S_IFREG | 0o644, module.content)
        order = "".join(
            f"{mark}{module.name}.ko\n" for mark, some in (("", selected), ("?", spare)) for module in some
        )
        yield ArchiveEntry(f"{_SEGMENT}/modules/order", stat.S_IFREG | 0o644, order.encode())
