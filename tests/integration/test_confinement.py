"""What stops a container's process on the real kernel: Landlock scopes, and the cover of our executable."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until

from pybench.runtime.container.assembly.process import right_steps
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.instance import Instance, Readiness, launch
from pybench.runtime.container.landlock import SCOPES, available_scopes, scope_steps
from pybench.runtime.container.profiles import PROFILES, ProfileName
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec, stdio_steps
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import (
    Attach,
    BoundingSet,
    Capabilities,
    HideExecutable,
    MakeFilesystem,
    NoNewPrivileges,
    Scopes,
    Step,
    WaitForMaps,
)
from pybench.runtime.container.specification.model import Process
from pybench.runtime.container.system_calls import CLONE_NEWNS, CLONE_NEWPID
from pybench.runtime.errors import InstanceError
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

PROC_SLOT = 5

REACH_OUT = """
import os, socket, sys
def errno_of(attempt):
    try:
        attempt()
    except OSError as error:
        return error.errno
    return 0
with socket.socket(socket.AF_UNIX) as line:
    print(errno_of(lambda: line.connect("\\0" + sys.argv[1])), errno_of(lambda: os.kill(int(sys.argv[2]), 0)))
child = os.fork()
if child == 0:
    os._exit(0)
print(errno_of(lambda: os.kill(child, 0)))
"""

OPEN_EXECUTABLES = """
import functools, os, time
print = functools.partial(print, flush=True)
print("watching")
def try_all():
    outcomes = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (1, os.getpid()):
            try:
                executable = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
                outcomes.add("opened " + os.readlink(f"/proc/self/fd/{executable}"))
            except FileNotFoundError:
                pass
            except PermissionError:
                outcomes.add("refused")
    return outcomes
seen, now = set(), set()
while now or not seen:
    time.sleep(0.005)
    now = try_all()
    seen |= now
# At first it still had its capabilities, and nobody without them could look at it.
print(*(seen - {"refused"} or seen))
time.sleep(60)
"""


THREE_SPAWNERS = """
import ctypes, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pybench.runtime.container.identity import IdentityMap
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import HideExecutable, WaitForMaps
from pybench.runtime.container.system_calls import CLONE_NEWUSER
from pybench.runtime.journal import open_journal
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
identity = IdentityMap("0 65534 1", "0 65534 1", deny_setgroups=True)
def start_many(spawner):
    program = Program.compile((WaitForMaps(), HideExecutable()), ("/bin/true",), {}, CLONE_NEWUSER)
    for _ in range(40):
        spawned = spawner.call(lambda: spawner.spawn(
            program, descriptors=(), watched=(), awaited=0, timeout=120, identity=identity))
        os.waitid(os.P_PIDFD, spawned.pidfd, os.WEXITED)
        os.close(spawned.pidfd)
with open_journal(Path(sys.argv[1])) as journal, ThreadPoolExecutor(4) as threads:
    with Spawner(journal) as first, Spawner(journal) as second, Spawner(journal) as third:
        list(threads.map(start_many, (first, second, third)))
print("started", ctypes.CDLL(None).prctl(3))
"""


@pytest.fixture
def spawner(journal: Journal) -> Iterator[Spawner]:
    """A spawner of the test's own."""
    with Spawner(journal) as opened:
        yield opened


@pytest.fixture
def outside() -> Iterator[tuple[str, str]]:
    """The name of an abstract socket and the pid of a process, both of the host."""
    name = f"pybench-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as line, subprocess.Popen(["sleep", "60"]) as process:
        line.bind("\0" + name)
        line.listen()
        yield name, str(process.pid)
        process.kill()


def python(*steps: Step, script: str, arguments: tuple[str, ...] = (), namespaces: int = 0) -> Program:
    """The harness's own interpreter after some steps, without a root of its own."""
    command = (sys.executable, "-I", "-c", script, *arguments)
    return Program.compile((*steps, *stdio_steps(marking=False)), command, {}, namespaces)


