"""What an ordinary user gets: the same container, with what it must do without said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from sandboxes import small_root

from pybench.vm_images import Image

NOBODY = 65534
UNREACHABLE = 77

# Privilege is dropped inside the process, because root's interpreter may be out of others' reach.
SCRIPT = """
    import ctypes, encodings.ascii, json, os, sys
    from pathlib import Path
    import pyseccomp
    from pybench.harness.targets.container import ContainerTarget
    from pybench.harness.targets import ContainerSettings, TargetContext
    from dataclasses import replace
    from pybench.harness.errors import InputError
    from pybench.harness.model import Resources, Workload, WorkloadFile
    from pybench.harness.targets.mock import MockImage
    from pybench.runtime.journal import open_journal

    folder = Path(sys.argv[1])
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    # The kernel hides a process that has changed its ids from its own user, unlike one that was
    # started by that user, until it says otherwise (PR_SET_DUMPABLE).
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    if not os.access(folder / "rootfs/bin/busybox", os.R_OK):
        sys.exit({unreachable})
    image = MockImage("minimal", rootfs=folder / "rootfs")
    script = "id; ls -ld /bin/busybox; touch /bin/x; ls /dev; cat /proc/self/uid_map; uptime"
    script += "; cat /opt/given /tmp/given; echo x > /opt/given || echo refused; echo finished; sleep 60"
    files = (WorkloadFile("/opt/given", b"at a new place", 0o600),
             WorkloadFile("/tmp/given", b" and in memory"))
    workload = Workload("shell", "minimal", ("/bin/sh", "-c", script), {{"PATH": "/bin"}},
                        resources=Resources(memory=64 * 2**20, pids=16), files=files)
    (folder / "state").mkdir()
    with open_journal(folder / "state") as journal:
        target = ContainerTarget(ContainerSettings(), TargetContext(journal, folder))
        target.prepare(workload, image)
        instance = target.launch(120)
        marks = [mark.name for mark in instance.marks]
        while "finished" not in instance.output:
            pass
        output, qualifiers = instance.output, dict(instance.qualifiers)
        instance.stop(2)
        try:
            target.prepare(replace(workload, user="33"), image)
            refused = ""
        except InputError as error:
            refused = error.message
        target.cleanup()
        print(json.dumps({{"marks": marks, "output": output, "qualifiers": qualifiers, "refused": refused}}))
