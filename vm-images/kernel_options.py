"""The options a kernel was built with, and those without which it cannot start a guest of ours."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LINE: Final = re.compile(r"^(CONFIG_[A-Za-z0-9_]+)=(.*)$", re.MULTILINE)
_EMBEDDED_START: Final = b"IKCFG_ST"
"""What kernel/configs.c puts in front of the gzip copy of the options (CONFIG_IKCONFIG)."""
_LARGEST: Final = 4 << 20

_ALWAYS: Final[Mapping[str, str]] = {
    "CONFIG_64BIT": "",
    "CONFIG_PVH": "",
    "CONFIG_BLK_DEV_INITRD": "",
    "CONFIG_BINFMT_ELF": "",
    "CONFIG_SERIAL_8250": "",
    "CONFIG_SERIAL_8250_CONSOLE": "",
    "CONFIG_DEVTMPFS": "",
    "CONFIG_PROC_FS": "",
    "CONFIG_SYSFS": "",
    "CONFIG_TMPFS": "",
    "CONFIG_NET": "",
    "CONFIG_INET": "",
    "CONFIG_SIGNALFD": "",
}
_DISK: Final[Mapping[str, str]] = {
    "CONFIG_VIRTIO_PCI": "virtio_pci",
    "CONFIG_VIRTIO_BLK": "virtio_blk",
}
_FILE_SYSTEMS: Final[Mapping[str, tuple[str, str]]] = {
    "erofs": ("CONFIG_EROFS_FS", "erofs"),
    "ext4": ("CONFIG_EXT4_FS", "ext4"),
}


def needed_options(file_system: str, *, overlay: bool) -> dict[str, str]:
    """What a guest's kernel has to have: option → the module that will do instead; empty if none will.

    Args:
        file_system: that of the image's disk; empty if the image is an initramfs.
        overlay: whether the disk gets a writable layer.
    """
    needed = dict(_ALWAYS)
    if file_system:
        needed |= _DISK
        option, module = _FILE_SYSTEMS[file_system]
        needed[option] = module
    if overlay:
        needed["CONFIG_OVERLAY_FS"] = "overlay"
    return needed


def parse_options(text: str) -> dict[str, str]:
    """Option → value of every option that is set in a `.config`."""
    return {match[1]: match[2].strip('"') for match in _LINE.finditer(text)}


def embedded_options(kernel: bytes) -> dict[str, str] | None:
    """The options that a kernel carries inside it (CONFIG_IKCONFIG); None if it carries none."""
    start = kernel.find(_EMBEDDED_START)
    if start < 0:
        return None
    packed = kernel[start + len(_EMBEDDED_START) :]
    try:
        text = zlib.decompressobj(31).decompress(packed, _LARGEST)
    except zlib.error:
        return None
    return parse_options(text.decode(errors="replace"))


def check_options(
    options: Mapping[str, str], needed: Mapping[str, str], modules: Iterable[str], origin: str
) -> None:
    """Hold a kernel's options against what is needed.

    Args:
        options: as parsed.
        needed: option → module that will do instead, see `needed_options`.
        modules: names of the modules that the guest's init loads.
        origin: what to call the kernel in an error.

    Raises:
        InputError: one or more are missing; all of them are named.
    """
    loaded = set(modules)
    missing = []
    for option, module in needed.items():
        value = options.get(option, "n")
        if value != "y" and not (value == "m" and module in loaded):
            as_module = f" (or m, and {module} among kernel.modules)" if module else ""
            missing.append(f"{option}=y{as_module}")
    if missing:
        raise InputError(
            f"{origin} lacks what a guest needs: {', '.join(missing)}", "choose or build a kernel with them"
        )


def check_taken(wanted: Mapping[str, str], options: Mapping[str, str], origin: str) -> None:
    """Verify that every option asked for took effect.

    Raises:
        InputError: some were dropped: this version of the kernel does not know them, or what they depend
            on is off.
    """
    dropped = [name for name, value in wanted.items() if options.get(name) != value]
    if dropped:
        raise InputError(
            f"{origin}: these options have no effect on this version of the kernel: {', '.join(dropped)}",
            "their name has changed, or an option they depend on is missing",
        )