def output_of(spawner: Spawner, program: Program) -> str:
    """What a program prints until it ends."""
    instance = spawner.call(lambda: launch(spawner, program, Readiness(marking=False, line=None), PATIENCE))
    return finish(instance)


def finish(instance: Instance) -> str:
    """What it has printed when it has ended."""
    try:
        assert instance.wait(PATIENCE)
    finally:
        instance.kill()
        instance.release()
    return instance.tail.text


def reach_out(spawner: Spawner, outside: tuple[str, str], *steps: Step) -> list[int]:
    """The errors of connecting to a socket, signalling a process, and signalling a child of its own."""
    program = python(*steps, script=REACH_OUT, arguments=outside)
    return [int(word) for word in output_of(spawner, program).split()]


def test_no_socket_and_no_process_outside_is_reached(spawner: Spawner, outside: tuple[str, str]) -> None:
    """In the host's own network and pid namespaces a confined process reaches its own kind alone."""
    process = Process(args=("/bin/true",), cwd="/", no_new_privileges=True)
    steps = (*right_steps(process, None)[0], *scope_steps())
    assert reach_out(spawner, outside, *steps) == [1, 1, 0]
    assert reach_out(spawner, outside, *(step for step in steps if not isinstance(step, Scopes))) == [0, 0, 0]


@pytest.mark.parametrize(
    ("scope", "expected"), [("abstract unix sockets", [1, 0, 0]), ("signals", [0, 1, 0])]
)
def test_each_scope_stops_its_own_kind(
    spawner: Spawner, outside: tuple[str, str], scope: str, expected: list[int]
) -> None:
    """One scope confines one kind of access and nothing else."""
    assert reach_out(spawner, outside, NoNewPrivileges(), Scopes(SCOPES[scope])) == expected


def test_scopes_are_found_by_trying() -> None:
    """This kernel has both scopes, and the steps ask for exactly those."""
    assert available_scopes() == tuple(SCOPES)
    assert scope_steps() == (Scopes(0b11),)


def test_an_unknown_scope_is_named(spawner: Spawner) -> None:
    """A scope that the kernel does not have fails in a step that names the call."""
    with pytest.raises(InstanceError, match=r"landlock_create_ruleset .* failed: Invalid argument"):
        output_of(spawner, python(NoNewPrivileges(), Scopes(1 << 40), script=""))


def joined(spawner: Spawner, *hiding: Step) -> str:
    """What a process without privileges finds when another of its user joins its pid namespace.

    The one that joins waits just before its execve, until its time is over: on a busy host the other may
    not have looked by then, so the next one gets more. Both are root without capabilities, so that no
    change of identity hides the second one as a side effect.
    """
    private_proc = (MakeFilesystem(PROC_SLOT, "proc"), Attach(PROC_SLOT, "/proc"))
    watcher = python(
        *private_proc,
        BoundingSet(),
        Capabilities(),
        script=OPEN_EXECUTABLES,
        namespaces=CLONE_NEWPID | CLONE_NEWNS,
    )
    joiner = Program.compile(
        (WaitForMaps(), *hiding, BoundingSet(), Capabilities(), WaitForMaps()), ("/bin/true",), {}, 0
    )
    ready = Readiness(marking=False, line="watching")
    instance = spawner.call(lambda: launch(spawner, watcher, ready, PATIENCE))

    def join(seconds: float) -> None:
        with Path("/proc/thread-self/ns/pid_for_children").open("rb") as own:
            enter(instance.pidfd)
            try:
                spawner.spawn(joiner, descriptors=(), watched=(), awaited=0, timeout=seconds)
            finally:
                enter(own.fileno())

    for seconds in (1, 5, 25):
        with pytest.raises(InstanceError, match="not complete in time"):
            spawner.call(functools.partial(join, seconds))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: instance.tail.text.count("\n") == 2, 5 * seconds)
            break
    instance.kill()
    return finish(instance).removeprefix("watching\n")


