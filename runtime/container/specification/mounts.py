"""Options of a mount, as the attributes that mount_setattr(2) takes and the data a file system takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.system_calls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
)
from pybench.runtime.errors import InputError

MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_ATIME: Final = 0x70
"""The field that holds one of relatime (0), noatime and strictatime; cleared as a whole before any is set."""
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000

MS_UNBINDABLE: Final = 1 << 17
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

_ATTRIBUTES: Final = MappingProxyType(
    # option: bits to set, bits to clear before
    {
        "ro": (MOUNT_ATTR_RDONLY, 0),
        "rw": (0, MOUNT_ATTR_RDONLY),
        "nosuid": (MOUNT_ATTR_NOSUID, 0),
        "suid": (0, MOUNT_ATTR_NOSUID),
        "nodev": (MOUNT_ATTR_NODEV, 0),
        "dev": (0, MOUNT_ATTR_NODEV),
        "noexec": (MOUNT_ATTR_NOEXEC, 0),
        "exec": (0, MOUNT_ATTR_NOEXEC),
        "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
        "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
        "diratime": (0, MOUNT_ATTR_NODIRATIME),
        "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
        "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
        "relatime": (0, MOUNT_ATTR_ATIME),
        # The opposite of each is the kernel's default, which is relatime.
        "atime": (0, MOUNT_ATTR_ATIME),
        "nostrictatime": (0, MOUNT_ATTR_ATIME),
        "norelatime": (0, MOUNT_ATTR_ATIME),
    }
)
PROPAGATIONS: Final = MappingProxyType(
    {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
)
_OF_THE_FILE_SYSTEM: Final = frozenset({"sync", "async", "dirsync", "lazytime", "nolazytime"})
"""Flags that fsconfig(2) takes for every file system."""
_BINDS: Final = ("bind", "rbind", "idmap", "ridmap")
_NOTHING_TO_DO: Final = frozenset({"defaults", "nomand"})
_REFUSED: Final = MappingProxyType(
    {
        "remount": "a container's mounts are all new",
        "mand": "Linux 5.15 gave up mandatory locks",
        "iversion": "fsconfig cannot set it",
        "noiversion": "fsconfig cannot set it",
        "loud": "fsconfig cannot set it",
        "silent": "fsconfig cannot set it",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Bits for mount_setattr: those of `clear` first, then those of `set`."""

    set: int = 0
    clear: int = 0

    def then(self, set_: int, clear: int) -> Change:
        """This change followed by another, which wins."""
        return Change(set=self.set & ~clear | set_, clear=self.clear & ~set_ | clear)


@dataclass(frozen=True, slots=True)
class Propagation:
    """One change of propagation; `flag` is one of MS_PRIVATE, MS_SLAVE, MS_SHARED and MS_UNBINDABLE."""

    flag: int
    recursive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """What the options of a mount ask for."""

    bind: Literal["no", "bind", "rbind"] = "no"
    attributes: Change = Change()
    """Of this mount."""
    recursive_attributes: Change = Change()
    """Of this mount and all beneath it, applied before `attributes`."""
    propagation: tuple[Propagation, ...] = ()
    """In order; at most one is needed beside `shared`, as mount_namespaces(7) explains."""
    id_map: Literal["no", "idmap", "ridmap"] = "no"
    copy_up: bool = False
    """Fill the new tmpfs with what it covers."""
    superblock: tuple[str, ...] = ()
    """Flags for fsconfig."""
    data: tuple[str, ...] = ()
    """Settings for fsconfig, each `key` or `key=value` without a comma."""


def parse_options(kind: str, options: Iterable[str], path: str) -> MountOptions:
    """Take the options of a mount apart; of two that contradict each other the later one wins.

    Args:
        kind: type of the mount; `bind` is a bind mount also without the option.
        options: as in `mounts[].options`.
        path: where they stand, for error messages.

    Raises:
        InputError: an option cannot be honoured; starts with its path.
    """
    bind: Literal["no", "bind", "rbind"] = "bind" if kind == "bind" else "no"
    id_map: Literal["no", "idmap", "ridmap"] = "no"
    attributes = recursive = Change()
    propagation: list[Propagation] = []
    superblock: list[str] = []
    data: dict[str, str] = {}
    copy_up = False
    for number, option in enumerate(options):
        place = f"{path}[{number}]"
        if option in _ATTRIBUTES:
            attributes = attributes.then(*_ATTRIBUTES[option])
        elif option.startswith("r") and option[1:] in _ATTRIBUTES:
            recursive = recursive.then(*_ATTRIBUTES[option[1:]])
        elif change := parse_propagation(option):
            propagation.append(change)
        elif option in {"bind", "rbind"}:
            bind = "rbind" if option == "rbind" else "bind"
        elif option in {"idmap", "ridmap"}:
            id_map = "ridmap" if option == "ridmap" else "idmap"
        elif option == "tmpcopyup":
            copy_up = True
        elif option in _OF_THE_FILE_SYSTEM:
            superblock.append(option)
        elif option not in _NOTHING_TO_DO:
            data[option.partition("=")[0]] = _data(option, place)
    parsed = MountOptions(
        bind=bind, attributes=attributes, recursive_attributes=recursive, propagation=tuple(propagation),
        id_map=id_map, copy_up=copy_up, superblock=tuple(superblock), data=tuple(data.values()),
    )  # fmt: skip
    _check(kind, parsed, path)
    return parsed


def known_options() -> tuple[str, ...]:
    """Every option that is not one of a file system."""
    flags = (*_ATTRIBUTES, *(f"r{name}" for name in _ATTRIBUTES))
    changes = (*PROPAGATIONS, *(f"r{name}" for name in PROPAGATIONS))
    return tuple(sorted({*flags, *changes, *_NOTHING_TO_DO, *_OF_THE_FILE_SYSTEM, *_BINDS}))


def parse_propagation(text: str) -> Propagation | None:
    """`private`, `rslave` and so on; None for any other text."""
    if text in PROPAGATIONS:
        return Propagation(PROPAGATIONS[text], recursive=False)
    if text.startswith("r") and text[1:] in PROPAGATIONS:
        return Propagation(PROPAGATIONS[text[1:]], recursive=True)
    return None


def _data(option: str, place: str) -> str:
    if reason := _REFUSED.get(option):
        raise InputError(f"{place}: {option} is not supported: {reason}")
    if not option or "," in option:
        raise InputError(f"{place}: {show(option)} is not one option", "write one list entry for each")
    return option


def _check(kind: str, options: MountOptions, path: str) -> None:
    if options.bind != "no" and (foreign := (*options.superblock, *options.data)):
        raise InputError(
            f"{path}: {show(foreign[0])} is an option of a file system, which a bind mount does not make"
        )
    if options.copy_up and (kind != "tmpfs" or options.bind != "no"):
        raise InputError(f"{path}: tmpcopyup is for a tmpfs")
