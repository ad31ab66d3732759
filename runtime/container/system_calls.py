"""One function per system call that Python's os module lacks, each failing as OSError with its name.

The numbers are those of the unified table (5.1 and later): the same on every architecture.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWTIME = 0x00000080
CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MNT_DETACH = 2
RESOLVE_IN_ROOT = 0x10

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_PRIVATE = 1 << 18

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x00100000

_PR_SET_TIMERSLACK = 29
_PR_GET_TIMERSLACK = 30
_SYS_PIVOT_ROOT = 155
"""On x86-64; older than the unified table."""
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def _call(name: str, number: int, *arguments: int | bytes | ctypes.Structure | None) -> int:
    converted = [
        ctypes.byref(value) if isinstance(value, ctypes.Structure)
        else ctypes.c_long(value) if isinstance(value, int)
        else value
        for value in arguments
    ]  # fmt: skip
    return _checked(name, _libc.syscall(ctypes.c_long(number), *converted))


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def setns(namespace: int, kinds: int) -> None:
    """setns(2) for the calling thread; with CLONE_NEWPID for its children."""
    _checked("setns", _libc.setns(ctypes.c_int(namespace), ctypes.c_int(kinds)))


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of a mount, or of a detached copy of one."""
    return _call("open_tree", _SYS_OPEN_TREE, directory, os.fsencode(path), flags)


def move_mount(mount: int, path: str) -> None:
    """move_mount(2): attach a detached mount at a path."""
    _call("move_mount", _SYS_MOVE_MOUNT, mount, b"", AT_FDCWD, os.fsencode(path), MOVE_MOUNT_F_EMPTY_PATH)


def move_mount_to(mount: int, point: int) -> None:
    """move_mount(2): attach a detached mount at what a descriptor refers to."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call("move_mount", _SYS_MOVE_MOUNT, mount, b"", point, b"", flags)


def fsopen(filesystem: str) -> int:
    """fsopen(2): a new filesystem's configuration context."""
    return _call("fsopen", _SYS_FSOPEN, filesystem.encode(), FSOPEN_CLOEXEC)


def fsconfig(context: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2): set an option, or create the filesystem when no key is given."""
    if key is None:
        _call("fsconfig", _SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
    elif value is None:
        _call("fsconfig", _SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, key.encode(), None, 0)
    else:
        _call("fsconfig", _SYS_FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)


def fsmount(context: int, attributes: int) -> int:
    """fsmount(2): a detached mount of the configured filesystem."""
    return _call("fsmount", _SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes)


def mount_setattr(
    mount: int,
    path: str,
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2): flags, propagation and id map of a mount; an empty path means `mount` itself."""
    attributes = _MountAttributes(set_, clear, propagation, userns)
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    size = ctypes.sizeof(attributes)
    _call("mount_setattr", _SYS_MOUNT_SETATTR, mount, os.fsencode(path), flags, attributes, size)


def mount(source: str, path: str, kind: str, flags: int, options: str) -> None:
    """mount(2): the only way to hand overlayfs relative paths."""
    texts = (os.fsencode(text) for text in (source, path, kind))
    result = _libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(options))
    _checked("mount", result)


@contextlib.contextmanager
def exact_timers() -> Iterator[None]:
    """prctl(PR_SET_TIMERSLACK): the calling thread's short sleeps end when they should, not 50 µs later."""
    usual = _checked("prctl", _libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))
    _checked("prctl", _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0))
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(usual), 0, 0, 0)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2) of the calling thread's mount namespace."""
    _call("pivot_root", _SYS_PIVOT_ROOT, os.fsencode(new_root), os.fsencode(put_old))


def umount(path: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked("umount2", _libc.umount2(os.fsencode(path), ctypes.c_int(flags)))


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: Path, path: str) -> int:
    """openat2(2) with RESOLVE_IN_ROOT: an O_PATH descriptor of a path as a container would see it.

    Symbolic links and `..` are resolved as if `root` were the root directory, so none leads outside.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
        size = ctypes.sizeof(how)
        return _call("openat2", _SYS_OPENAT2, directory, os.fsencode(path), how, size)
    finally:
        os.close(directory)