def enter(namespace: int) -> None:
    """Have the children of this thread in another pid namespace."""
    assert ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWPID) == 0


def test_our_executable_cannot_be_opened_before_execve(spawner: Spawner) -> None:
    """Whoever is in the pid namespace already cannot get at the interpreter through /proc (CVE-2019-5736)."""
    assert joined(spawner) == f"opened {Path(sys.executable).resolve()}\n"
    assert joined(spawner, HideExecutable()) == "refused\n"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_hides_it(journal: Journal, image: Image, profile: ProfileName) -> None:
    """Also without a user namespace: a pid namespace that is joined has processes in it already."""
    spec = SandboxSpec(image.rootfs, ("/bin/true",), {}, Readiness(marking=False, line=None), profile=profile)
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        assert sandbox._program is not None
        kinds = [type(step) for step in sandbox._program.steps]
    # Nothing before it makes the child anything like the container's processes.
    assert kinds[kinds.index(WaitForMaps) + 1] is HideExecutable


def test_we_stay_hidden_while_any_child_shares_our_memory(journal: Journal) -> None:
    """A start that ends does not uncover another thread's child; after the last one we are as before."""
    get_dumpable = 3
    libc = ctypes.CDLL(None)
    waiting = Program.compile((WaitForMaps(), HideExecutable(), WaitForMaps()), ("/bin/true",), {}, 0)
    quick = Program.compile((WaitForMaps(), HideExecutable()), ("/bin/true",), {}, 0)
    assert libc.prctl(get_dumpable) == 1
    with Spawner(journal) as first, Spawner(journal) as second:
        # On a busy host the first child's time may be over before the second one has come and gone.
        for seconds in (1, 5, 25):
            future = first._thread.submit(
                functools.partial(
                    first.spawn, waiting, descriptors=(), watched=(), awaited=0, timeout=seconds
                )
            )
            while libc.prctl(get_dumpable) and not future.done():
                time.sleep(0.01)
            spawned = second.call(
                lambda: second.spawn(quick, descriptors=(), watched=(), awaited=0, timeout=PATIENCE)
            )
            dumpable, in_time = libc.prctl(get_dumpable), not future.done()
            os.waitid(os.P_PIDFD, spawned.pidfd, os.WEXITED)
            os.close(spawned.pidfd)
            with pytest.raises(InstanceError, match="not complete in time"):
                future.result()
            if in_time and not dumpable:
                break
        assert (in_time, dumpable) == (True, 0)
    assert libc.prctl(get_dumpable) == 1


def test_an_ordinary_users_starts_do_not_hide_one_another() -> None:
    """Threads that start programs at the same time can each write the id maps of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        command = [sys.executable, "-c", THREE_SPAWNERS, folder]
        finished = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd="/"
        )
    assert finished.stdout == "started 1\n", finished.stderr


def test_every_executable_inside_is_the_images_own(journal: Journal, image: Image) -> None:
    """No /proc/<pid>/exe of a container leads to a file of the host, and none can be opened for writing."""
    script = (
        "for exe in /proc/[0-9]*/exe; do readlink $exe; done; (: >> /proc/1/exe); echo finished; sleep 60"
    )
    spec = SandboxSpec(
        image.rootfs, ("/bin/sh", "-c", script), {"PATH": "/bin"}, Readiness(marking=False, line="finished")
    )
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        # Seen from the host: what runs is the image's file, on a mount that nobody can write to.
        inside = identity_of(Path(f"/proc/{container.pid}/exe"))
        output = container.output
        container.stop(0.1)
    executables = [line for line in output.splitlines() if line.startswith("/") and ":" not in line]
    assert executables
    assert all((image.rootfs / name.lstrip("/")).exists() for name in executables)
    assert inside == identity_of(image.rootfs / executables[0].lstrip("/"))
    assert "Read-only file system" in output or "Text file busy" in output


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode of a file."""
    state = path.stat()
    return state.st_dev, state.st_ino
