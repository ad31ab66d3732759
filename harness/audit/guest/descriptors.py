"""The guest's parts of the probes about descriptors, the environment, and ways out through /proc."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat

from pybench.harness.audit.guest.core import (
    Facts,
    Given,
    Sightings,
    name_of,
    opens_for_writing,
    part,
)
from pybench.harness.audit.guest.filesystem import kind_of_file_system

MOST_DESCRIPTORS = 1024
PROC_MAGIC = 0x9FA0
OVERLAY_MAGIC = 0x794C7630
HELPERS = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
    "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register",
)  # fmt: skip
SWITCHES = (
    "/proc/sysrq-trigger", "/proc/sys/kernel/sysrq", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops", "/proc/sys/vm/panic_on_oom",
)  # fmt: skip
HARDWARE = ("/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/acpi/wakeup")
LABELS = ("current", "exec", "fscreate", "keycreate", "sockcreate")


def descriptors() -> list[int]:
    """Our open descriptors beyond standard input, output and errors."""
    found = []
    for number in range(3, MOST_DESCRIPTORS):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


@part("F1")
def read_inherited_descriptors(_given: Given, seen: Sightings) -> Facts:
    """Read the beginning of every regular file that is open."""
    numbers = descriptors()
    for number in numbers:
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(number).st_mode):
                seen.look(os.pread(number, 4096, 0), f"descriptor {number}")
    return {"open": len(numbers)}


@part("F2")
def identify_descriptors(_given: Given, _seen: Sightings) -> Facts:
    """Which files and directories are open, and which of them no path of ours leads to."""
    identities, outside = [], []
    for number in descriptors():
        with contextlib.suppress(OSError):
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                continue
            identities.append(f"{found.st_dev}:{found.st_ino}")
            path = os.readlink(f"/proc/self/fd/{number}")
            if path.startswith("/memfd:") or path.endswith(" (deleted)"):
                continue
            try:
                other = os.stat(path)
            except OSError:
                outside.append(path)
                continue
            if (other.st_dev, other.st_ino) != (found.st_dev, found.st_ino):
                outside.append(path)
    return {"identities": identities, "outside": outside}


@part("F3")
def read_the_environment(_given: Given, seen: Sightings) -> Facts:
    """Our own environment, and that of our first process."""
    for name, value in os.environb.items():
        seen.look(value, f"variable {name.decode('utf-8', 'replace')}")
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    return {"proxies": proxies, "variables": len(os.environ)}


def is_in_our_layer(path: str) -> bool:
    """Whether the link to a program leads to the file that we find there, above which we may put another."""
    if kind_of_file_system(path) != OVERLAY_MAGIC:
        return False
    try:
        found, ours = os.stat(path), os.stat(os.readlink(path))
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


@part("F4")
def open_executables_for_writing(given: Given, _seen: Sightings) -> Facts:
    """Open the program of every process for writing, without truncating or writing it."""
    faults = {}
    for name in os.listdir("/proc"):
        path = f"/proc/{name}/exe"
        if name.isdigit() and os.path.exists(path):
            faults[path] = opens_for_writing(path)
            # That it runs is found out before its mount is looked at (do_dentry_open in fs/open.c).
            if faults[path] == "ETXTBSY" and not os.access(path, os.W_OK):
                faults[path] = "EROFS"
            if faults[path] in {"", "ETXTBSY"} and not given["shared"] and is_in_our_layer(path):
                faults[path] = "being its own"
        if len(faults) >= MOST_DESCRIPTORS:
            break
    return {"faults": faults}


def _opened(paths: tuple[str, ...]) -> Facts:
    return {"faults": {path: opens_for_writing(path) for path in paths}}


@part("E1")
def open_helpers(_given: Given, _seen: Sightings) -> Facts:
    """Open for writing what names programs that the kernel starts as the host's root."""
    return _opened(HELPERS)


@part("E2")
def open_switches(_given: Given, _seen: Sightings) -> Facts:
    """Open for writing what reboots, stops or stalls the machine."""
    return _opened(SWITCHES)


@part("E3")
def open_hardware_settings(_given: Given, _seen: Sightings) -> Facts:
    """Open for writing what steers interrupts and memory types."""
    return _opened(HARDWARE)


@part("E4")
def lower_the_badness(_given: Given, _seen: Sightings) -> Facts:
    """Make the kernel spare this process when memory runs out; it ends at once anyway."""
    path = "/proc/self/oom_score_adj"
    try:
        with open(path, encoding="ascii") as file:
            before = int(file.read())
        with open(path, "w", encoding="ascii") as file:
            file.write(str(max(-1000, before - 100)))
    except OSError as error:
        return {"fault": name_of(error)}
    return {"fault": ""}


@part("E5")
def dump_core(given: Given, _seen: Sightings) -> Facts:
    """Let a child abort with the largest core that is allowed; not where the core would go to a program.

    It does so in a directory of ours, which is removed with what is in it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if given["shared"] and given["piped"]:
        return {"limit": hard, "dumped": True, "tried": False}
    folder = f"/tmp/pybench-core-{os.getpid()}"  # noqa: S108 - inside, or of a name that nobody else has
    os.mkdir(folder, 0o700)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        # As little as the kernel would truncate it to; enough to see that it was written.
        enough = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        resource.setrlimit(resource.RLIMIT_CORE, (enough, hard))
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.abort()
    _, status = os.waitpid(child, 0)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)
    return {"limit": hard, "dumped": os.WCOREDUMP(status), "tried": True}


@part("E6")
def examine_labels(_given: Given, _seen: Sightings) -> Facts:
    """Whether the files that label a process are those of a real /proc."""
    wrong, found = [], 0
    for name in LABELS:
        path = f"/proc/self/attr/{name}"
        kind = kind_of_file_system(path)
        if kind == 0:
            continue
        found += 1
        if kind != PROC_MAGIC or os.path.islink(path):
            wrong.append(f"{path} is on a file system of kind {kind:#x}")
    return {"found": found, "wrong": wrong, "proc": kind_of_file_system("/proc") == PROC_MAGIC}
