"""What the guest's parts of all probes share, and the loop that runs them.

Each runs in a child of its own with a time limit, so that one that crashes or hangs harms no other. It sees
no token that it does not find: it is only told what tokens look like.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import select
import signal
import time
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
"""What a part tells: scalars, lists of them, lists of such lists."""
Given = dict[str, Any]
"""What a part is told."""
Part = Callable[[Given, "Sightings"], Facts]

PARTS: dict[str, Part] = {}
MOST_SIGHTINGS = 64
LONGEST_PLACE = 400
LARGEST_ANSWER = 128 * 1024
LARGEST_FILE = 1 << 20

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC = 16384
MS_PRIVATE = 1 << 18

LIBC = ctypes.CDLL(None, use_errno=True)

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "process_vm_readv": 310, "pidfd_open": 434, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "open_by_handle_at": 304, "name_to_handle_at": 303, "openat2": 437, "seccomp": 317, "ptrace": 101,
        "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425, "userfaultfd": 323, "keyctl": 250,
        "add_key": 248, "request_key": 249, "kexec_load": 246, "finit_module": 313, "clone3": 435,
        "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
        "preadv2": 327, "capget": 125, "mount": 165, "umount2": 166, "unshare": 272, "mknodat": 259,
        "reboot": 169, "swapon": 167, "acct": 163, "syslog": 103, "clock_settime": 227, "adjtimex": 159,
        "settimeofday": 164, "sethostname": 170, "setdomainname": 171, "pivot_root": 155,
    },
    "aarch64": {
        "process_vm_readv": 270, "pidfd_open": 434, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "open_by_handle_at": 265, "name_to_handle_at": 264, "openat2": 437, "seccomp": 277, "ptrace": 117,
        "bpf": 280, "perf_event_open": 241, "io_uring_setup": 425, "userfaultfd": 282, "keyctl": 219,
        "add_key": 217, "request_key": 218, "kexec_load": 104, "finit_module": 273, "clone3": 435,
        "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
        "preadv2": 286, "capget": 90, "mount": 40, "umount2": 39, "unshare": 97, "mknodat": 33,
        "reboot": 142, "swapon": 224, "acct": 89, "syslog": 116, "clock_settime": 112, "adjtimex": 171,
        "settimeofday": 170, "sethostname": 161, "setdomainname": 162, "pivot_root": 41,
    },
}  # fmt: skip
"""System call numbers (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""


class Sightings:
    """Tokens that were seen, each with the first place where it was."""

    def __init__(self, shape: re.Pattern[bytes]) -> None:
        self._shape = shape
        self._places: dict[str, str] = {}

    def look(self, data: bytes, place: str) -> bool:
        """Note the tokens in some data; true if there is one."""
        found = self._shape.findall(data)
        for token in found:
            if len(self._places) < MOST_SIGHTINGS:
                self._places.setdefault(token.decode("ascii"), place[:LONGEST_PLACE])
        return bool(found)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Token and place."""
        return list(self._places.items())


def part(identifier: str) -> Callable[[Part], Part]:
    """Make a function the guest's part of the probe of that id."""

    def enter(function: Part) -> Part:
        PARTS[identifier] = function
        return function

    return enter


def system_call(name: str, *arguments: Any) -> tuple[int, str]:
    """Make a system call by name: its result, and the name of the error, empty if there was none."""
    number = CALLS.get(os.uname().machine, {}).get(name)
    if number is None:
        return -1, "ENOSYS"
    ctypes.set_errno(0)
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(LIBC.syscall(ctypes.c_long(number), *passed))
    code = ctypes.get_errno()
    return result, errno.errorcode.get(code, str(code)) if result == -1 else ""


def name_of(error: OSError) -> str:
    """`EPERM`."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def read(path: str, limit: int = LARGEST_FILE) -> bytes:
    """The beginning of a file; OSError as open(2) and read(2) raise it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        pieces = []
        while limit > 0:
            piece = os.read(descriptor, min(limit, 65536))
            if not piece:
                break
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def read_or_nothing(path: str, limit: int = LARGEST_FILE) -> bytes:
    """As `read`; nothing if it cannot be read."""
    try:
        return read(path, limit)
    except OSError:
        return b""


def opens_for_writing(path: str) -> str:
    """Try to open a file for writing, without truncating it or writing: empty if it opens, else the error."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as error:
        return name_of(error)
    return ""


def throw_away(given: Given, namespaces: int) -> str:
    """Go into new namespaces before anything is changed, so that neither the host nor a later probe sees it.

    Where the target has namespaces of its own and may not make others, it goes on in those.

    Returns:
        The name of the error if nothing may be tried, because the namespaces are the host's; else an empty
        text.
    """
    _, fault = system_call("unshare", namespaces)
    if not fault and namespaces & CLONE_NEWNS:
        _, fault = system_call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    return fault if given["shared"] else ""


def _answer(identifier: str, given: Given, shape: re.Pattern[bytes]) -> Facts:
    began = time.monotonic()
    seen = Sightings(shape)
    answer: Facts = {"probe": identifier, "status": "done"}
    try:
        answer["facts"] = PARTS[identifier](given, seen)
    except BaseException as error:
        answer["status"] = "crashed"
        answer["reason"] = (type(error).__name__ + ": " + str(error))[:1000]
    answer["seconds"] = time.monotonic() - began
    answer["seen"] = seen.pairs
    return answer


def _run_child(identifier: str, given: Given, shape: re.Pattern[bytes], pipe: int) -> None:
    os.setpgid(0, 0)
    try:
        silent = os.open("/dev/null", os.O_RDWR)
    except OSError:
        silent = -1
    for number in range(3):
        if silent >= 0:
            os.dup2(silent, number)
    text = json.dumps(_answer(identifier, given, shape)).encode("ascii")
    if len(text) > LARGEST_ANSWER:
        text = json.dumps({"probe": identifier, "status": "crashed", "reason": "too long an answer"}).encode()
    write_all(pipe, text + b"\n")


def _collect(pipe: int, seconds: float) -> bytes:
    """What the child answers: one line, or less if it dies or its time is over."""
    deadline = time.monotonic() + seconds
    collected = b""
    while not collected.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return b"late"
        piece = os.read(pipe, 65536)
        if not piece:
            break
        collected += piece
    return collected


def start_apart(each: Given, shape: re.Pattern[bytes], gate: tuple[int, int]) -> tuple[int, int]:
    """Start the guest's part of one probe in a child, which begins when it can read from a gate, a pipe.

    Returns:
        The child, and the pipe for its answer.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            # Without it here, the gate opens as well if whoever should open it dies.
            os.close(gate[1])
            os.read(gate[0], 1)
            _run_child(each["id"], each["given"], shape, writer)
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def finish(identifier: str, child: int, reader: int, seconds: float) -> bytes:
    """The answer of a child that was started, as a line; the child is killed, and all that it started."""
    collected = _collect(reader, seconds)
    os.close(reader)
    for kill, number in ((os.killpg, child), (os.kill, child)):
        with contextlib.suppress(OSError):
            kill(number, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if collected.endswith(b"\n"):
        return collected
    late = collected == b"late"
    reason = "its time was over" if late else f"it ended with status {status}"
    failed = {"probe": identifier, "status": "late" if late else "crashed", "reason": reason}
    return json.dumps(failed).encode("ascii") + b"\n"


def run_group(group: list[Given], shape: re.Pattern[bytes]) -> None:
    """Run probes at once, and write their answers.

    None begins before all are started, so that nobody who watches the numbers of processes sees that.
    """
    gate = os.pipe()
    started = [start_apart(each, shape, gate) for each in group]
    os.write(gate[1], b"!" * len(group))
    for each, (child, reader) in zip(group, started):  # noqa: B905 - guests may have an older Python
        write_all(1, finish(each["id"], child, reader, each["seconds"]))
    for end in gate:
        os.close(end)


def main(text: str) -> None:
    """Run what the host asks for, in its order; one line of JSON for each."""
    request = json.loads(text)
    shape = re.compile(request["shape"].encode("ascii"))
    for group in request["groups"]:
        for each in group:
            each["given"] = dict(each["given"], shared=request["shared"])
        run_group(group, shape)


def write_all(descriptor: int, data: bytes) -> None:
    """Write data to its end."""
    while data:
        data = data[os.write(descriptor, data) :]
