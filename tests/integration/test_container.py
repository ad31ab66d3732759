"""Our container on the real kernel: facts are read back from /proc, inside and outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until

from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.cgroup.detect import NoGroups, detect
from pybench.runtime.container.container import Container
from pybench.runtime.container.identity import FIRST_ID, RANGE_SIZE, reserve
from pybench.runtime.container.instance import Readiness
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.container.network.pool import NetworkPool
from pybench.runtime.container.profiles import ProfileName
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.errors import InstanceError
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

MEBIBYTE = 2**20
LIMITS = Limits(memory=64 * MEBIBYTE, cpus=0.5, pids=32)
READY = ("/bin/workload", "ready")


@contextmanager
def running(
    journal: Journal,
    image: Image,
    command: Sequence[str] = READY,
    *,
    limits: Limits = LIMITS,
    line: str | None = "ready",
) -> Iterator[Container]:
    """A container that is ready."""
    marking = command[0] in image.marking
    spec = SandboxSpec(
        image.rootfs,
        tuple(command),
        {"PATH": "/bin", "COLOUR": "green"},
        Readiness(marking, line),
        limits,
        "box",
    )
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        try:
            yield container
        finally:
            container.stop(2)


def say(journal: Journal, image: Image, script: str) -> str:
    """What a shell script prints inside a container."""
    command = ("/bin/sh", "-c", f"{script}\necho finished; sleep 60")
    with running(journal, image, command, line="finished") as container:
        return container.output.removesuffix("finished\n")


def test_marks_are_in_order(journal: Journal, image: Image) -> None:
    """Every mark is there, in time order, the first instruction seen through the mark pipe."""
    with running(journal, image) as container:
        pass
    names = [mark.name for mark in container.marks]
    before, after = names[: names.index("exec")], names[names.index("exec") :]
    assert before == ["preparing", "request", "clone", "identity", "sandbox"]
    assert after == ["exec", "ready", "stopping", "stopped"]
    instants = [mark.at for mark in container.marks]
    assert instants == sorted(instants)
    channels = {mark.name: mark.channel for mark in container.marks}
    assert channels["exec"] == "workload-clock"
    assert channels["ready"] == "workload-clock"


def test_every_namespace_is_its_own(journal: Journal, image: Image) -> None:
    """None of the eight namespaces is the host's."""
    with running(journal, image) as container:
        for name in ("user", "pid", "mnt", "net", "uts", "ipc", "cgroup", "time"):
            inside = Path(f"/proc/{container.pid}/ns/{name}").readlink()
            assert inside != Path(f"/proc/self/ns/{name}").readlink(), name


def test_root_is_not_the_hosts_root(journal: Journal, image: Image) -> None:
    """Uid 0 inside is an id of the reserved range outside, with no capability and no way to get one."""
    with running(journal, image) as container:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{container.pid}/status").read_text(encoding="utf-8").splitlines()
            if ":\t" in line
        )
    for field in ("Uid", "Gid"):
        assert all(FIRST_ID <= int(number) < FIRST_ID + 4096 * RANGE_SIZE for number in status[field].split())
    assert status["Groups"].strip() == ""
    for capability_set in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capability_set], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert int(status["SigIgn"], 16) == 0
    assert int(status["SigBlk"], 16) == 0


def test_it_sees_only_its_own_processes(journal: Journal, image: Image) -> None:
    """Its first process is pid 1 and /proc shows no process of the host."""
    seen = say(journal, image, "for entry in /proc/[0-9]*; do echo ${entry#/proc/}; done; cat /proc/1/comm")
    *pids, name = seen.split()
    assert "1" in pids
    assert all(int(pid) < 10 for pid in pids)
    assert name == "sh"


def test_its_files_are_the_images_and_read_only(journal: Journal, image: Image) -> None:
    """The image is the root, owned by the container's root, and cannot be written, not even by it."""
    seen = say(
        journal,
        image,
        "stat -c '%u:%g' /bin/busybox; ls -d /home 2>&1; touch /bin/x /etc/hosts 2>&1;"
        "mount -o remount,rw / 2>&1; touch /tmp/ok && echo writable",
    )
    assert "0:0" in seen
    assert "No such file" in seen
    assert seen.count("Read-only file system") == 2
    assert "writable" in seen
    assert "mount: permission denied" in seen
    assert not (image.rootfs / "tmp" / "ok").exists()


