"""What goes wrong with a container ends in an error that names it, or a clean verdict, and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oci_bundles import (
    PROGRAM,
    Runtime,
    container_configuration,
    set_value,
    shell_configuration,
)
from patience import PATIENCE, has_ended, wait_until

AARCH64 = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
    "<HHIQQQIHHHHHH", 2, 183, 1, 0x400000, 64, 0, 0, 64, 56, 0, 64, 0, 0
)
MEBIBYTE = 1 << 20
KILLED_BEFORE_A_MARK = """
import os, signal, sys
from pybench.harness.cli.oci import main

left = [int(sys.argv.pop(1))]
mark = os.setxattr

def mark_or_die(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    mark(*arguments)

os.setxattr = mark_or_die
main()
"""
"""A creator that ends between making the N-th group above its container's and marking it as its own."""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ociVersion": "1.2.0"}', '{"a": 1, "a": 2}', "\0" * 9])
def test_a_malformed_configuration_is_refused(runtime: Runtime, text: str) -> None:
    """The message names the file."""
    bundle = runtime.bundle({})
    (bundle / "config.json").write_text(text, encoding="utf-8")
    finished = runtime.call("run", "-b", str(bundle), runtime.new_id(), check=False)
    assert finished.returncode == 2
    assert str(bundle / "config.json") in finished.stderr


