"""Our filters in the real kernel: what they deny is denied, and programs of both C libraries still work."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
from patience import PATIENCE

from pybench.runtime.container.seccomp.compile import compile_filter
from pybench.runtime.container.seccomp.profiles import DEFAULT, DENIED, NOT_WHEN_STRICT, STRICT
from pybench.runtime.container.specification.decode import decode
from pybench.runtime.container.specification.seccomp import SeccompProfile

INSTALL = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value % 2**64) for value in arguments))
    return ctypes.get_errno() if result == -1 else 0
def install(path):
    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]
    code = open(path, "rb").read()
    if code:
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        program = Program(len(code) // 8, code)
        assert call(317, 1, 0, ctypes.addressof(program)) == 0, "seccomp"
"""
CALLS = "install(sys.argv[1]); print(json.dumps([call(*given) for given in json.load(sys.stdin)]))"
EXECUTE = "install(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
NOTHING = -1
"""An argument that no call can use: a bad descriptor, pointer, flag and number at once."""
NAMESPACE_FLAGS = {
    "mount": 0x20000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip
CLONE_THREAD = 0x10000  # without CLONE_SIGHAND it is invalid, so that an unfiltered clone makes no process

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")


def number_of(name: str) -> int:
    """The number of a call, negative where there is none."""
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))


@pytest.fixture
def filters(tmp_path: Path) -> dict[str, Path]:
    """A file with the filter of each profile; the one of `none` is empty."""
    contents = {"default": compile_filter(DEFAULT), "strict": compile_filter(STRICT), "none": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def errors(filter_: Path, calls: Sequence[tuple[int, ...]]) -> list[int]:
    """The errno of each call behind a filter, in a process and session of its own; 0 where it worked."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", INSTALL + CALLS, str(filter_)],
        input=json.dumps(calls), capture_output=True, text=True, check=False, timeout=PATIENCE,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(value) for value in json.loads(done.stdout)]


def execute(filter_: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program behind a filter."""
    arguments = [sys.executable, "-I", "-c", INSTALL + EXECUTE, str(filter_), *command]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_denied_calls_answer_eperm(filters: dict[str, Path], profile: str) -> None:
    """Every listed call is refused behind the filter, and by it: without one the kernel says otherwise."""
    names = " ".join(DENIED.values()).split()
    if profile == "strict":
        names += " ".join(NOT_WHEN_STRICT.values()).split()
    names = [name for name in names if number_of(name) >= 0]
    calls = [(number_of(name), *[NOTHING] * 6) for name in names]
    assert dict(zip(names, errors(filters[profile], calls), strict=True)) == dict.fromkeys(names, errno.EPERM)

    # vhangup takes no argument that would stop it, sync none at all.
    harmless = [name for name in names if name not in {"vhangup", "sync"}]
    bare = errors(filters["none"], [(number_of(name), *[NOTHING] * 6) for name in harmless])
    same = [name for name, error in zip(harmless, bare, strict=True) if error == errno.EPERM]
    assert len(same) < len(harmless) / 10, f"the kernel itself refuses {same}"


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_no_new_namespaces(filters: dict[str, Path], profile: str) -> None:
    """Clone refuses each flag that makes a namespace, and clone3 is missing."""
    clone = number_of("clone")
    calls = [(clone, flag | CLONE_THREAD, 0, 0, 0, 0) for flag in NAMESPACE_FLAGS.values()]
    assert set(errors(filters[profile], calls)) == {errno.EPERM}
    assert set(errors(filters["none"], calls)) == {errno.EINVAL}
    assert errors(filters[profile], [(number_of("clone3"), NOTHING, 88)]) == [errno.ENOSYS]
    assert errors(filters["none"], [(number_of("clone3"), NOTHING, 88)]) == [errno.EFAULT]


def test_families_of_sockets(filters: dict[str, Path]) -> None:
    """Only local, internet and, by default, routing sockets can be made; the others look not compiled in."""
    call = number_of("socket")
    stream, datagram, raw = socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.SOCK_DGRAM, socket.SOCK_RAW
    expected = {
        (socket.AF_UNIX, stream, 0): (0, 0),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0): (0, 0),
        (socket.AF_INET, stream, 0): (0, 0),
        (socket.AF_INET, datagram, socket.IPPROTO_UDP): (0, 0),
        (socket.AF_INET6, stream, socket.IPPROTO_TCP): (0, 0),
        (socket.AF_INET, raw, socket.IPPROTO_ICMP): (0, errno.EPERM),
        (socket.AF_NETLINK, raw, 0): (0, errno.EAFNOSUPPORT),
        (socket.AF_NETLINK, raw, 9): (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT),
        (socket.AF_PACKET, raw, 0): (errno.EAFNOSUPPORT, errno.EAFNOSUPPORT),
        (socket.AF_ALG, socket.SOCK_SEQPACKET, 0): (errno.EAFNOSUPPORT, errno.EAFNOSUPPORT),
        (socket.AF_VSOCK, stream, 0): (errno.EAFNOSUPPORT, errno.EAFNOSUPPORT),
    }
    calls = [(call, *given) for given in expected]
    assert errors(filters["default"], calls) == [default for default, _ in expected.values()]
    assert errors(filters["strict"], calls) == [strict for _, strict in expected.values()]
    assert errors(filters["none"], [(call, socket.AF_PACKET, raw, 0)]) == [0]


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_terminal_injection(filters: dict[str, Path], profile: str) -> None:
    """TIOCSTI and TIOCLINUX are refused before the kernel looks at the descriptor; other requests are not."""
    ioctl = number_of("ioctl")
    refused = [termios.TIOCSTI, termios.TIOCLINUX, 1 << 40 | termios.TIOCSTI]
    allowed = [termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.TIOCCONS, 0x80045430, 0x5411]
    assert set(errors(filters[profile], [(ioctl, NOTHING, code, 0) for code in refused])) == {errno.EPERM}
    assert set(errors(filters[profile], [(ioctl, NOTHING, code, 0) for code in allowed])) == {errno.EBADF}


