"""Commands in running containers, pausing, signals and the end, on the real kernel."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until
from sandboxes import MEBIBYTE, printed, started

from pybench.runtime.container import notify
from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.container import Request
from pybench.runtime.container.defaults import INOTIFY_INSTANCES
from pybench.runtime.container.identity import FIRST_ID
from pybench.runtime.container.profiles import ProfileName
from pybench.runtime.errors import InstanceError, PybenchError
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

NAMESPACES = ("user", "pid", "mnt", "net", "uts", "ipc", "cgroup", "time")


def facts(text: str) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines()) if value
    }


@pytest.mark.parametrize("profile", ["default", "strict", "privileged"])
def test_a_command_joins_everything_the_first_process_has(
    journal: Journal, image: Image, profile: ProfileName
) -> None:
    """Namespaces, control groups, root and id maps are the same, and so are rights and filter."""
    script = "for name in user pid mnt net uts ipc cgroup time; do readlink /proc/self/ns/$name; done;"
    script += "cat /proc/self/uid_map; cat /proc/self/status; ls -di /"
    with started(journal, (image.rootfs,), profile=profile) as container:
        done = container.execute(("/bin/sh", "-c", script))
        first = Path(f"/proc/{container.pid}")
        expected = [str((first / "ns" / name).readlink()) for name in NAMESPACES]
        first_status = facts((first / "status").read_text(encoding="utf-8"))
        maps = (first / "uid_map").read_text(encoding="utf-8").split()[0]
        root = (first / "root/.").stat().st_ino
    assert done.status == 0, done.errors
    lines = done.output.decode().splitlines()
    assert lines[:8] == expected
    assert lines[8].split()[0] == maps
    joined = facts("\n".join(lines[9:]))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Groups"):
        inside = joined[name]
        if name == "Uid" and profile != "privileged":
            assert inside.split() == ["0"] * 4
            assert all(int(number) >= FIRST_ID for number in first_status[name].split())
        else:
            assert inside == first_status[name], name
    assert int(joined["NSpid"].split()[-1]) > 1
    assert lines[-1].split()[0] == str(root)


def test_a_command_is_in_the_containers_groups(journal: Journal, image: Image) -> None:
    """It and what it leaves in the background count against the container's limits and die with it."""
    with started(journal, (image.rootfs,), limits=Limits(pids=8)) as container:
        done = container.execute(
            ("/bin/sh", "-c", "i=0; while [ $i -lt 20 ]; do sleep 300 & i=$((i+1)); done")
        )
        assert b"Resource temporarily unavailable" in done.errors or b"can't fork" in done.errors
        inside = container.processes
        assert 4 < len(inside) <= 8
        container.stop(0)
        assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]


@pytest.mark.skipif(bool(notify.unavailable()), reason="nobody may listen to system calls here")
def test_a_command_hears_of_the_containers_limits(journal: Journal, image: Image) -> None:
    """sysinfo(2), by which busybox finds the size of memory, is answered for commands that join as well."""
    with started(journal, (image.rootfs,), limits=Limits(memory=64 * MEBIBYTE)) as container:
        for _ in range(2):
            done = container.execute(("free", "-b"))
            assert done.status == 0, done.errors
            # It prints no space before a figure of twenty digits, which it makes of the host's cache.
            assert done.output.split(b"Mem:")[1].lstrip().startswith(str(64 * MEBIBYTE).encode())


def test_a_container_cannot_use_up_its_owners_inotify_instances(journal: Journal, image: Image) -> None:
    """Its user namespace has a bound of its own, below that of the user who owns it."""
    command = ("cat", "/proc/sys/user/max_inotify_instances")
    with started(journal, (image.rootfs,)) as container:
        assert int(container.execute(command).output) == INOTIFY_INSTANCES