def test_the_hosts_root_is_out_of_reach(journal: Journal, image: Image) -> None:
    """No mount inside leads to the host's tree, and climbing ends at the image's root."""
    seen = say(journal, image, "stat -c %d:%i /; stat -c %d:%i /../../..; cat /proc/self/mountinfo")
    root, above, mounts = seen.split("\n", 2)
    assert root == above
    points = {line.split()[4] for line in mounts.splitlines()}
    masks = {point for point in points if point.startswith("/proc/")}
    files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    assert points - masks - files == {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/run"}
    assert "/proc/sys" in masks


def test_devices_are_the_minimum(journal: Journal, image: Image) -> None:
    """/dev holds the six harmless nodes, the private pseudo-terminals and nothing else."""
    seen = say(
        journal, image, "ls /dev; echo x > /dev/null && head -c 4 /dev/urandom | wc -c; touch /dev/x 2>&1"
    )
    names = set(seen.split("4\n")[0].split())
    assert names == {
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    }
    assert "Read-only file system" in seen


def test_it_gets_nothing_of_the_harness(journal: Journal, image: Image) -> None:
    """Its environment is the workload's, its descriptors are 0 to 2, its host name and uptime its own."""
    begun = time.monotonic()
    descriptor = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        seen = say(
            journal,
            image,
            "echo env; tr '\\0' '\\n' < /proc/1/environ; echo fds; ls /proc/1/fd;"
            "echo rest; hostname; cut -d. -f1 /proc/uptime",
        )
    finally:
        os.close(descriptor)
    environment = seen.split("env\n")[1].split("fds\n")[0].split()
    assert sorted(environment) == ["COLOUR=green", "PATH=/bin"]
    assert seen.split("fds\n")[1].split("rest\n")[0].split() == ["0", "1", "2"]
    host_name, uptime = seen.split("rest\n")[1].split()
    assert host_name == "box"
    assert int(uptime) <= time.monotonic() - begun + 2


def test_only_loopback_and_it_is_up(journal: Journal, image: Image) -> None:
    """The network namespace has lo alone, with its address."""
    seen = say(journal, image, "ls /sys 2>/dev/null; cat /proc/net/dev | tail -n +3; ip addr show lo")
    assert seen.count(":") >= 1
    assert "127.0.0.1/8" in seen
    assert "eth" not in seen


def test_limits_are_held_by_the_kernel(journal: Journal, image: Image) -> None:
    """The control group carries the limits, holds every process, and is gone afterwards."""
    with running(journal, image) as container:
        group = container.group
        assert group is not None
        assert container.pid in group.processes()
        text = " ".join(
            path.read_text(encoding="ascii")
            for directory in group.directories
            for path in directory.iterdir()
            if path.name in {"memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max"}
        )
        assert str(64 * MEBIBYTE) in text.split()
        assert "32" in text.split()
        assert "50000" in text.split()
        charged = container.memory_charged
        assert charged is not None
        assert 0 < charged < 64 * MEBIBYTE
    assert not any(directory.exists() for directory in group.directories)


def test_a_memory_hog_is_killed_inside(journal: Journal, image: Image) -> None:
    """Beyond the memory limit the kernel kills inside the container, and that is counted as such."""
    hog = ("/bin/sh", "-c", "echo ready; tail -c 200m /dev/zero > /dev/null; sleep 60")
    with running(journal, image, hog, limits=Limits(memory=16 * MEBIBYTE, pids=32)) as container:
        wait_until(lambda: container.out_of_memory_kills >= 1)


def test_a_fork_bomb_hits_its_own_ceiling(journal: Journal, image: Image) -> None:
    """Forks beyond the pids limit fail inside; the container is then removed like any other."""
    bomb = ("/bin/sh", "-c", "i=0; while [ $i -lt 64 ]; do sleep 60 & i=$((i+1)); done; echo ready; wait")
    with running(journal, image, bomb, limits=Limits(pids=16), line="ork") as container:
        assert len(container.processes) <= 16
        assert "Resource temporarily unavailable" in container.output


def test_stop_kills_what_ignores_the_request(journal: Journal, image: Image) -> None:
    """A workload that ignores SIGTERM is killed after the grace period, descendants included."""
    with running(journal, image, ("/bin/workload", "stubborn")) as container:
        begun = time.monotonic()
        container.stop(0.2)
        assert time.monotonic() - begun >= 0.2
        assert container.status == -signal.SIGKILL
        assert not Path(f"/proc/{container.pid}").exists()


def test_stop_is_polite_first(journal: Journal, image: Image) -> None:
    """A workload that heeds SIGTERM ends with its own exit code, within the grace period."""
    with running(journal, image) as container:
        container.stop(PATIENCE)
        assert container.status == 0
        container.stop(PATIENCE)


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        (("/bin/nothing",), None, "execve /bin/nothing failed: No such file"),
        (("/etc",), None, "execve /etc failed: Is a directory"),
        (("/etc/passwd",), None, "execve /etc/passwd failed: Permission denied"),
        (("/bin/workload", "exit", "3"), "ready", "ended before it was ready (exit code 3)"),
        (("/bin/workload", "silent"), "ready", "not ready after 0.5 s"),
        (("/bin/workload", "flood"), "never", "not ready after 0.5 s"),
    ],
)
def test_what_cannot_become_ready_says_why(
    journal: Journal, image: Image, command: tuple[str, ...], line: str | None, message: str
) -> None:
    """A command that is missing, no program, ends early, stays silent or floods gives one clear error."""
    spec = SandboxSpec(image.rootfs, command, {}, Readiness(command[0] in image.marking, line), LIMITS)
    with (
        Spawner(journal) as spawner,
        Sandbox(spawner, detect(), spec) as sandbox,
        pytest.raises(InstanceError) as caught,
    ):
        sandbox.start(0.5)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo bye; exit 7", "ended before it was ready (exit code 7)"),
        ("echo bye; exec >&- 2>&-; sleep 1000", "closed its output before it was ready, and goes on"),
    ],
)
def test_what_can_print_no_line_any_more_is_not_waited_for(
    journal: Journal, image: Image, script: str, message: str
) -> None:
    """The reason is that it has ended, however long after its output, or that it lives on without one."""
    spec = SandboxSpec(image.rootfs, ("/bin/sh", "-c", script), {}, Readiness(False, "ready"), LIMITS)
    with (
        Spawner(journal) as spawner,
        Sandbox(spawner, detect(), spec) as sandbox,
        pytest.raises(InstanceError) as caught,
    ):
        sandbox.start(1000)
    assert message in caught.value.message


