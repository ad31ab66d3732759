"""A machine's saved state: a file of libvirt's, from which any number of guests are restored.

libvirt restores a machine under the name and uuid that the file states, and refuses to change them on
the way (virDomainDefCheckABIStability). So they are replaced in the file itself, by texts of the same
length, ahead of each restore; whatever derives from the name (the sockets' paths) changes with it.
"""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pybench.runtime.errors import HostError

# src/qemu/qemu_saveimage.h, struct _virQEMUSaveHeader: magic, version, length of what follows up to
# QEMU's own data, whether the machine ran, compression, where the cookie begins, and spare words.
_HEADER: Final = struct.Struct("<16s5I56x")
_MAGIC: Final = b"LibvirtQemudSave"
_VERSION: Final = 2
_LONGEST_DESCRIPTION: Final = 1 << 20


@dataclass(slots=True)
class SavedState:
    """The file and the names in it: the machine's, its uuid, its network card's address and its tap's name.

    `lock` is held from naming a guest until libvirt has read the file.
    """

    path: Path
    names: tuple[str, ...]
    _description: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._description = self._read()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def rename(self, names: tuple[str, ...]) -> None:
        """Have the next restore give a machine of these names; the caller holds `lock`.

        Raises:
            HostError: the file cannot be written.
        """
        description = self._description
        for old, new in zip(self.names, names, strict=True):
            if len(old) != len(new):
                raise ValueError(f"{new} is not as long as {old}")
            description = description.replace(old.encode(), new.encode())
        try:
            with self.path.open("r+b") as file:
                os.pwrite(file.fileno(), description, _HEADER.size)
        except OSError as error:
            raise HostError(f"cannot write {self.path}: {error.strerror}") from error

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                header = file.read(_HEADER.size)
                magic, version, length, _, compression, _ = _HEADER.unpack(header)
                if magic != _MAGIC or version != _VERSION or compression or length > _LONGEST_DESCRIPTION:
                    raise HostError(
                        f"libvirt saved {self.path} in a form that is not known here (version {version})",
                        "choose the target vm instead of vm-restore",
                    )
                description = file.read(length)
        except OSError as error:
            raise HostError(f"cannot read {self.path}: {error.strerror}") from error
        except struct.error as error:
            raise HostError(f"{self.path} is too short for a saved state") from error
        if missing := [name for name in self.names if name.encode() not in description]:
            raise HostError(f"{self.path} does not say {', '.join(missing)}")
        return description
