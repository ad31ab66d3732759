"""The guest's parts of the probes about control groups and limits.

What uses something up does so for a fraction of a second, and in children that are sure to be killed first.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator

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

SPIN_SECONDS = 0.5
READ_SECONDS = 0.45
SEND_SECONDS = 0.25
MOST_PACKETS = 5000
CRASHES = 4
HOG_SECONDS = 20.0
MOST_GROUPS = 3000
GROUP_DEPTH = 4
MADV_PAGEOUT = 21
EMPTY_DIRECTORIES = ("/mnt", "/media", "/srv")
MEMORY_DIRECTORIES = ("/tmp", "/dev/shm", "/run")  # noqa: S108 - to be filled
READ_BLOCK = 1 << 20


def mounted_groups() -> list[list[str]]:
    """Mount point, type and root of every file system of control groups."""
    rows = []
    for line in read_or_nothing("/proc/self/mountinfo").decode("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in {"cgroup", "cgroup2"}:
            words = before.split(" ")
            rows.append([words[4], kind, words[3]])
    return rows


@part("G1")
def tell_our_groups(_given: Given, _seen: Sightings) -> Facts:
    """The paths of our control groups, and the roots of those that are mounted."""
    lines = read_or_nothing("/proc/self/cgroup").decode("utf-8", "replace").splitlines()
    own = [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
    return {"own": own[:64], "roots": [row[2] for row in mounted_groups()][:64]}


@contextlib.contextmanager
def mounted(given: Given, kind: str, options: str) -> Iterator[str]:
    """A file system of control groups on a directory that nobody uses; an empty path if it is refused."""
    fault = throw_away(given, CLONE_NEWNS)
    point = next((path for path in EMPTY_DIRECTORIES if os.path.isdir(path)), "")
    if fault or not point:
        yield ""
        return
    data = options.encode("ascii") if options else None
    _, fault = system_call("mount", b"none", point.encode("ascii"), kind.encode("ascii"), 0, data)
    if fault:
        yield ""
        return
    try:
        yield point
    finally:
        system_call("umount2", point.encode("ascii"), 0)


def hierarchies() -> list[str]:
    """The hierarchies of version 1 that exist, as they are mounted."""
    lines = read_or_nothing("/proc/self/cgroup").decode("utf-8", "replace").splitlines()
    names = [line.split(":", 2)[1] for line in lines if line.count(":") >= 2]
    return ["none," + name if name.startswith("name=") else name for name in names if name]


def through_all(given: Given) -> Iterator[str]:
    """Every place at which groups are, or can be, mounted; each for as long as it is looked at."""
    for point, _, _ in mounted_groups():
        yield point
    with mounted(given, "cgroup2", "") as point:
        if point:
            yield point
    for name in hierarchies():
        with mounted(given, "cgroup", name) as point:
            if point:
                yield point


@part("G2")
def open_groups_for_writing(given: Given, _seen: Sightings) -> Facts:
    """Open for writing the file that moves processes."""
    faults = {}
    for number, point in enumerate(through_all(given)):
        faults[f"{point}/cgroup.procs {number}"] = opens_for_writing(f"{point}/cgroup.procs")
    return {"faults": faults}


@part("G3")
def open_the_release_agent(given: Given, _seen: Sightings) -> Facts:
    """Open for writing the name of a program that the host's kernel starts as root."""
    faults = {}
    for number, point in enumerate(through_all(given)):
        path = f"{point}/release_agent"
        if os.path.exists(path):
            faults[f"{path} {number}"] = opens_for_writing(path)
    return {"faults": faults}


@part("G4")
def list_groups(given: Given, _seen: Sightings) -> Facts:
    """The names of groups of the harness's that can be seen."""
    names: dict[str, str] = {}
    looked_at = 0
    for point in through_all(given):
        for folder, folders, _ in os.walk(point):
            if folder.count("/") - point.count("/") >= GROUP_DEPTH:
                folders.clear()
            looked_at += 1
            if looked_at > MOST_GROUPS:
                break
            for name in folders:
                if name.startswith("pybench"):
                    names.setdefault(name, f"{folder}/{name}")
    return {"names": dict(list(names.items())[:400]), "looked_at": looked_at}


@contextlib.contextmanager
def child(function: object, *arguments: object) -> Iterator[int]:
    """A child that runs a function, and is killed."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            function(*arguments)  # type: ignore[operator]
        os._exit(0)
    try:
        yield pid
    finally:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)


def spin(until: float) -> None:
    """Compute until then, by the monotonic clock."""
    while time.monotonic() < until:
        pass


@part("R1")
def use_more_processors(given: Given, _seen: Sightings) -> Facts:
    """More spinning processes than we have processors, four for each of the host's."""
    until = time.monotonic() + SPIN_SECONDS
    with contextlib.ExitStack() as stack:
        for _ in range(given["spinners"]):
            stack.enter_context(child(spin, until))
        time.sleep(max(0.0, until - time.monotonic()))
    return {"spinners": given["spinners"]}


def swapped_out() -> int:
    """Bytes of our own memory."""
    fields = read_or_nothing("/proc/self/status").decode("ascii", "replace").splitlines()
    return sum(1024 * int(line.split()[1]) for line in fields if line.startswith("VmSwap:"))


