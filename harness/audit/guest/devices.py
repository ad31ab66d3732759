"""The guest's parts of the probes about devices and privilege."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import stat
import termios

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

PR_GET_NO_NEW_PRIVS = 39
MOST_DEVICES = 300
PLACES = ("/dev", "/tmp", "/run", "/")  # noqa: S108 - whichever can be written to
KERNEL_DEVICES = (
    "/dev/kmsg",
    "/dev/mem",
    "/dev/port",
    "/dev/kvm",
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/vhost-net",
)
BEACON_PATIENCE = 8.0
"""Seconds: it is there, and answers as soon as it gets a processor."""


def status_fields() -> dict[str, str]:
    """/proc/self/status, by name."""
    text = read_or_nothing("/proc/self/status").decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


@part("D1")
def list_devices(_given: Given, _seen: Sightings) -> Facts:
    """Every device node beneath /dev: its path, kind, major and minor number."""
    rows = []
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
                    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
                    numbers = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
                    rows.append([path, kind, numbers])
    return {"devices": rows[:MOST_DEVICES], "count": len(rows)}


@part("D2")
def make_a_block_device(given: Given, _seen: Sightings) -> Facts:
    """Make a node for a disk of the host's, in whichever place it can be made, and open it for reading."""
    faults = {}
    for place in PLACES:
        path = os.path.join(place, f"pybench-node-{os.getpid()}")
        try:
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(given["major"], given["minor"]))
        except OSError as error:
            faults[place] = f"mknod {name_of(error)}"
            continue
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            faults[place] = ""
        except OSError as error:
            faults[place] = f"open {name_of(error)}"
        finally:
            os.unlink(path)
        if not faults[place]:
            break
    return {"faults": faults}


@part("D3")
def open_kernel_devices(_given: Given, _seen: Sightings) -> Facts:
    """Open devices that lead into the kernel, and do nothing with them."""
    faults = {}
    for path in KERNEL_DEVICES:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
            faults[path] = ""
        except OSError as error:
            faults[path] = name_of(error)
    return {"faults": faults}


def _push(terminal: int) -> str:
    try:
        fcntl.ioctl(terminal, termios.TIOCSTI, b"#")
    except OSError as error:
        return name_of(error)
    return ""


@part("D4")
def push_into_a_terminal(_given: Given, _seen: Sightings) -> Facts:
    """Push a character into every terminal that is open, and into a controlling one."""
    terminals = []
    for number in range(256):
        with contextlib.suppress(OSError):
            if os.isatty(number):
                found = os.fstat(number)
                terminals.append([f"{found.st_dev}:{found.st_ino}", _push(number)])
    try:
        controlling = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        return {"terminals": terminals, "controlling": name_of(error)}
    fault = _push(controlling)
    os.close(controlling)
    return {"terminals": terminals, "controlling": f"TIOCSTI {fault}"}


@part("C1")
def read_capabilities(_given: Given, _seen: Sightings) -> Facts:
    """The five sets of our capabilities."""
    fields = status_fields()
    return {
        "sets": {name: fields.get(name, "") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    }


@part("C2")
def read_no_new_privileges(_given: Given, _seen: Sightings) -> Facts:
    """Whether execve can still give us rights."""
    return {"set": LIBC.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1}


@part("C3")
def read_the_filter(_given: Given, _seen: Sightings) -> Facts:
    """How our system calls are filtered, and what becomes of one that needs no right but is often refused."""
    fields = status_fields()
    # Its last argument makes it EINVAL wherever it is not refused beforehand (process_vm_readv(2)).
    _, fault = system_call("process_vm_readv", os.getpid(), None, 0, None, 0, 1)
    return {"mode": fields.get("Seccomp", "?"), "filters": fields.get("Seccomp_filters", "?"), "fault": fault}


@part("C4")
def look_for_a_security_module(given: Given, _seen: Sightings) -> Facts:
    """Our label, and whether our first process reaches an abstract socket of this process."""
    label = read_or_nothing("/proc/self/attr/current", 256).rstrip(b"\0\n").decode("ascii", "replace")
    name = f"pybench-landlock-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.bind(b"\0" + name.encode("ascii"))
        own.listen(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(BEACON_PATIENCE)
            try:
                asking.connect(("127.0.0.1", given["udp"]))
                asking.send(b"connect " + name.encode("ascii"))
                answer = asking.recv(64).decode("ascii", "replace")
            except OSError:
                answer = ""
    return {"label": label, "answer": answer}


@part("C5")
def map_writable_code(_given: Given, _seen: Sightings) -> Facts:
    """Map memory that can be written to and executed."""
    try:
        mapped = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        return {"fault": name_of(error)}
    mapped.close()
    return {"fault": ""}
