"""System calls that the harness answers for the kernel, on the real kernel."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from patience import PATIENCE

from pybench.runtime.container import notify
from pybench.runtime.container.cgroup.base import Limits, Usage
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.instance import Instance, Readiness, launch
from pybench.runtime.container.notify import Answer, Handler, Notification
from pybench.runtime.container.profiles import PROFILES, ProfileName, policy_of
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec, stdio_steps
from pybench.runtime.container.seccomp.compile import compile_filter, filter_flags
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import Filter, NoNewPrivileges
from pybench.runtime.container.supervisor import AT_ONCE, INTERVAL, Supervisor
from pybench.runtime.container.system_information import SYS_SYSINFO, SystemInformation
from pybench.runtime.errors import InstanceError, LeftoverError
from pybench.runtime.journal import Journal

MEBIBYTE = 2**20
POLICY = policy_of(PROFILES["default"], supervised=True)
assert POLICY is not None
FILTER = Filter(compile_filter(POLICY), filter_flags(POLICY))

SYSINFO = """
import ctypes, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def sysinfo(address=None):
    buffer = ctypes.create_string_buffer(112)
    if libc.syscall(99, buffer if address is None else ctypes.c_void_p(address)) == 0:
        return struct.unpack("=q3Q6QHH4x2QI4x", buffer)
    return ctypes.get_errno()
"""
PROBE = """
#include <errno.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>
int main(void)
{
    struct sysinfo seen = {0};
    int error = sysinfo(&seen) ? errno : 0;
    printf("%d %ld %lu ", error, seen.uptime, seen.loads[0]);
    printf("%lu %lu %u ready\\n", seen.totalram, seen.freeram, seen.procs);
    fflush(stdout);
    pause();
}
"""
FIELDS = ("uptime", "load1", "load5", "load15", "total", "free", "shared", "buffer", "swap", "free_swap",
          "processes", "padding", "high", "free_high", "unit")  # fmt: skip


@pytest.fixture
def spawner(journal: Journal) -> Iterator[Spawner]:
    """A spawner of the test's own."""
    with Spawner(journal) as opened:
        yield opened


def start(spawner: Spawner, place: int, script: str, line: str | None = None) -> Instance:
    """The harness's own interpreter behind the filter of `default`, in no namespace of its own."""
    program = Program.compile(
        (
            NoNewPrivileges(),
            *stdio_steps(marking=False),
            FILTER,
        ),
        (sys.executable, "-I", "-c", SYSINFO + script),
        {},
        0,
    )
    readiness = Readiness(marking=False, line=line)
    return spawner.call(lambda: launch(spawner, program, readiness, PATIENCE, listener=place))


def ask(spawner: Spawner, handlers: Mapping[int, Handler], script: str = "print(sysinfo())") -> str:
    """What a script prints whose calls are answered by these handlers."""
    with spawner.supervisor.answering(handlers) as place:
        return finish(start(spawner, place, script))


def finish(instance: Instance) -> str:
    """What it has printed when it has ended."""
    try:
        assert instance.wait(PATIENCE)
    finally:
        instance.kill()
        instance.release()
    return instance.tail.text.strip()


def usage(memory: int | None, pids: int | None) -> Callable[[], Usage]:
    """A control group's figures."""
    return lambda: Usage(memory, None, None, None, pids, None, None, None)


def facts(text: str) -> dict[str, int]:
    """The fields of a printed struct sysinfo."""
    return dict(zip(FIELDS, map(int, text.strip("()").split(", ")), strict=True))


def test_a_container_hears_of_its_own_limits_and_use(spawner: Spawner) -> None:
    """Memory is the limit, free what is not charged, processes the group's; loads and swap tell nothing."""
    information = SystemInformation(Limits(memory=64 * MEBIBYTE), usage(10 * MEBIBYTE, 7))
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    seen = facts(ask(spawner, information.handlers()))
    assert before - 2 <= seen.pop("uptime") <= time.clock_gettime(time.CLOCK_BOOTTIME) + 2
    assert seen.pop("total") == 64 * MEBIBYTE
    assert seen.pop("free") == 54 * MEBIBYTE
    assert (seen.pop("processes"), seen.pop("unit")) == (7, 1)
    assert set(seen.values()) == {0}