def test_no_bundle_and_no_root(runtime: Runtime, tmp_path: Path) -> None:
    """A bundle that is not there, and one whose root is not."""
    assert "config.json: no such file" in runtime.refusal(
        "run", "-b", str(tmp_path / "none"), runtime.new_id()
    )
    configuration = container_configuration("/bin/true")
    configuration["root"]["path"] = "elsewhere"
    assert "root.path" in runtime.run(configuration, check=False).stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/bin/nothing", "no such file or directory"),
        ("nothing", "no such file or directory"),
        ("/etc", "is a directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_no_program_is_found_out_when_it_is_created(runtime: Runtime, command: str, reason: str) -> None:
    """`create` fails already, so that docker and podman tell it as the runtime's error."""
    bundle = str(runtime.bundle(container_configuration(command)))
    said = runtime.refusal("create", "-b", bundle, runtime.new_id())
    assert command in said
    assert reason in said


def test_a_program_for_another_processor_is_an_error_of_start(runtime: Runtime) -> None:
    """What only execve can tell is told by `start`; the container is stopped then."""
    bundle = runtime.bundle(container_configuration("/bin/foreign"))
    (bundle / "rootfs" / "bin" / "foreign").write_bytes(AARCH64)
    (bundle / "rootfs" / "bin" / "foreign").chmod(0o755)
    box = runtime.new_id()
    runtime.detach("create", "-b", str(bundle), box)
    assert "Exec format error" in runtime.refusal("start", box)
    assert runtime.status(box) == "stopped"
    runtime.call("delete", box)
    said = runtime.refusal("run", "-b", str(bundle), runtime.new_id())
    assert "Exec format error" in said


def test_a_group_that_vanished(runtime: Runtime) -> None:
    """Someone moved the process out and removed the group: every command ends, and deletion is clean."""
    with runtime.started(container_configuration("/bin/sleep", "600")) as box:
        state = runtime.state(box)
        groups = [
            Path(group) for group in json.loads((runtime.root / box / "record.json").read_text())["groups"]
        ]
        for group in groups:
            mount = next(parent for parent in group.parents if parent.is_mount())
            (mount / "cgroup.procs").write_text(str(state["pid"]), encoding="ascii")
            group.rmdir()
        assert runtime.status(box) == "running"
        assert "is not there any more" in runtime.refusal("pause", box)
        assert "is not there any more" in runtime.refusal("events", "--stats", box)
        assert "is not there any more" in runtime.refusal("exec", box, "/bin/true")
        assert json.loads(runtime.call("ps", "-f", "json", box).stdout) == [state["pid"]]
        runtime.call("delete", "--force", box)
        assert has_ended(state["pid"])


def test_a_full_file_system_and_a_fork_bomb(runtime: Runtime) -> None:
    """A tmpfs ends at its size, and processes at the limit of the group; the container goes on."""
    script = (
        "dd if=/dev/zero of=/small/file bs=1k count=200; echo full $?; ls -l /small/file | awk '{print $5}';"
        "(sh -c 'b() { b | b & b; }; b' & sleep 0.5; kill -9 -1) 2>/dev/null; echo alive"
    )
    configuration = shell_configuration(f"trap '' HUP; {script}")
    configuration["mounts"].append({"destination": "/small", "type": "tmpfs", "options": ["size=64k"]})
    set_value(configuration, "linux.resources.pids", {"limit": 16})
    finished = runtime.run(configuration, check=False)
    assert "No space left on device" in finished.stderr
    assert finished.stdout.splitlines()[:2] == ["full 1", "65536"]
    assert "alive" in finished.stdout


def test_a_memory_hog(runtime: Runtime) -> None:
    """Status 137, and the group tells that the kernel killed for want of memory."""
    configuration = shell_configuration("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done")
    set_value(configuration, "linux.resources.memory", {"limit": 16 * MEBIBYTE, "swap": 16 * MEBIBYTE})
    assert runtime.run(configuration, check=False).returncode == 137
    with runtime.created(configuration) as box:
        control = runtime.group(box, "memory") / "memory.oom_control"
        runtime.call("start", box)
        runtime.wait_for_end(box)
        assert "oom_kill 1" in control.read_text(encoding="ascii")


def test_one_that_ignores_signals(runtime: Runtime) -> None:
    """TERM leaves it running; its deletion by force ends it with all it has started."""
    script = (
        "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 1; done) & echo up; while :; do sleep 1; done"
    )
    with runtime.started(shell_configuration(script)) as box:
        wait_until(lambda: "up" in runtime.output(box))
        runtime.call("kill", box)
        assert runtime.status(box) == "running"
        pids = json.loads(runtime.call("ps", "-f", "json", box).stdout)
        assert len(pids) >= 2
        runtime.call("delete", "--force", box)
        assert all(map(has_ended, pids))


def test_one_in_creation_is_recognised(runtime: Runtime, tmp_path: Path) -> None:
    """While a hook runs the state is `creating`; when the creator is gone, it can be deleted."""
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n", encoding="ascii")
    hook.chmod(0o755)
    configuration = container_configuration("/bin/true")
    configuration["hooks"] = {"createRuntime": [{"path": str(hook)}]}
    bundle, box = str(runtime.bundle(configuration)), runtime.new_id()
    with runtime.begin("create", "-b", bundle, box) as process:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        assert runtime.status(box) == "creating"
        assert "creating" in runtime.refusal("start", box)
        assert "creating" in runtime.refusal("delete", box)
        process.kill()
        process.wait()
        # The hook lives on, a process of nobody's; it is no part of the container.
        os.kill(int((tmp_path / "pid").read_text(encoding="ascii")), signal.SIGKILL)
    wait_until(lambda: runtime.status(box) == "stopped")
    runtime.call("delete", "--force", box)


def test_a_creator_killed_at_any_moment_leaves_nothing_that_deletion_does_not_find(runtime: Runtime) -> None:
    """SIGKILL at random instants of `create`; a forced deletion removes whatever was there."""
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    configuration = container_configuration("/bin/sleep", "600")
    bundle = str(runtime.bundle(configuration))
    started = time.monotonic()
    runtime.detach("create", "-b", bundle, first := runtime.new_id())
    duration = time.monotonic() - started
    runtime.call("delete", first)
    for number in range(10):
        box = runtime.new_id()
        command = [PROGRAM, "--root", str(runtime.root), "create", "-b", bundle, box]
        null = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as process:
            runtime.makers.append(process.pid)
            # What is made is made in the second half; the first is Python's.
            time.sleep(duration * (0.3 + 0.7 * (number + chance.random()) / 10))
            process.send_signal(signal.SIGKILL)
        status = runtime.call("state", box, check=False)
        assert status.returncode == 0 or "does not exist" in status.stderr
        runtime.call("delete", "--force", box)
        assert "does not exist" in runtime.refusal("state", box)
        runtime.assert_nothing_is_left()


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("beside", [False, True])
def test_groups_above_that_were_not_marked_yet_are_removed(
    runtime: Runtime, number: int, beside: bool
) -> None:
    """A creator killed before its mark leaves them to its deletion, or to the last container in them."""
    path = f"/pybench-test-{os.getpid()}-above/deep"
    configuration = container_configuration("/bin/sleep", "600")
    set_value(configuration, "linux.cgroupsPath", f"{path}/killed")
    bundle, box = str(runtime.bundle(configuration)), runtime.new_id()
    words = (str(number), "--root", str(runtime.root), "create", "-b", bundle, box)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_A_MARK, *words], check=False, timeout=PATIENCE
    )
    assert killed.returncode == -signal.SIGKILL
    assert _groups_named(path)
    with contextlib.ExitStack() as stack:
        if beside:
            set_value(configuration, "linux.cgroupsPath", f"{path}/neighbour")
            stack.enter_context(runtime.created(configuration))
        runtime.call("delete", "--force", box)
        assert bool(_groups_named(path)) == beside
    assert _groups_named(path) == []


def _groups_named(path: str) -> list[Path]:
    top = Path(path).parts[1]
    return [Path(folder, top) for folder, names, _ in os.walk("/sys/fs/cgroup") if top in names]


def test_a_root_without_a_container_is_deleted(runtime: Runtime) -> None:
    """Killed before its first step, a creator leaves an empty root; deleting its container removes that."""
    runtime.root.mkdir()
    runtime.call("delete", "--force", runtime.new_id())
    assert not runtime.root.exists()


def test_a_directory_without_a_record_is_deleted(runtime: Runtime) -> None:
    """Killed between its first two steps, a creator leaves an empty directory; it can be deleted."""
    box = runtime.new_id()
    (runtime.root / box).mkdir(parents=True)
    assert runtime.status(box) == "stopped"
    runtime.call("delete", box)
    (runtime.root / box).mkdir(parents=True)
    (runtime.root / box / "record.json").write_text("{", encoding="ascii")
    assert "is damaged" in runtime.refusal("delete", box)
    runtime.call("delete", "--force", box)