def test_personality(filters: dict[str, Path]) -> None:
    """Only values that weaken nothing can be set by default, none at all in strict."""
    call = number_of("personality")
    harmless, harmful = [0xFFFFFFFF, 0, 0x8, 0x20000, 0x20008, 0], [0x0040000, 0x0100000, 0x4, 0x0400000]
    assert set(errors(filters["default"], [(call, value) for value in harmless])) == {0}
    assert set(errors(filters["default"], [(call, value) for value in harmful])) == {errno.EPERM}
    assert set(errors(filters["strict"], [(call, value) for value in harmless])) == {errno.EPERM}


def test_device_nodes(filters: dict[str, Path]) -> None:
    """By default mknod makes no devices but may make pipes; in strict it makes nothing."""
    mknodat = number_of("mknodat")
    calls = [
        (mknodat, NOTHING, NOTHING, kind | 0o600, 0) for kind in (0o010000, 0o100000, 0o020000, 0o060000)
    ]
    bad_path, refused = errno.EFAULT, errno.EPERM
    assert errors(filters["default"], calls) == [bad_path, bad_path, refused, refused]
    assert errors(filters["strict"], calls) == [refused] * 4


def test_page_cache_cannot_be_asked(filters: dict[str, Path]) -> None:
    """A read that must not wait is unsupported, as on file systems without it; other reads work."""
    preadv2 = number_of("preadv2")
    calls = [(preadv2, 0, 0, 0, NOTHING, NOTHING, flags) for flags in (0x8, 0)]
    with_flag, without = errors(filters["default"], calls)
    assert with_flag == errno.EOPNOTSUPP
    assert without != errno.EOPNOTSUPP


