"""What a guest has to work with, its drivers and its init, by looking at what it is given.

A module is a file in the initramfs; a driver built into the kernel leaves texts in it. A device without
a driver would cost every start a look at it, so none is offered then.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_TRACES: Final = {
    # The class in sysfs that the driver makes; its own name; the beginning of its messages.
    "virtio_console": b"virtio-ports\0",
    "virtio_net": b"virtio_net\0",
    "virtio_blk": b"virtio_blk\0",
    "virtio_mmio": b"virtio-mmio\0",
    "overlay": b"overlayfs: ",
}
"""Driver → a text that is in a kernel with the driver built in, and in no other."""


def has_driver(driver: str, kernel: Path, initramfs: Path) -> bool:
    """Whether the guest finds `driver` (of those in `_TRACES`) as a module or in its kernel.

    Raises:
        InputError: a file cannot be read.
    """
    return _contains(initramfs, f"/{driver}.ko\0".encode()) or _contains(kernel, _TRACES[driver])


def has_init(initramfs: Path) -> bool:
    """Whether the guest has our init; a bare-metal guest, whose archive is empty, does without.

    Raises:
        InputError: the file cannot be read.
    """
    return _contains(initramfs, b".pybench/init\0")


def _contains(path: Path, text: bytes) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:  # an empty file cannot be mapped
        return False