def hog(shared: mmap.mmap, size: int, out: int) -> None:
    """Touch memory page by page, and tell how far it got; the first to be killed if it runs short.

    The first `out` bytes are moved to swap where there is any. It must not become full: the kernel would not
    even take back memory whose content is there already.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block = b"x" * READ_BLOCK
    for offset in range(0, size - READ_BLOCK + 1, READ_BLOCK):
        memory[offset : offset + READ_BLOCK] = block
        shared[0:8] = (offset + READ_BLOCK).to_bytes(8, "little")
        if offset < out:
            with contextlib.suppress(OSError):
                memory.madvise(MADV_PAGEOUT, offset, READ_BLOCK)
            shared[8:16] = swapped_out().to_bytes(8, "little")


def hogged(size: int, out: int) -> Facts:
    """What a child touches that allocates memory, how much of it is swapped out, and how it ends."""
    told = mmap.mmap(-1, mmap.PAGESIZE)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            hog(told, size, out)
            os._exit(0)
        os._exit(1)
    deadline, status = time.monotonic() + HOG_SECONDS, None
    while status is None and time.monotonic() < deadline:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = code if done else None
        if status is None:
            time.sleep(0.005)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {
        "touched": int.from_bytes(told[0:8], "little"),
        "swapped": int.from_bytes(told[8:16], "little"),
        "killed": status is not None and os.WIFSIGNALED(status),
        "in_time": status is not None,
    }


@part("R2")
def use_more_memory(given: Given, _seen: Sightings) -> Facts:
    """Allocate more than we were promised, in a child."""
    return hogged(given["bytes"], 0)


@part("R3")
def move_memory_to_swap(given: Given, _seen: Sightings) -> Facts:
    """The same, asking the kernel to move a part to the host's swap (madvise(2), MADV_PAGEOUT)."""
    return hogged(given["bytes"], given["out"])


@part("R4")
def start_more_processes(given: Given, _seen: Sightings) -> Facts:
    """Start more than we were promised; all are killed at once."""
    pids: list[int] = []
    fault = ""
    while len(pids) < given["processes"] and not fault:
        try:
            pid = os.fork()
        except OSError as error:
            fault = name_of(error)
            break
        if pid == 0:
            signal.pause()
            os._exit(0)
        pids.append(pid)
    # For the host to count them.
    time.sleep(given["hold"] / 1000)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"started": len(pids), "fault": fault}


@part("R5")
def read_faster(given: Given, _seen: Sightings) -> Facts:
    """Read a file past the page cache as fast as it goes."""
    buffer = mmap.mmap(-1, READ_BLOCK)
    total, until = 0, time.monotonic() + READ_SECONDS
    try:
        descriptor = os.open(given["path"], os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        return {"fault": name_of(error), "bytes": 0}
    try:
        while time.monotonic() < until:
            count = os.preadv(descriptor, [buffer], 0)
            if count <= 0:
                break
            total += count
    except OSError as error:
        return {"fault": name_of(error), "bytes": total}
    finally:
        os.close(descriptor)
    return {"fault": "", "bytes": total}


@part("R6")
def exhaust_descriptors(given: Given, _seen: Sightings) -> Facts:
    """Open files up to the limit, raise that, and make more inotify instances than one tenant needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = ""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    except (OSError, ValueError) as error:
        raised = name_of(error) if isinstance(error, OSError) else "EPERM"
    instances: list[int] = []
    fault = ""
    while len(instances) < given["instances"]:
        descriptor = LIBC.inotify_init1(os.O_CLOEXEC)
        if descriptor < 0:
            fault = "refused"
            break
        instances.append(descriptor)
    for descriptor in instances:
        os.close(descriptor)
    return {"soft": soft, "hard": hard, "raised": raised, "instances": len(instances), "fault": fault}


@part("R7")
def fill_memory_file_systems(given: Given, _seen: Sightings) -> Facts:
    """Ask for more room than was promised in every file system that can be written to, and give it back."""
    faults = {}
    for folder in MEMORY_DIRECTORIES:
        path = f"{folder}/pybench-audit-fill-{os.getpid()}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            faults[folder] = f"open {name_of(error)}"
            continue
        try:
            os.unlink(path)
            os.posix_fallocate(descriptor, 0, given["bytes"])
            faults[folder] = ""
        except OSError as error:
            faults[folder] = name_of(error)
        finally:
            os.close(descriptor)
    return {"faults": faults}


def crash() -> bool:
    """Let a child crash: whether its core was taken."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(0)
    return os.WCOREDUMP(os.waitpid(child, 0)[1])


@part("R8")
def make_others_work(given: Given, _seen: Sightings) -> Facts:
    """Send packets to ourselves, whose soft interrupts are charged to nobody in particular; and crash.

    It crashes only where the host's kernel gives cores to a program, which it starts outside of all limits.
    """
    dumped = sum(crash() for _ in range(CRASHES)) if given["piped"] else 0
    sent, until = 0, time.monotonic() + SEND_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.setblocking(False)
        address = own.getsockname()
        while sent < MOST_PACKETS and time.monotonic() < until:
            own.sendto(b"x", address)
            sent += 1
            with contextlib.suppress(OSError):
                own.recv(8)
    return {"sent": sent, "dumped": dumped}