def test_newer_calls_are_missing(filters: dict[str, Path]) -> None:
    """A number beyond those the profile knows is answered as a kernel without that call does."""
    assert errors(filters["default"], [(1000,)]) == [errno.ENOSYS]


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_x32_is_fatal(filters: dict[str, Path], profile: str) -> None:
    """A call with the number of the x32 architecture ends the process."""
    getpid = json.dumps([[0x40000000 | number_of("getpid")]])
    done = subprocess.run(
        [sys.executable, "-I", "-c", INSTALL + CALLS, str(filters[profile])],
        input=getpid, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == -signal.SIGSYS


I386_CALL = """
int main(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result > 0 ? 0 : 1;
}
"""


def compiled(compiler: str, source: str, place: Path) -> str:
    """A statically linked program."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    program = place / f"program-{compiler}"
    arguments = [compiler, "-static", "-pthread", "-O1", "-x", "c", "-", "-o", str(program)]
    subprocess.run(arguments, input=source, text=True, check=True, timeout=PATIENCE)
    return str(program)


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_i386_is_fatal(filters: dict[str, Path], profile: str, tmp_path: Path) -> None:
    """A call through the gate of the i386 architecture ends the process."""
    program = compiled("gcc", I386_CALL, tmp_path)
    if execute(filters["none"], program).returncode != 0:
        pytest.skip("this kernel has no i386 calls")
    assert execute(filters[profile], program).returncode == -signal.SIGSYS


THREADS_AND_PROCESSES = """
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void *twice(void *number)
{
    *(int *)number *= 2;
    return NULL;
}

int main(void)
{
    int number = 21, status, ends[2];
    pthread_t thread;
    if (pthread_create(&thread, NULL, twice, &number) || pthread_join(thread, NULL))
        return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 2;
    pid_t child = fork();
    if (child == 0)
        _exit(write(ends[1], &number, sizeof(number)) != sizeof(number));
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        return 3;
    if (read(ends[0], &number, sizeof(number)) != sizeof(number))
        return 4;
    FILE *shell = popen("echo started", "r");
    if (!shell || fgetc(shell) != 's' || pclose(shell))
        return 5;
    printf("%d\\n", number);
    return 0;
}
"""


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_threads_and_processes_work(
    filters: dict[str, Path], profile: str, compiler: str, tmp_path: Path
) -> None:
    """Programs of glibc and of musl start threads, children and other programs behind the filter."""
    done = execute(filters[profile], compiled(compiler, THREADS_AND_PROCESSES, tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_shell_works(filters: dict[str, Path], profile: str, tmp_path: Path) -> None:
    """Busybox runs a pipeline with files, links, times and signals."""
    script = """set -e; cd "$1"; echo hello >a; ln -s a b; cp b c; mv c d; chmod 600 d
        touch -t 200001010000 d
        test "$(cat d | tr h j | sort)" = jello; (sleep 30 & kill $!; wait); ls -l >/dev/null; rm a b d
        id -u; df . >/dev/null; ps >/dev/null; date >/dev/null"""
    done = execute(filters[profile], "/bin/busybox", "sh", "-c", script, "sh", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


PYTHON_WORKLOAD = """
import asyncio, concurrent.futures, socket, subprocess, sys, tempfile, threading
async def serve():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"ping\\n")
    assert await reader.readline() == b"ping\\n"
    writer.close()
asyncio.run(serve())
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(abs, range(100))) == 4950
assert subprocess.run([sys.executable, "-I", "-c", "print(1)"], capture_output=True).stdout == b"1\\n"
with tempfile.TemporaryFile() as file:
    file.write(b"x" * 100_000)
print("fine")
"""


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_server_works(filters: dict[str, Path], profile: str) -> None:
    """An event loop with TCP, a pool of threads, a child and temporary files work behind the filter."""
    done = execute(filters[profile], sys.executable, "-I", "-c", PYTHON_WORKLOAD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_kernel_takes_a_foreign_profile(tmp_path: Path) -> None:
    """A profile in OCI's words, for three architectures, is accepted by the kernel and obeyed."""
    document: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {
                "names": ["mkdir", "mkdirat", "unknown_call"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": errno.ESTALE,
            },
            {
                "names": ["umask"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 0o777, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    profile = decode(SeccompProfile, document, "linux.seccomp", [])
    place = tmp_path / "filter"
    place.write_bytes(compile_filter(profile))
    mkdir, umask = number_of("mkdir"), number_of("umask")
    observed = errors(place, [(mkdir, NOTHING, 0), (umask, 0o777), (umask, 0o22)])
    assert observed == [errno.ESTALE, errno.EPERM, 0]