def test_a_flood_is_bounded_and_does_not_block(journal: Journal, image: Image) -> None:
    """A workload that prints without end keeps running, and only the last of it is kept."""
    flood = ("/bin/sh", "-c", "echo ready; yes flooding | head -c 4000000; echo finished; sleep 60")
    with running(journal, image, flood) as container:
        wait_until(lambda: "finished" in container.output)
        assert container.output.endswith("finished\n")
        assert len(container.output) <= 16 * 1024


def test_two_at_once_have_disjoint_ids() -> None:
    """Two containers alive at the same time never share a host id."""
    with reserve() as first, reserve() as second:
        assert first.uid_map is not None
        assert second.uid_map is not None
        starts = sorted(int(text.split()[1]) for text in (first.uid_map, second.uid_map))
    assert starts[1] - starts[0] >= RANGE_SIZE


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_many_in_a_row_leave_nothing(journal: Journal, image: Image) -> None:
    """Thirty starts and stops from one sandbox leave no process, descriptor, group or journal entry."""
    spec = SandboxSpec(image.rootfs, READY, {}, Readiness(marking=True, line="ready"), LIMITS)
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        sandbox.start(PATIENCE).stop(2)
        before = open_descriptors()
        entries = len(journal.entries)
        for _ in range(30):
            sandbox.start(PATIENCE).stop(2)
        assert open_descriptors() == before
        assert len(journal.entries) == entries


KILLED_HARNESS = """
    import sys, time
    from pathlib import Path
    from pybench.runtime.container.cgroup.detect import detect
    from pybench.runtime.container.instance import Readiness
    from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
    from pybench.runtime.container.spawn.spawner import Spawner
    from pybench.runtime.journal import open_journal
    with open_journal() as journal, Spawner(journal) as spawner:
        spec = SandboxSpec(Path(sys.argv[1]), ("/bin/workload", "stubborn"), {}, Readiness(True, "ready"))
        with Sandbox(spawner, detect(), spec) as sandbox:
            container = sandbox.start(120)
            print(container.pid, flush=True)
            time.sleep(60)
"""


