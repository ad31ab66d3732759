"""The guest's parts of the probes about file systems."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import time

from pybench.harness.audit.guest.core import (
    CLONE_NEWNS,
    LIBC,
    Facts,
    Given,
    Sightings,
    name_of,
    opens_for_writing,
    part,
    read_or_nothing,
    system_call,
    throw_away,
)

MS_BIND, MS_REMOUNT, MS_RDONLY = 4096, 32, 1
OPEN_TREE_CLONE = 1
AT_FDCWD = -100
O_TMPFILE = 0o20200000
UP = "/".join([".."] * 64)
HOST_FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
MOUNT_WATCHES, MOUNT_PAUSE = 40, 0.01
"""How often it is looked whether the host has mounted something, and seconds between."""
QUIET_PLACE = b"/srv"
"""A directory that nobody uses (Filesystem Hierarchy Standard: data for services that there are none of)."""
TMPFS_MAGIC = 0x01021994
NULL_DEVICE = (1, 3)
MOST_MOUNTS = 300


def mounts() -> list[list[str]]:
    """Our mounts, by fields as in proc_pid_mountinfo(5)."""
    text = read_or_nothing("/proc/self/mountinfo", 1 << 22).decode("utf-8", "backslashreplace")
    return [line.split(" ") for line in text.splitlines()]


def identity(path: str) -> str:
    """Device and inode of what a path leads to; empty if it leads nowhere."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


@part("M1")
def look_into_tmp(given: Given, seen: Sightings) -> Facts:
    """Names in the directory for temporary files, and what is in the audit's own."""
    try:
        names = os.listdir(given["directory"])
    except OSError as error:
        return {"fault": name_of(error), "files": 0}
    for name in names:
        path = os.path.join(given["directory"], name)
        seen.look(os.fsencode(name), path)
        if name.startswith("pybench-audit-"):
            seen.look(read_or_nothing(path, 4096), path)
    return {"fault": "", "files": len(names)}


@part("M2")
def identify_the_root(given: Given, _seen: Sightings) -> Facts:
    """Which directory our root is, and that of process 1 and of one of the host's processes."""
    roots = [identity(f"/proc/{pid}/root/.") for pid in (1, given["pid"])]
    return {"root": identity("/"), "others": [root for root in roots if root]}


def identity_of(descriptor: int) -> str:
    """Device and inode of an open file or directory."""
    found = os.fstat(descriptor)
    return f"{found.st_dev}:{found.st_ino}"


def climb(directory: int) -> str:
    """Where 64 steps up from a directory lead."""
    try:
        top = os.open(UP, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
    except OSError:
        return ""
    try:
        return identity_of(top)
    finally:
        os.close(top)


def directories() -> list[int]:
    """Our open descriptors that are directories."""
    found = []
    for number in range(256):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.fstat(number).st_mode):
                found.append(number)
    return found


@part("M3")
def climb_out(_given: Given, _seen: Sightings) -> Facts:
    """From the working directory, every open directory, and a root that was left by another chroot(2)."""
    reached = [["working directory", climb_from(".")]]
    reached += [[f"descriptor {number}", climb(number)] for number in directories()]
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    fault = ""
    try:
        os.chroot("/proc")
        reached.append(["second chroot", climb(top)])
    except OSError as error:
        fault = name_of(error)
    return {"reached": reached, "root": identity_of(top), "chroot": fault}


def climb_from(path: str) -> str:
    """Where 64 steps up from a path lead."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return climb(directory)
    finally:
        os.close(directory)


@part("M4")
def write_into_the_root(_given: Given, _seen: Sightings) -> Facts:
    """Make a file without a name in the root directory; it is gone when it is closed."""
    try:
        os.close(os.open("/", O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError as error:
        if error.errno in {95, 21}:  # EOPNOTSUPP, EISDIR: the file system has no such files
            return {"fault": "" if os.access("/", os.W_OK, effective_ids=True) else "EROFS"}
        return {"fault": name_of(error)}
    return {"fault": ""}


def _rename_there_and_back(path: str) -> str:
    other = f"{path}.pybench"
    try:
        os.rename(path, other)
    except OSError as error:
        return name_of(error)
    os.rename(other, path)
    return ""


@part("M5")
def change_files_about_the_host(given: Given, _seen: Sightings) -> Facts:
    """Open them for writing, rename and remount them; where they are the host's, only open them."""
    faults = {}
    apart = throw_away(given, CLONE_NEWNS)
    for path in HOST_FILES:
        if not os.path.exists(path):
            continue
        faults[f"write {path}"] = opens_for_writing(path)
        if given["shared"]:
            continue
        faults[f"rename {path}"] = _rename_there_and_back(path)
        faults[f"remount {path}"] = apart or system_call(
            "mount", None, path.encode(), None, MS_REMOUNT | MS_BIND, None
        )[1]  # fmt: skip
    return {"faults": faults}