"""


def said_by(script: str, folder: str, user: int) -> dict[str, Any]:
    """What a script prints as JSON that becomes `user` and has the folder for its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; an ordinary user's other tests show it")
    for path in (Path(folder), *Path(folder).rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(script).format(nobody=user, unreachable=UNREACHABLE),
            folder,
        ],
        env={**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder, "XDG_CACHE_HOME": f"{folder}/cache"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    if finished.returncode == UNREACHABLE:
        pytest.skip("what the script reads lies where other users may not enter")
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


@pytest.fixture
def answer(image: Image) -> dict[str, object]:
    """What a container run by nobody has to say."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(image.rootfs, Path(folder, "rootfs"), symlinks=True)
        return said_by(SCRIPT, folder, NOBODY)


def test_the_container_runs_with_its_own_root(answer: dict[str, object]) -> None:
    """Inside, the user is root and owns the image, which is read-only; /dev is the minimum."""
    output = str(answer["output"])
    assert "uid=0" in output
    assert "Read-only file system" in output
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm"} <= set(output.split())
    assert answer["marks"] == ["preparing", "request", "clone", "identity", "sandbox", "exec", "ready"]


def test_its_files_are_there_and_other_users_are_not(answer: dict[str, object]) -> None:
    """Files of a workload need no privilege; a user that has no id on the host is refused by number."""
    output = str(answer["output"])
    assert "at a new place and in memory" in output
    assert "refused" in output
    if dict(answer["qualifiers"])["ids"] == "single":  # type: ignore[call-overload]
        assert str(answer["refused"]).startswith("user 33 does not exist in a container here")


def test_its_questions_are_answered(answer: dict[str, object]) -> None:
    """An ordinary user's harness may write to its container's memory: sysinfo(2) is not the host's."""
    assert "up 0 min" in str(answer["output"])
    assert "load average: 0.00, 0.00, 0.00" in str(answer["output"])


def test_what_it_does_without_is_said(answer: dict[str, object]) -> None:
    """The qualifiers name the missing limits and that the harness was no root."""
    qualifiers = dict(answer["qualifiers"])  # type: ignore[call-overload]
    # A range only where /etc/subuid grants one to nobody.
    assert qualifiers.pop("ids") in {"single", "range"}
    assert qualifiers == {
        "net": "none",
        "cgroup": "none",
        "profile": "default",
        "limits": "without memory, pids",
        "rootless": "yes",
    }


ROOT_SCRIPT = """
    import ctypes, encodings.ascii, encodings.idna, json, os, sys
    from pathlib import Path
    import psutil, pyseccomp
    from pybench.runtime.container.cgroup.detect import NoGroups
    from pybench.runtime.container.container import Request
    from pybench.runtime.container.instance import Readiness
    from pybench.runtime.container.rootfs import Volume
    from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
    from pybench.runtime.container.spawn.spawner import Spawner
    from pybench.runtime.errors import PybenchError
    from pybench.runtime.journal import open_journal

    folder = Path(sys.argv[1])
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    if not os.access(folder / "rootfs/bin/busybox", os.R_OK):
        sys.exit({unreachable})
    (folder / "state").mkdir()
    script = "cat /tmp/deep/volume/file /etc/hostname; touch /tmp/deep/volume/x /etc/hosts 2>&1"
    script += "; dd if=/dev/zero of=/big bs=64k 2>&1; echo finished; exec sleep 60"
    said = {{}}
    with open_journal(folder / "state") as journal, Spawner(journal) as spawner:
        for name, writable in (("read-only", None), ("writable", 4 << 20)):
            spec = SandboxSpec(
                folder / "rootfs", ("/bin/sh", "-c", script), {{"PATH": "/bin"}},
                Readiness(False, "finished"), host_name="box", writable=writable,
                volumes=(Volume(folder / "data", "/tmp/deep/volume"),),
            )
            with Sandbox(spawner, NoGroups("for this test"), spec) as sandbox:
                container = sandbox.start(120)
                command = ("/bin/sh", "-c", "cat; stat -c %s /big; id -u; exit 4")
                done = container.execute(command, Request(given=b"given "))
                said[name] = [container.output, done.status, done.output.decode()]
                container.stop(0)
        try:
            spec = SandboxSpec(folder / "rootfs", ("/bin/true",), {{}}, Readiness(False, None),
                               layers=(folder / "rootfs", folder / "data"))
            with Sandbox(spawner, NoGroups("for this test"), spec):
                pass
        except PybenchError as error:
            said["layers"] = [error.message]
        said["entries"] = len(journal.entries)
    said["left"] = sorted(str(path) for path in (folder / "pybench").glob("*"))
    print(json.dumps(said))
"""


@pytest.fixture
def rooted(image: Image) -> dict[str, Any]:
    """What containers of nobody's say of a root filesystem without mount points."""
    with tempfile.TemporaryDirectory() as folder:
        root = small_root(Path(folder, "rootfs"), image)
        shutil.rmtree(root / "etc")
        Path(folder, "data").mkdir()
        Path(folder, "data/file").write_text("of the host\n", encoding="utf-8")
        return said_by(ROOT_SCRIPT, folder, NOBODY)


def test_root_volumes_and_commands_are_the_same(rooted: dict[str, Any]) -> None:
    """Missing mount points, a writable root, volumes and commands in it work without privilege as with it."""
    for name in ("read-only", "writable"):
        output, status, answer = rooted[name]
        assert output.startswith("of the host\nbox\n")
        assert output.count("Read-only file system") == (3 if name == "read-only" else 2)
        assert status == 4
        assert answer.startswith("given ")
        assert answer.endswith("0\n")
    assert "No space left" in rooted["writable"][0]
    assert "one layer" in rooted["layers"][0]
    assert rooted["entries"] == 0
    assert rooted["left"] == []


NAMELESS = 64321

NAMELESS_SCRIPT = """
    import contextlib, encodings.idna, io, json, os, sys
    from importlib import resources
    from pathlib import Path
    import pybench.harness.cli.init, pybench.harness.revision, pybench.harness.scenario.schema
    from pybench.harness.cli.main import run
    from pybench.runtime.journal import open_journal
    from pybench.runtime.vm.connection import open_connection

    folder = Path(sys.argv[1])
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        os.environ.pop(name, None)
    if not os.access(resources.files("pybench.harness.scenario") / "starter.yaml", os.R_OK):
        sys.exit({unreachable})
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = run(["init", str(folder / "bench")])
    (folder / "state").mkdir()
    with open_journal(folder / "state") as journal, open_connection(journal) as connection:
        uri = connection.handle.getURI()
    print(json.dumps({{"status": status, "printed": printed.getvalue(), "uri": uri,
                       "files": sorted(path.name for path in (folder / "bench").rglob("*"))}}))
"""


def test_a_user_without_a_name_may_begin_a_project_and_reach_libvirt() -> None:
    """As a number in a container is; only a job for cron cannot be written, and that is said."""
    with tempfile.TemporaryDirectory() as folder:
        said = said_by(NAMELESS_SCRIPT, folder, NAMELESS)
    assert said["status"] == 0
    assert f"uid {NAMELESS} has no name here" in said["printed"]
    assert {"first.yaml", "nightly.yaml"} <= set(said["files"])
    assert "nightly.cron" not in said["files"]
    assert said["uri"].startswith("qemu:///embed")
