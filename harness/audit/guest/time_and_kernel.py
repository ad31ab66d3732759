"""The guest's parts of the probes about time and the kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import struct
import time
from collections.abc import Callable

from pybench.harness.audit.guest.core import (
    CLONE_NEWUSER,
    LIBC,
    Facts,
    Given,
    Sightings,
    name_of,
    part,
    read_or_nothing,
    system_call,
)

FARTHEST_ZONE = 32767
"""Minutes west, refused after the right to set the clock was checked (kernel/time/time.c)."""
ADJUST_TICK = 0x4000
"""ADJ_TICK; the tick 0 is refused after that check (kernel/time/timekeeping.c)."""
TIMEX_SIZE = 256
SYSLOG_READ_ALL = 3
X32_BIT = 0x40000000
GETPID_X86_64, GETPID_I386 = 39, 20
INVALID = -1
LOG_SIZE = 1 << 20


@part("T1")
def tell_the_uptime(_given: Given, _seen: Sightings) -> Facts:
    """How long we have been up, by the call and by the file; -1 where it cannot be known."""
    try:
        by_call = time.clock_gettime(time.CLOCK_BOOTTIME)
    except OSError:
        by_call = -1.0
    words = read_or_nothing("/proc/uptime", 64).split()
    return {"call": by_call, "file": float(words[0]) if words else -1.0}


@part("T2")
def set_the_clock(_given: Given, _seen: Sightings) -> Facts:
    """Set the time zone and the tick to values that are refused after the right to set them was checked."""
    zone = struct.pack("=2i", FARTHEST_ZONE, 0)
    tick = ctypes.create_string_buffer(struct.pack("=I", ADJUST_TICK), TIMEX_SIZE)
    _, settimeofday = system_call("settimeofday", None, zone)
    _, adjtimex = system_call("adjtimex", tick)
    return {"faults": {"settimeofday": settimeofday, "adjtimex": adjtimex}}


@part("T3")
def read_the_clocks_discipline(_given: Given, _seen: Sightings) -> Facts:
    """What the kernel knows of its clock's error; reading it takes no right."""
    buffer = ctypes.create_string_buffer(TIMEX_SIZE)
    _, fault = system_call("adjtimex", buffer)
    _, offset, frequency, _most, _error = struct.unpack_from("=I4x4q", buffer)
    return {"fault": fault, "offset": offset, "frequency": frequency}


@part("K1")
def tell_the_release(_given: Given, _seen: Sightings) -> Facts:
    """Release and version of the kernel."""
    found = os.uname()
    return {"release": found.release, "version": found.version}


@part("K2")
def read_the_boot_id(_given: Given, _seen: Sightings) -> Facts:
    """The kernel's number of this boot."""
    return {"id": read_or_nothing("/proc/sys/kernel/random/boot_id", 64).decode("ascii", "replace").strip()}


@part("K3")
def call_with_invalid_arguments(_given: Given, _seen: Sightings) -> Facts:
    """Calls with a large attack surface: an error other than a refusal means that their code was reached."""
    calls: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("bpf", (9999, None, 0)),
        ("perf_event_open", (None, 0, -1, -1, 0)),
        ("io_uring_setup", (0, None)),
        ("userfaultfd", (INVALID,)),
        ("keyctl", (9999,)),
        ("kexec_load", (None, 0, None, INVALID)),
        ("finit_module", (INVALID, None, INVALID)),
    )
    return {"faults": {name: system_call(name, *arguments)[1] for name, arguments in calls}}


@part("K4")
def nest_a_user_namespace(_given: Given, _seen: Sightings) -> Facts:
    """Go into a new user namespace; it ends with this process."""
    return {"fault": system_call("unshare", CLONE_NEWUSER)[1]}


@part("K5")
def read_the_kernel_log(_given: Given, seen: Sightings) -> Facts:
    """Read the kernel's log by call, device and file."""
    buffer = ctypes.create_string_buffer(LOG_SIZE)
    length, fault = system_call("syslog", SYSLOG_READ_ALL, buffer, LOG_SIZE)
    if length > 0:
        seen.look(buffer.raw[:length], "syslog(2)")
    device = read_records("/dev/kmsg", seen)
    return {"call": fault, "device": device}


def read_records(path: str, seen: Sightings) -> str:
    """Look through a log of which each read gives one record: empty if it could be opened, else the error."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return name_of(error)
    try:
        while True:
            seen.look(os.read(descriptor, 8192), path)
    except OSError:
        # EAGAIN: no more records; EPIPE: records were overwritten meanwhile.
        return ""
    finally:
        os.close(descriptor)


def outcome_of(call: Callable[[], int]) -> str:
    """Make a call in a child of its own, which the filter may kill: its result, or the name of the signal."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGSEGV, signal.SIGSYS, signal.SIGILL):
                signal.signal(number, signal.SIG_DFL)
            os.write(writer, str(call()).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    told = os.read(reader, 64).decode("ascii")
    os.close(reader)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return told or "nothing"


def call_x32() -> int:
    """getpid(2) by its number of x32."""
    return int(LIBC.syscall(ctypes.c_long(X32_BIT | GETPID_X86_64)))


def call_i386() -> int:
    """getpid(2) by the gate of 32-bit programs: mov eax, 20; int 0x80; ret."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8" + struct.pack("<I", GETPID_I386) + b"\xcd\x80\xc3")
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return int(function())


@part("K6")
def evade_the_filter(_given: Given, _seen: Sightings) -> Facts:
    """Calls that a filter which only knows the usual ones would let through."""
    found = {"clone3": system_call("clone3", None, 0)[1]}
    if platform.machine() == "x86_64":
        found["x32"] = outcome_of(call_x32)
        found["i386"] = outcome_of(call_i386)
    return {"outcomes": found}
