"""The guest's parts of the probes about information on the host, and about who else is on it."""

from __future__ import annotations

import ctypes
import glob
import hashlib
import mmap
import os
import platform
import struct
import time

from pybench.harness.audit.guest.core import (
    LIBC,
    Facts,
    Given,
    Sightings,
    name_of,
    part,
    read,
    read_or_nothing,
    system_call,
)

SYSINFO_SIZE = 256
RWF_NOWAIT = 8
TENANT = 54322
"""A user inside that owns nothing."""
SWEEP_SECONDS = 15.0
MOST_SWEPT = 600
LARGEST_SWEPT = 65536
NOT_SWEPT = frozenset({"kcore", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "pagemap"})
SWEPT = ("/proc", "/proc/sys/kernel/random", "/proc/bus", "/proc/fs", "/proc/driver", "/proc/tty")
SENSORS = (
    "/proc/interrupts",
    "/sys/class/powercap/*/energy_uj",
    "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/hwmon/hwmon*/temp*_input",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
)
IDENTITIES = (
    "/sys/class/dmi/id/*",
    "/sys/firmware/dmi/tables/*",
    "/sys/firmware/acpi/tables/*",
    "/sys/firmware/devicetree/base/serial-number",
    "/sys/block/*/serial",
    "/sys/block/*/wwid",
    "/sys/block/*/device/serial",
    "/sys/block/*/device/wwid",
)
KERNEL_FILES = (
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/modules",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
)
WATCHED = (
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/inode-nr",
    "/proc/sys/fs/dentry-state",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/vmstat",
    "/proc/zoneinfo",
    "/proc/softirqs",
    "/proc/diskstats",
    "/proc/buddyinfo",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
)
# push rbx; mov eax, edi; xor ecx, ecx; cpuid; mov [rsi + 0, 4, 8, 12], eax, ebx, ecx, edx; pop rbx; ret
CPUID = bytes.fromhex("5389f831c90fa28906895e04894e0889560c5bc3")
BRAND_LEAVES = (0x80000002, 0x80000003, 0x80000004)


def digest(data: bytes) -> str:
    """What is compared with the host's."""
    return hashlib.sha256(data).hexdigest()[:24]


def digests(patterns: tuple[str, ...], least: int) -> dict[str, str]:
    """Path and digest of the files that match and can be read, if they have content enough."""
    found = {}
    for pattern in patterns:
        for path in sorted(glob.glob(pattern))[:100]:
            if os.path.isfile(path):
                data = read_or_nothing(path, LARGEST_SWEPT).strip()
                if len(data) >= least:
                    found[path] = digest(data)
    return found


@part("X1")
def sweep(_given: Given, _seen: Sightings) -> Facts:
    """Digests of the files about the machine, as far as they come in the time."""
    found: dict[str, str] = {}
    until = time.monotonic() + SWEEP_SECONDS
    for top in SWEPT:
        try:
            names = sorted(os.listdir(top))
        except OSError:
            continue
        for name in names:
            path = f"{top}/{name}"
            if name.isdigit() or name in NOT_SWEPT or os.path.islink(path) or not os.path.isfile(path):
                continue
            if time.monotonic() > until or len(found) >= MOST_SWEPT:
                return {"digests": found, "complete": False}
            data = read_or_nothing(path, LARGEST_SWEPT)
            if data.strip():
                found[path] = digest(data)
    return {"digests": found, "complete": True}


def sum_of(text: str, skipped: int = 0) -> float:
    """Of all whole numbers in a text, without the first columns of each line."""
    return float(
        sum(int(word) for line in text.splitlines() for word in line.split()[skipped:] if word.isdigit())
    )


CHOSEN = {
    "/proc/meminfo": ("MemFree:", "Shmem:"),
    "/proc/vmstat": ("nr_shmem", "pgalloc_normal"),
    "/proc/stat": ("ctxt", "processes", "cpu"),
}


def figures_of(path: str, text: str) -> dict[str, float]:
    """What is watched of one file."""
    words = text.split()
    if path in CHOSEN:
        rows = (line.split() for line in text.splitlines())
        return {
            f"{path} {row[0]}": sum_of(" ".join(row[1:4])) for row in rows if row and row[0] in CHOSEN[path]
        }
    if path.startswith("/proc/sys/fs/") and words:
        value = float(words[0])
    elif path == "/proc/loadavg" and len(words) > 3:
        value = float(words[3].partition("/")[2])
    elif path.startswith("/proc/pressure/") and len(words) > 4:
        value = float(words[4].partition("=")[2])
    elif path == "/proc/zoneinfo":
        free = (line.split()[-1] for line in text.splitlines() if "nr_free_pages" in line)
        value = float(sum(int(each) for each in free))
    else:
        value = sum_of(text, 4 if path == "/proc/buddyinfo" else 1)
    return {path: value}