@part("M6")
def read_paths_of_mounts(_given: Given, seen: Sightings) -> Facts:
    """What mountinfo tells of where things are on the host."""
    own = mounts()
    for fields in own:
        seen.look(" ".join(fields).encode("utf-8", "replace"), f"mountinfo: {' '.join(fields[3:5])}")
    return {"mounts": len(own)}


@part("M7")
def list_flags_of_mounts(_given: Given, _seen: Sightings) -> Facts:
    """Mount point, type and flags of each mount."""
    rows = []
    for fields in mounts()[:MOST_MOUNTS]:
        kind = fields[fields.index("-") + 1] if "-" in fields else "?"
        rows.append([fields[4], kind, fields[5]])
    return {"mounts": rows}


@part("M8")
def watch_mounts(given: Given, seen: Sightings) -> Facts:
    """Whether what the host mounts meanwhile appears; and leave a mount of ours for the host to see."""
    known = set(read_or_nothing("/proc/self/mountinfo", 1 << 22).splitlines())
    for _ in range(MOUNT_WATCHES):
        now = read_or_nothing("/proc/self/mountinfo", 1 << 22)
        if seen.look(b"\n".join(line for line in now.splitlines() if line not in known), "mountinfo"):
            break
        time.sleep(MOUNT_PAUSE)
    if given["shared"]:
        return {"fault": "not tried"}
    source = given["source"].encode("ascii")
    return {"fault": system_call("mount", source, QUIET_PLACE, b"tmpfs", 0, None)[1]}


@part("M9")
def mount_something(given: Given, _seen: Sightings) -> Facts:
    """The old and the new calls that mount."""
    apart = throw_away(given, CLONE_NEWNS)
    if apart:
        return {"faults": dict.fromkeys(("mount", "fsopen", "open_tree", "move_mount"), apart)}
    faults = {}
    faults["mount"] = system_call("mount", b"none", QUIET_PLACE, b"tmpfs", 0, None)[1]
    for name, arguments in (
        ("fsopen", (b"tmpfs", 0)),
        ("open_tree", (AT_FDCWD, b"/", OPEN_TREE_CLONE)),
        # It has nothing to move: EBADF comes only after the permission.
        ("move_mount", (-1, b"", -1, b"", 4 | 0x40)),
    ):
        descriptor, faults[name] = system_call(name, *arguments)
        if descriptor > 0:
            os.close(descriptor)
    return {"faults": faults}


@part("M10")
def open_by_handle(_given: Given, _seen: Sightings) -> Facts:
    """Open our own root by its handle, as one could open any other file of its file system."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 8 + 128)
    number = ctypes.c_int()
    _, named = system_call("name_to_handle_at", AT_FDCWD, b"/", handle, ctypes.byref(number), 0)
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    descriptor, fault = system_call("open_by_handle_at", top, handle, os.O_RDONLY)
    if descriptor >= 0:
        os.close(descriptor)
    return {"name_fault": named, "fault": fault}


def masks(given: Given) -> list[str]:
    """Those of the given paths that something is mounted over."""
    points = {fields[4] for fields in mounts() if len(fields) > 4}
    return [path for path in given["paths"] if path in points]


@part("M11")
def remove_masks(given: Given, _seen: Sightings) -> Facts:
    """Unmount each mask, and mount over it."""
    faults = {}
    throw_away(given, CLONE_NEWNS)
    for path in masks(given):
        faults[f"umount {path}"] = system_call("umount2", path.encode(), 2)[1]
        over = b"tmpfs" if os.path.isdir(path) else None
        faults[f"mount over {path}"] = system_call(
            "mount", b"/dev/zero", path.encode(), over, 0 if over else MS_BIND, None
        )[1]
    return {"faults": faults}


class _FileSystem(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_long), ("rest", ctypes.c_char * 120)]


def kind_of_file_system(path: str) -> int:
    """The magic number of the file system that a path is on; 0 if there is none."""
    found = _FileSystem()
    if LIBC.statfs(os.fsencode(path), ctypes.byref(found)):
        return 0
    return int(found.kind)


@part("M12")
def examine_masks(given: Given, _seen: Sightings) -> Facts:
    """Whether each mask is the null device or an empty, read-only directory in memory."""
    wrong = []
    covered = masks(given)
    for path in covered:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
            if kind_of_file_system(path) != TMPFS_MAGIC or not read_only or os.listdir(path):
                wrong.append(f"{path} is no empty read-only directory in memory")
        elif not stat.S_ISCHR(found.st_mode):
            wrong.append(f"{path} is no device")
        elif (os.major(found.st_rdev), os.minor(found.st_rdev)) != NULL_DEVICE:
            wrong.append(f"{path} is another device than null")
    return {"masks": covered, "wrong": wrong}