def test_a_killed_harness_takes_its_containers_with_it(image: Image) -> None:
    """SIGKILL of the harness ends the container at once; `clean` removes the rest."""
    harness = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_HARNESS), str(image.rootfs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with harness:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        harness.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    cleaned = subprocess.run(
        [str(Path(sys.executable).with_name("pybench")), "clean"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "removed control group" in cleaned.stdout


def test_without_control_groups_the_degradation_is_said(journal: Journal, image: Image) -> None:
    """Where no group can be made the container still runs, and its qualifiers say what it lacks."""
    spec = SandboxSpec(image.rootfs, READY, {}, Readiness(marking=True, line="ready"), LIMITS)
    with Spawner(journal) as spawner, Sandbox(spawner, NoGroups("for this test"), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        try:
            assert container.memory_charged is None
            assert container.processes == (container.pid,)
        finally:
            container.stop(2)
        assert sandbox.qualifiers["limits"] == "without memory, cpu, pids"


CURIOUS = (
    "for file in /proc/keys /proc/kallsyms /proc/key-users /proc/cmdline;"
    "do { wc -c < $file; } 2>/dev/null || echo absent; done;"
    "ls /proc/acpi 2>/dev/null | wc -l; { echo x > /proc/sys/kernel/hostname; } 2>/dev/null || echo refused;"
    "grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status;"
    "unshare -U true 2>/dev/null || echo no user namespace"
)


def ask(journal: Journal, image: Image, profile: ProfileName) -> tuple[str, dict[str, str]]:
    """What a curious script finds out under a profile, and the profile's qualifiers."""
    command = ("/bin/sh", "-c", f"{CURIOUS}; echo finished; sleep 60")
    readiness = Readiness(marking=False, line="finished")
    spec = SandboxSpec(image.rootfs, command, {"PATH": "/bin"}, readiness, LIMITS, "box", profile)
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        try:
            return container.output, sandbox.qualifiers
        finally:
            container.stop(0)


def test_the_default_profile_masks_and_filters(journal: Journal, image: Image) -> None:
    """What tells of the host is empty, sysctls are read-only, and a filter forbids new namespaces."""
    output, qualifiers = ask(journal, image, "default")
    lines = output.split("\n")
    assert lines[:5] == ["0", "0", "0", "0", "0"]
    assert lines[5] == "refused"
    assert "Seccomp:\t2" in output
    assert "NoNewPrivs:\t1" in output
    assert "no user namespace" in output
    assert qualifiers["profile"] == "default"


def test_the_strict_profile_shows_processes_only(journal: Journal, image: Image) -> None:
    """The files of /proc that are no process's do not exist."""
    output, _ = ask(journal, image, "strict")
    assert output.split("\n")[:4] == ["absent"] * 4
    assert "Seccomp:\t2" in output


def test_the_privileged_profile_is_what_the_others_prevent(journal: Journal, image: Image) -> None:
    """The same questions are answered where nothing is masked or filtered: the control of the two above."""
    script = "wc -c < /proc/kallsyms; grep -E '^Seccomp:' /proc/self/status; echo finished; sleep 60"
    command = ("/bin/sh", "-c", script)
    readiness = Readiness(marking=False, line="finished")
    spec = SandboxSpec(image.rootfs, command, {"PATH": "/bin"}, readiness, LIMITS, "box", "privileged")
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
        container = sandbox.start(PATIENCE)
        output = container.output
        user_namespace = Path(f"/proc/{container.pid}/ns/user").readlink()
        container.stop(0)
    assert int(output.split("\n")[0]) > 100_000
    assert "Seccomp:\t0" in output
    assert user_namespace == Path("/proc/self/ns/user").readlink()
    assert sandbox.qualifiers["ids"] == "host"


def test_a_network_from_the_pool_is_its_own(journal: Journal, image: Image) -> None:
    """Two containers at once have an interface and an address each, and both may have port 80."""
    script = (
        "ip -4 addr show eth0; echo hello | nc -l -p 80 > /dev/null &"
        "until netstat -tln | grep ':80 '; do sleep 0.05; done; echo finished; wait"
    )
    readiness = Readiness(marking=False, line="finished")
    with (
        Bridge(journal) as bridge,
        NetworkPool(bridge, 2) as pool,
        Spawner(journal) as spawner,
        Sandbox(
            spawner,
            detect(),
            SandboxSpec(
                image.rootfs,
                ("/bin/sh", "-c", script),
                {"PATH": "/bin"},
                readiness,
                LIMITS,
                "box",
                network=pool,
            ),
        ) as sandbox,
    ):
        containers = [sandbox.start(PATIENCE), sandbox.start(PATIENCE)]
        try:
            for container in containers:
                assert container.network is not None
                assert str(container.network.address) in container.output
                assert ":80 " in container.output
            assert len({str(container.network) for container in containers}) == 2
        finally:
            for container in containers:
                container.stop(0)
        assert sandbox.qualifiers["net"] == "bridge"
