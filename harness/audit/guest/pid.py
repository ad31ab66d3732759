"""The guest's parts of the probes about processes."""

from __future__ import annotations

import ctypes
import os
import time

from pybench.harness.audit.guest.core import (
    Facts,
    Given,
    Sightings,
    name_of,
    part,
    read_or_nothing,
    system_call,
)

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
FORK_WATCHES, FORK_PAUSE = 50, 0.02
"""How often it is looked, and seconds between: counted and not timed, so that a busy host has more time."""
FEWEST_FORKS = 3
"""That are more than chance: we start nothing meanwhile."""


def process_numbers() -> list[int]:
    """The processes that /proc shows."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _look_at_processes(seen: Sightings) -> Facts:
    numbers = process_numbers()
    for number in numbers:
        for name in ("cmdline", "environ"):
            path = f"/proc/{number}/{name}"
            seen.look(read_or_nothing(path, 65536), path)
    return {"processes": len(numbers)}


@part("P1")
def look_for_the_hosts_processes(_given: Given, seen: Sightings) -> Facts:
    """Read every command line and environment."""
    return _look_at_processes(seen)


@part("P6")
def look_for_the_siblings_processes(_given: Given, seen: Sightings) -> Facts:
    """Read every command line and environment."""
    return _look_at_processes(seen)


@part("P2")
def signal_a_host_process(given: Given, _seen: Sightings) -> Facts:
    """Send signal 0, which is checked and not delivered."""
    fault = ""
    try:
        os.kill(given["pid"], 0)
    except OSError as error:
        fault = name_of(error)
    return {"fault": fault, "own": os.getpid(), "last": max(process_numbers(), default=0)}


@part("P3")
def read_namespaces(_given: Given, _seen: Sightings) -> Facts:
    """The identity of each of our namespaces."""
    found = {}
    for name in NAMESPACES:
        try:
            found[name] = os.readlink(f"/proc/self/ns/{name}")
        except OSError:
            continue
    return {"namespaces": found}


@part("P4")
def look_at_the_first_processes(_given: Given, _seen: Sightings) -> Facts:
    """Who is process 1 and process 2, and how deep our own process is nested."""
    status = read_or_nothing("/proc/self/status").decode("ascii", "replace")
    nested = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    first = read_or_nothing("/proc/1/stat").decode("ascii", "replace").rpartition(")")[2].split()
    return {
        "second": read_or_nothing("/proc/2/comm").decode("ascii", "replace").strip(),
        "first_started": first[19] if len(first) > 19 else "",
        "depth": len(nested[0]) if nested else 0,
    }


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@part("P5")
def read_the_memory_of_a_host_process(given: Given, seen: Sightings) -> Facts:
    """process_vm_readv(2) and pidfd_open(2) on its number."""
    length = given["length"]
    buffer = ctypes.create_string_buffer(max(1, length))
    ours = _Vector(ctypes.addressof(buffer), length)
    theirs = _Vector(given["address"], length)
    pid = given["pid"]
    result, read_fault = system_call(
        "process_vm_readv", pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0
    )
    if result > 0:
        seen.look(buffer.raw[:result], f"memory of process {pid}")
    descriptor, open_fault = system_call("pidfd_open", pid, 0)
    return {"read_fault": read_fault, "open_fault": open_fault, "descriptor": descriptor >= 0}


@part("P8")
def watch_process_numbers(_given: Given, _seen: Sightings) -> Facts:
    """How far the last process number moves while we start nothing."""
    first = last_number()
    if first is None:
        return {"readable": False, "moved": 0}
    moved = 0
    for _ in range(FORK_WATCHES):
        time.sleep(FORK_PAUSE)
        moved = (last_number() or first) - first
        if abs(moved) >= FEWEST_FORKS:
            break
    return {"readable": True, "moved": moved}


def last_number() -> int | None:
    """Of the process that was started last in our pid namespace; None if it is not told."""
    text = read_or_nothing("/proc/sys/kernel/ns_last_pid", 64).strip()
    return int(text) if text.isdigit() else None