def test_input_output_errors_and_status_are_the_commands(journal: Journal, image: Image) -> None:
    """What is given arrives, what is printed comes back apart, and the exit code is the command's."""
    with started(journal, (image.rootfs,)) as container:
        given = os.urandom(300_000).hex().encode()
        echoed = container.execute(("/bin/cat",), Request(given=given))
        assert echoed.output == given
        assert (echoed.status, echoed.errors, echoed.truncated) == (0, b"", False)
        failed = container.execute(("/bin/sh", "-c", "echo out; echo err >&2; exit 7"))
        assert (failed.status, failed.output, failed.errors) == (7, b"out\n", b"err\n")
        killed = container.execute(("/bin/sh", "-c", "kill -9 $$"))
        assert killed.status == -signal.SIGKILL
        found = container.execute(("hostname",))
        assert found.output == b"box\n"
        clean = container.execute(
            ("/bin/sh", "-c", "ls /proc/$$/fd; tr '\\0' '\\n' < /proc/$$/environ; true")
        )
        assert clean.output.split() == [b"0", b"1", b"2", b"PATH=/bin"]
        other = container.execute(("/bin/busybox", "env"), Request(environment={"A": "b"}))
        assert other.output == b"A=b\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("/bin/nothing",), "No such file"),
        (("nothing",), "No such file"),
        (("/etc",), "Is a directory"),
        (("/etc/passwd",), "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_says_why(
    journal: Journal, image: Image, command: tuple[str, ...], message: str
) -> None:
    """The error names the command; the container goes on."""
    with started(journal, (image.rootfs,)) as container:
        with pytest.raises(InstanceError, match=message) as caught:
            container.execute(command)
        assert command[0] in caught.value.message
        assert container.execute(("/bin/true",)).status == 0


def test_a_flood_is_bounded_and_so_is_its_time(journal: Journal, image: Image) -> None:
    """A command that prints without end is killed when its time is over; one that ends is cut off."""
    with started(journal, (image.rootfs,)) as container:
        with pytest.raises(InstanceError, match=r"did not end within 0\.5 s"):
            container.execute(("/bin/yes",), Request(timeout=0.5))
        done = container.execute(
            ("/bin/sh", "-c", "yes | head -c 3000000; yes err | head -c 200000 >&2"), Request(maximum=100_000)
        )
        assert done.truncated
        assert len(done.output) == len(done.errors) == 100_000


def test_a_background_that_goes_on_printing_is_not_waited_for(journal: Journal, image: Image) -> None:
    """The command's end is the end, whoever still holds its output."""
    with started(journal, (image.rootfs,)) as container:
        done = container.execute(("/bin/sh", "-c", "yes & echo done"), Request(timeout=PATIENCE))
        assert done.status == 0
        silent = container.execute(("/bin/sh", "-c", "sleep 300 & echo done"), Request(timeout=PATIENCE))
        assert silent.output == b"done\n"


def test_a_paused_container_does_nothing_until_it_is_resumed(journal: Journal, image: Image) -> None:
    """Its clock stands still, a command is refused at once rather than held, and resuming undoes it."""
    script = "(while true; do echo tick; usleep 10000; done) &"
    with started(journal, (image.rootfs,), script) as container:
        container.pause()
        container.pause()
        seen: list[str] = []

        def stands_still() -> bool:
            # What it had printed before may still be on its way.
            seen.append(container.output)
            time.sleep(0.1)
            return seen[-4:] == [container.output] * 4

        wait_until(stands_still)
        before = seen[-1]
        with pytest.raises(PybenchError, match=r"frozen|paused"):
            container.execute(("/bin/true",))
        container.resume()
        container.resume()
        assert container.execute(("/bin/true",)).status == 0
        wait_until(lambda: container.output != before)


