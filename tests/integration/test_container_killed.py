"""A harness that is killed at any moment: containers die with it, and `pybench clean` removes the rest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from pybench.runtime.container.leftovers import descendants
from pybench.runtime.journal import journals, state_directory
from pybench.vm_images import Image

ROUNDS = 20
LONGEST = 0.4
"""Seconds after its beginning at which the harness is killed at the latest: some turns of its loop."""

HARNESS = """
    import ctypes, os, signal, sys
    from pathlib import Path
    from pybench.runtime.container.cgroup.base import Limits
    from pybench.runtime.container.cgroup.detect import detect
    from pybench.runtime.container.container import Request
    from pybench.runtime.container.instance import Readiness
    from pybench.runtime.container.rootfs import Volume
    from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
    from pybench.runtime.container.spawn.spawner import Spawner
    from pybench.runtime.journal import open_journal
    rootfs, volume = map(Path, sys.argv[1:])
    spec = SandboxSpec(
        rootfs, ("/bin/workload", "stubborn"), {"PATH": "/bin"}, Readiness(True, "ready"),
        Limits(memory=64 << 20, pids=32), writable=1 << 20, volumes=(Volume(volume, "/tmp/volume"),),
    )
    def end_with_parent():
        assert ctypes.CDLL(None).prctl(1, 9) == 0  # PR_SET_PDEATHSIG: also where the test itself is killed
    def go_on():
        end_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with open_journal() as journal:
            while True:
                with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec) as sandbox:
                    for _ in range(3):
                        container = sandbox.start(10)
                        container.execute(("/bin/sh", "-c", "sleep 300 & true"), Request(timeout=10))
                        container.pause()
                        container.resume()
                        container.stop(0)
    end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what is killed need not be waited for
    for _ in sys.stdin:
        pid = os.fork()  # the imports are the slow part
        if not pid:
            go_on()
        print(pid, flush=True)
"""


def lives(pid: int) -> bool:
    """Whether a process still runs; one that has ended stays a zombie until the host's init looks."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def frozen(pid: int) -> bool:
    """Whether the harness was killed between pausing and resuming it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "freezer":
                state = Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text(encoding="ascii")
                return state.strip() != "THAWED"
    return False


def groups_of(pid: int) -> list[Path]:
    """Control groups that a harness made."""
    return [
        Path(folder, name)
        for folder, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(f"pybench-{pid}-")
    ]


def test_whenever_it_is_killed_nothing_is_left(image: Image, tmp_path: Path) -> None:
    """At moments spread over start, exec, pause and stop: no process, group, mount or file stays."""
    chance = random.Random(20)  # noqa: S311 - moments need no secret
    arguments = [sys.executable, "-c", textwrap.dedent(HARNESS), str(image.rootfs), str(tmp_path)]
    known = {path.name for path in state_directory().iterdir()}
    killed = []
    everybody: set[int] = set()
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as harnesses:
        assert harnesses.stdin is not None
        assert harnesses.stdout is not None
        for _ in range(ROUNDS):
            print("next", file=harnesses.stdin, flush=True)
            pid = int(harnesses.stdout.readline())
            time.sleep(chance.uniform(0, LONGEST))
            everybody |= set(descendants(pid)) - {pid}
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        deadline = time.monotonic() + 120
        # Control groups of version 1 let no frozen process die; clean thaws them.
        while alive := [pid for pid in {*everybody, *killed} if lives(pid) and not frozen(pid)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.05)
        harnesses.stdin.close()
    subprocess.run(
        [str(Path(sys.executable).with_name("pybench")), "clean"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert [pid for pid in everybody if lives(pid)] == []
    assert [group for pid in killed for group in groups_of(pid)] == []
    owners = {str(pid) for pid in killed}
    assert [path for path in journals() if path.name.partition("-")[0] in owners] == []
    left = {path.name for path in state_directory().iterdir()} - known
    assert {name for name in left if not _in_use(name)} == set()


def _in_use(name: str) -> bool:
    """Of another run that goes on at the same time; sockets and journals are others' in any case."""
    if name.endswith(".lock"):
        with contextlib.suppress(OSError), Path(state_directory(), name).open(encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        return True
    if not name.startswith(("stage-", "root-")):
        return True
    mounted = str(state_directory() / name)
    for mounts in Path("/proc").glob("[0-9]*/task/*/mountinfo"):
        with contextlib.suppress(OSError):
            if mounted in mounts.read_text(encoding="utf-8", errors="replace"):
                return True
    return False
