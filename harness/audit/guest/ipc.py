"""The guest's parts of the probes about IPC, host name and keys."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from pybench.harness.audit.guest.core import (
    LIBC,
    Facts,
    Given,
    Sightings,
    name_of,
    part,
    read_or_nothing,
    system_call,
)

SHM_READ_ONLY = 0o10000
KEYCTL_READ = 11
KEYCTL_JOIN_SESSION_KEYRING = 1
PROCESS_KEYRING = -2
LONGEST_KEY = 256
NAME_LENGTH_REFUSED = -1
MOST_FILES = 500


def last_error() -> str:
    """The name of the C library's error."""
    code = ctypes.get_errno()
    return errno.errorcode.get(code, str(code))


def attach_segment(identifier: int, seen: Sightings) -> str:
    """Look into a segment of shared memory: empty if it could be attached, else the error."""
    LIBC.shmat.restype = ctypes.c_void_p
    LIBC.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    address = LIBC.shmat(identifier, None, SHM_READ_ONLY)
    if address in (None, ctypes.c_void_p(-1).value):
        return last_error()
    seen.look(ctypes.string_at(address, 256), f"shared memory {identifier}")
    return ""


@part("I1")
def look_for_system_v_objects(given: Given, seen: Sightings) -> Facts:
    """Find the host's segment, semaphore and queue by their keys, and read the segment."""
    faults = {"segment": attach_segment(given["identifier"], seen)}
    for kind, result in (
        ("segment by key", LIBC.shmget(given["segment"], 0, 0)),
        ("semaphore", LIBC.semget(given["semaphore"], 0, 0)),
        ("queue", LIBC.msgget(given["queue"], 0)),
    ):
        faults[kind] = "" if result >= 0 else last_error()
    return {"faults": faults}


@part("I2")
def look_for_posix_objects(given: Given, seen: Sightings) -> Facts:
    """Read what is in /dev/shm, and open the host's message queue."""
    folder = "/dev/shm"  # noqa: S108 - to look into
    try:
        names = sorted(os.listdir(folder))[:MOST_FILES]
    except OSError:
        names = []
    for name in names:
        path = f"{folder}/{name}"
        seen.look(os.fsencode(path), path)
        seen.look(read_or_nothing(path, 4096), path)
    descriptor = LIBC.mq_open(given["queue"].encode("ascii"), os.O_RDONLY | os.O_NONBLOCK)
    fault = "" if descriptor >= 0 else last_error()
    return {"fault": fault, "files": len(names)}


@part("I3")
def read_a_key(given: Given, seen: Sightings) -> Facts:
    """Read the host's key by its number."""
    buffer = ctypes.create_string_buffer(LONGEST_KEY)
    length, fault = system_call("keyctl", KEYCTL_READ, given["serial"], buffer, LONGEST_KEY)
    if length > 0:
        seen.look(buffer.raw[: min(length, LONGEST_KEY)], f"key {given['serial']}")
    return {"fault": fault}


@part("I4")
def list_keys(_given: Given, seen: Sightings) -> Facts:
    """Read the lists of keys and of who has how many."""
    listed = read_or_nothing("/proc/keys")
    seen.look(listed, "/proc/keys")
    users = read_or_nothing("/proc/key-users").decode("ascii", "replace")
    return {"keys": listed.count(b"\n"), "users": [line.strip() for line in users.splitlines()[:64]]}


@part("I5")
def add_a_key(_given: Given, _seen: Sightings) -> Facts:
    """Add a key to a keyring that ends with this process, and join a new session keyring."""
    _, added = system_call("add_key", b"user", b"pybench-probe", b"x", 1, PROCESS_KEYRING)
    _, joined = system_call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)
    return {"faults": {"add_key": added, "keyctl(JOIN_SESSION_KEYRING)": joined}}


@part("I6")
def look_for_locks(given: Given, _seen: Sightings) -> Facts:
    """Lock what the host has locked, and look for its lock in the list of all."""
    listed = read_or_nothing("/proc/locks").decode("ascii", "replace")
    facts: Facts = {"identities": [line.split()[-3] for line in listed.splitlines() if len(line.split()) > 5]}
    facts["identities"] = facts["identities"][:2000]
    if not given["path"]:
        return {**facts, "fault": "no volume"}
    try:
        descriptor = os.open(given["path"], os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return {**facts, "fault": name_of(error)}
    return {**facts, "fault": ""}


@part("I7")
def tell_the_host_name(_given: Given, _seen: Sightings) -> Facts:
    """Our host name."""
    return {"name": os.uname().nodename}


@part("I8")
def set_the_host_name(_given: Given, _seen: Sightings) -> Facts:
    """Set host and domain name with a length that is refused after the right to do it was checked."""
    faults = {}
    for call in ("sethostname", "setdomainname"):
        _, faults[call] = system_call(call, None, NAME_LENGTH_REFUSED)
    try:
        namespace = os.readlink("/proc/self/ns/uts")
    except OSError:
        namespace = ""
    return {"faults": faults, "namespace": namespace}