def test_pausing_while_commands_start_never_holds_the_harness(journal: Journal, image: Image) -> None:
    """The thread that starts commands is never inside a group at the moment when it is frozen."""
    with started(journal, (image.rootfs,)) as container:
        ended = threading.Event()

        def keep_starting() -> None:
            while not ended.is_set():
                try:
                    container.execute(("/bin/true",), Request(timeout=PATIENCE))
                except PybenchError:
                    time.sleep(0.001)

        starting = threading.Thread(target=keep_starting)
        starting.start()
        try:
            for _ in range(20):
                container.pause()
                container.resume()
        finally:
            ended.set()
            starting.join(PATIENCE)
        assert not starting.is_alive()


def test_a_paused_container_can_be_stopped(journal: Journal, image: Image) -> None:
    """Frozen processes take no signal, so a stop lets it go on first; it ends within its grace period."""
    with started(
        journal, (image.rootfs,), "trap 'exit 5' TERM; echo finished; while :; do sleep 0.05; done"
    ) as one:
        one.pause()
        one.stop(PATIENCE)
        assert one.status == 5


def test_signals_reach_the_first_process(journal: Journal, image: Image) -> None:
    """Its handlers run; afterwards a signal is no error, and a command is refused."""
    script = "trap 'echo got usr1' USR1; trap 'exit 9' USR2; echo finished; while :; do sleep 0.02; done"
    with started(journal, (image.rootfs,), script) as container:
        container.send_signal(signal.SIGUSR1)
        wait_until(lambda: "got usr1" in container.output)
        container.send_signal(signal.SIGUSR2)
        assert container.wait(PATIENCE)
        assert container.status == 9
        container.send_signal(signal.SIGUSR1)
        with pytest.raises(InstanceError, match="has ended"):
            container.execute(("/bin/true",))


def test_a_command_that_ends_with_the_container_says_so(journal: Journal, image: Image) -> None:
    """Stopping a container ends the commands that run in it."""
    with started(journal, (image.rootfs,)) as container:
        results: list[object] = []

        def run() -> None:
            try:
                results.append(container.execute(("/bin/sleep", "300")).status)
            except PybenchError as error:
                results.append(error)

        running = threading.Thread(target=run)
        running.start()
        wait_until(lambda: len(container.processes) >= 2)
        # Until it has certainly left the thread that starts commands.
        container.pause()
        container.stop(0)
        running.join(PATIENCE)
        assert results == [-signal.SIGKILL]


def test_running_out_of_memory_is_recognised_afterwards_too(journal: Journal, image: Image) -> None:
    """Kills by the memory limit are counted, and the count outlives the container."""
    with started(journal, (image.rootfs,), limits=Limits(memory=16 * MEBIBYTE, pids=16)) as container:
        assert container.out_of_memory_kills == 0
        done = container.execute(("/bin/sh", "-c", "tail -c 200m /dev/zero; true"))
        assert done.status in {0, -signal.SIGKILL}
        assert container.out_of_memory_kills >= 1
        container.stop(0)
        assert container.out_of_memory_kills >= 1


@pytest.mark.parametrize("user", [0, 1000])
def test_commands_are_the_workloads_user(journal: Journal, image: Image, user: int) -> None:
    """A command runs as whom the specification says, with its groups."""
    from pybench.runtime.container.specification.model import User

    who = User(uid=user, gid=user, additional_gids=(7,))
    with started(journal, (image.rootfs,), "id -u; id -G", user=who) as container:
        done = container.execute(("/bin/sh", "-c", "id -u; id -G"))
        assert done.output.decode().split() == container.output.split()[:-1]
        assert done.output.split()[0] == str(user).encode()
        assert b"7" in done.output.split()


def test_the_limits_of_time_are_kept_by_starts_that_hang(journal: Journal, image: Image) -> None:
    """A command that sleeps beyond its time is killed, and only that command."""
    with started(journal, (image.rootfs,)) as container:
        with pytest.raises(InstanceError, match="did not end"):
            container.execute(("/bin/sleep", "300"), Request(timeout=0.2))
        assert len(container.processes) == 1
        assert printed(journal, (image.rootfs,), "echo other").strip() == "other"