def test_without_a_limit_the_hosts_use_stays_hidden(spawner: Spawner) -> None:
    """The host's memory is the bound then, but nothing in the answer moves with what others use."""
    seen = facts(ask(spawner, SystemInformation(Limits(), None).handlers()))
    assert seen["total"] == seen["free"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert seen["processes"] == 1


@pytest.mark.parametrize("address", ["0", "1 << 40", "2**63 + 4096", "2**64 - 8"])
def test_a_bad_pointer_is_the_callers_own_fault(spawner: Spawner, address: str) -> None:
    """An address that cannot be written answers EFAULT, as the kernel would, and the next call works."""
    handlers = SystemInformation(Limits(memory=MEBIBYTE), None).handlers()
    script = f"print(sysinfo({address})); print(len(sysinfo()))"
    assert ask(spawner, handlers, script).split() == [str(errno.EFAULT), str(len(FIELDS))]


def test_a_call_before_readiness_does_not_deadlock(spawner: Spawner) -> None:
    """The listener is in place before the harness waits for the line that says ready."""
    handlers = SystemInformation(Limits(memory=MEBIBYTE), None).handlers()
    with spawner.supervisor.answering(handlers) as place:
        instance = start(spawner, place, "print('ready', len(sysinfo()))", line="ready")
        assert finish(instance) == f"ready {len(FIELDS)}"


def test_a_call_without_a_handler_is_not_implemented(spawner: Spawner) -> None:
    """What is handed over and not known answers ENOSYS."""
    assert ask(spawner, {}) == str(errno.ENOSYS)


def test_a_handler_that_fails_ends_nothing_else(spawner: Spawner) -> None:
    """A control group that vanished makes that one call fail; the next container is answered."""

    def vanished(_call: Notification) -> Answer:
        raise FileNotFoundError(errno.ENOENT, "gone")

    assert ask(spawner, {SYS_SYSINFO: vanished}) == str(errno.EAGAIN)
    assert ask(spawner, {SYS_SYSINFO: lambda _call: Answer(value=0, error=errno.EXDEV)}) == str(errno.EXDEV)


def test_the_memory_of_a_caller_that_died_is_not_written(spawner: Spawner) -> None:
    """A caller killed before its answer is forgotten, and the supervisor goes on."""

    def kill(call: Notification) -> Answer:
        os.kill(call.thread, signal.SIGKILL)
        time.sleep(0.05)
        return Answer(memory=((call.arguments[0], b"x" * 8),))

    with spawner.supervisor.answering({SYS_SYSINFO: kill}) as place:
        instance = start(spawner, place, "sysinfo(); print('survived')")
        assert finish(instance) == ""
        assert instance.status == -signal.SIGKILL
    assert ask(spawner, {}) == str(errno.ENOSYS)


def test_threads_are_answered_each_in_its_own_memory(spawner: Spawner) -> None:
    """Calls of several threads and of children reach the right caller."""
    script = """
import os, threading
seen = []
threads = [threading.Thread(target=lambda: seen.append(sysinfo()[4])) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if os.fork() == 0:
    print("child", sysinfo()[4], flush=True); os._exit(0)
os.wait()
print(set(seen), len(seen))
"""
    handlers = SystemInformation(Limits(memory=MEBIBYTE), None).handlers()
    assert ask(spawner, handlers, script).splitlines() == [f"child {MEBIBYTE}", f"{{{MEBIBYTE}}} 8"]


def test_who_asks_without_a_pause_waits_and_holds_up_nobody(spawner: Spawner) -> None:
    """Beyond its share a container is answered at its pace; another one meanwhile at once."""
    handlers = SystemInformation(Limits(memory=MEBIBYTE), None).handlers()
    calls = AT_ONCE + 200
    greedy = f"""
print("begun", flush=True)
begun = time.monotonic()
for _ in range({calls}): sysinfo()
print(time.monotonic() - begun)
"""
    with spawner.supervisor.answering(handlers) as first, spawner.supervisor.answering(handlers) as second:
        instance = start(spawner, first, greedy, line="begun")
        # The quickest of some: a busy host delays any.
        script = """
def taken():
    begun = time.monotonic(); sysinfo()
    return time.monotonic() - begun
print(min(taken() for _ in range(5)))
"""
        modest = float(finish(start(spawner, second, script)))
        elapsed = float(finish(instance).removeprefix("begun"))
    assert elapsed >= 199 * INTERVAL
    assert modest < elapsed / 3


def test_an_ended_container_costs_nothing(spawner: Spawner) -> None:
    """Its hung-up listener is let go of at once, rather than reported without end."""

    def used() -> float:
        ticks = 0
        for thread in Path("/proc/self/task").iterdir():
            if (thread / "comm").read_text(encoding="ascii").startswith("pybench-superv"):
                fields = (thread / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    with spawner.supervisor.answering({}) as place:
        finish(start(spawner, place, "print(sysinfo())"))
        before = used()
        time.sleep(0.4)
        assert used() - before < 0.1


def test_a_container_left_behind_is_reported() -> None:
    """Ending the supervisor under a container is an error that says so."""
    supervisor = Supervisor()
    supervisor.__enter__()
    place = supervisor.answering({})
    place.__enter__()
    with pytest.raises(LeftoverError, match="1 containers"):
        supervisor.__exit__(None, None, None)
    place.__exit__(None, None, None)


def test_an_answer_that_hangs_is_reported(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop does not wait for ever for an answer under way."""
    monkeypatch.setattr("pybench.runtime.container.supervisor.PATIENCE", 0.1)
    asked, let_go = threading.Event(), threading.Event()

    def hang(_call: Notification) -> Answer:
        asked.set()
        let_go.wait(PATIENCE)
        return Answer(error=errno.EXDEV)

    answering = spawner.supervisor.answering({SYS_SYSINFO: hang})
    instance = start(spawner, answering.__enter__(), "print(sysinfo())")
    assert asked.wait(PATIENCE)
    with pytest.raises(LeftoverError, match="does not finish"):
        answering.__exit__(None, None, None)
    let_go.set()
    # The call under way is answered, or a later one not implemented; it does not hang with the thread.
    assert finish(instance) in {str(errno.EXDEV), str(errno.ENOSYS)}


def test_a_program_that_cannot_be_executed_leaves_no_listener(spawner: Spawner) -> None:
    """A child that fails after its filter is in force is reported as ever, and its listener is closed."""
    steps = (NoNewPrivileges(), FILTER)
    program = Program.compile(steps, ("/nowhere",), {}, 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with spawner.supervisor.answering({}) as place, pytest.raises(InstanceError, match="execve /nowhere"):
        spawner.call(
            lambda: launch(spawner, program, Readiness(marking=False, line=None), PATIENCE, listener=place)
        )
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root filesystem with one program, which prints what sysinfo(2) says before it is ready."""
    root = tmp_path / "rootfs"
    for name in ("proc", "dev", "tmp", "run"):
        (root / name).mkdir(parents=True)
    source = tmp_path / "probe.c"
    source.write_text(PROBE, encoding="ascii")
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", str(root / "probe"), str(source)], check=True)
    return root


def container_says(journal: Journal, rootfs: Path, profile: ProfileName) -> tuple[list[int], dict[str, str]]:
    """The numbers a container's probe prints, and the sandbox's qualifiers."""
    spec = SandboxSpec(
        rootfs,
        ("/probe",),
        {},
        Readiness(marking=False, line="ready"),
        Limits(memory=64 * MEBIBYTE, pids=32),
        profile=profile,
    )
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        output = container.output
        container.stop(0.1)
        return [int(word) for word in output.split()[:-1]], sandbox.qualifiers


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_real_container_hears_of_itself(journal: Journal, rootfs: Path, profile: ProfileName) -> None:
    """Every confined profile tells its group's limit, charge and processes, and a clock of its own."""
    begun = time.monotonic()
    (error, uptime, load, total, free, processes), qualifiers = container_says(journal, rootfs, profile)
    assert (error, load, total) == (0, 0, 64 * MEBIBYTE)
    # On version 1 the spawning thread is in the group until the container is ready.
    assert 1 <= processes <= 2
    assert 1 <= uptime <= time.monotonic() - begun + 2
    assert 60 * MEBIBYTE < free < total
    assert "sysinfo" not in qualifiers


def test_the_privileged_profile_hears_of_the_host(journal: Journal, rootfs: Path) -> None:
    """The control of the test above: without a filter the kernel tells the host's memory and processes."""
    (error, _, _, total, _, processes), _ = container_says(journal, rootfs, "privileged")
    assert error == 0
    assert total > 64 * MEBIBYTE
    assert processes > 10


def test_without_a_supervisor_it_is_said(
    journal: Journal, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no listener can be made the kernel answers `default`, `strict` is refused, and samples say so."""
    monkeypatch.setattr(notify, "unavailable", lambda: "for this test")
    (error, *_), qualifiers = container_says(journal, rootfs, "default")
    assert (error, qualifiers["sysinfo"]) == (0, "host")
    (error, *_), qualifiers = container_says(journal, rootfs, "strict")
    assert (error, qualifiers["sysinfo"]) == (errno.EPERM, "refused")