@part("X2")
def watch_the_host(given: Given, _seen: Sightings) -> Facts:
    """Read the same files again and again."""
    paths = [path for path in WATCHED if read_or_nothing(path, 16)]
    rounds: list[list[bytes]] = []
    times: list[float] = []
    began = time.monotonic()
    while paths and len(times) < given["readings"]:
        time.sleep(max(0.0, began + len(times) * given["pace"] / 1000 - time.monotonic()))
        times.append(round(time.monotonic() - began, 4))
        rounds.append([read_or_nothing(path, 65536) for path in paths])
    series: dict[str, list[float]] = {}
    for texts in rounds:
        for path, data in zip(paths, texts):  # noqa: B905 - guests may have an older Python
            for name, value in figures_of(path, data.decode("ascii", "replace")).items():
                series.setdefault(name, []).append(value)
    return {"series": series, "times": {"times": times}}


@part("X3")
def ask_for_system_information(_given: Given, _seen: Sightings) -> Facts:
    """sysinfo(2): what it says of memory and processes."""
    buffer = ctypes.create_string_buffer(SYSINFO_SIZE)
    if LIBC.sysinfo(buffer) != 0:
        return {"fault": "EPERM", "memory": 0, "processes": 0, "uptime": 0}
    fields = struct.unpack_from("=q3Q6QHH4x2QI4x", buffer)
    unit = fields[14] or 1
    return {"fault": "", "memory": fields[4] * unit, "processes": fields[10], "uptime": fields[0]}


@part("X4")
def read_sensors(_given: Given, _seen: Sightings) -> Facts:
    """Which counters and sensors of the hardware can be read."""
    readable = []
    for pattern in SENSORS:
        readable += [path for path in sorted(glob.glob(pattern))[:32] if read_or_nothing(path, 64).strip()]
    return {"readable": readable}


@part("X5")
def identify_the_machine(_given: Given, _seen: Sightings) -> Facts:
    """Digests of what identifies the machine."""
    return {"digests": digests(IDENTITIES, 4)}


@part("X6")
def read_about_the_kernel(_given: Given, _seen: Sightings) -> Facts:
    """Which files about the inside of the kernel tell something."""
    readable = []
    for path in KERNEL_FILES:
        data = read_or_nothing(path, 4096)
        # Without the right to see them, addresses are zeros.
        if path == "/proc/kallsyms":
            data = data.replace(b"0" * 16, b"").split(b" ", 1)[0].strip()
        if data:
            readable.append(path)
    return {"readable": readable}


def brand() -> str:
    """The processor's name for itself, by its own instruction, which no file can hide."""
    if platform.machine() != "x86_64":
        return ""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CPUID)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_char_p)(address)
    text = b""
    for leaf in BRAND_LEAVES:
        buffer = ctypes.create_string_buffer(16)
        function(leaf, ctypes.cast(buffer, ctypes.c_char_p))
        text += buffer.raw
    return text.rstrip(b"\0").decode("ascii", "replace").strip()


@part("X7")
def name_the_processor(_given: Given, _seen: Sightings) -> Facts:
    """The processor's model, as it and /proc/cpuinfo name it."""
    lines = read_or_nothing("/proc/cpuinfo", 8192).decode("ascii", "replace").splitlines()
    listed = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return {"instruction": brand(), "file": listed[0] if listed else ""}


class CacheVector(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def cached(path: str, vector: CacheVector) -> str:
    """Whether the beginning of a file is in the page cache: `1`, `0`, or the error."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return name_of(error)
    result, fault = system_call("preadv2", descriptor, ctypes.byref(vector), 1, 0, 0, RWF_NOWAIT)
    os.close(descriptor)
    if result > 0:
        return "1"
    return "0" if fault == "EAGAIN" else fault or "EOF"


@part("X8")
def look_into_the_page_cache(given: Given, _seen: Sightings) -> Facts:
    """Which files of the image are cached, without reading them."""
    buffer = ctypes.create_string_buffer(16)
    vector = CacheVector(ctypes.addressof(buffer), 1)
    return {"cached": [cached(path, vector) for path in given["paths"]]}


def look_as_another_user() -> str:
    """As a user without rights: how many processes of others can be looked at, and some of them."""
    try:
        os.setgid(TENANT)
        os.setuid(TENANT)
    except OSError as error:
        return name_of(error)
    seen = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int)[:2000]:
        try:
            owner = os.stat(f"/proc/{name}").st_uid
            if owner != TENANT and read(f"/proc/{name}/cmdline", 256):
                seen.append(name)
        except OSError:
            continue
    return f"{len(seen)} {' '.join(seen[:3])}"


@part("X9")
def look_between_users(_given: Given, _seen: Sightings) -> Facts:
    """How many processes of other users one without rights can look at, and how /proc is mounted."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, look_as_another_user().encode("ascii"))
        finally:
            os._exit(0)
    os.close(writer)
    words = os.read(reader, 256).decode("ascii").split()
    os.waitpid(pid, 0)
    os.close(reader)
    lines = read_or_nothing("/proc/self/mountinfo").decode("utf-8", "replace").splitlines()
    options = [line.rpartition(" ")[2] for line in lines if " /proc " in line and " - proc " in line]
    return {"told": words[0] if words else "", "pids": words[1:], "options": options[0] if options else ""}
