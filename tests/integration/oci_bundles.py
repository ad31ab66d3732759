"""Bundles made of the image `minimal`, and `pybench-oci` as whoever drives it calls it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from patience import PATIENCE, has_ended, wait_until

PROGRAM: Final = str(Path(sys.executable).with_name("pybench-oci"))
SEALED: Final = ["nosuid", "noexec", "nodev"]

_numbers = itertools.count()


def container_configuration(*command: str) -> dict[str, Any]:
    """A configuration that shares nothing with the host but its user ids."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": list(command),
            "env": ["PATH=/bin", "COLOUR=green"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": SEALED},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
    }


def shell_configuration(script: str) -> dict[str, Any]:
    """The same, with a shell script as its command."""
    return container_configuration("/bin/sh", "-c", script)


def set_value(configuration: dict[str, Any], path: str, value: object) -> None:
    """Set `linux.resources.pids` = … in place."""
    place = configuration
    *parents, last = path.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value


@dataclass
class Runtime:
    """`pybench-oci` with a root of its own, and everything that was made with it."""

    directory: Path
    rootfs: Path
    identifiers: list[str] = field(default_factory=list)
    makers: list[int] = field(default_factory=list)
    """Pids of the commands, by which their journals are known."""

    @property
    def root(self) -> Path:
        """Where it keeps its state."""
        return self.directory / "state"

    def call(
        self, *words: str, input_: str = "", check: bool = True, pass_fds: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        with self.begin(*words, pass_fds=pass_fds, stdin=subprocess.PIPE) as process:
            try:
                output, complaint = process.communicate(input_, timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        finished = subprocess.CompletedProcess(words, process.returncode, output, complaint)
        assert "Traceback" not in complaint, complaint
        if check:
            assert finished.returncode == 0, complaint
        return finished

    def begin(
        self, *words: str, stdin: int = subprocess.DEVNULL, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[str]:
        """Begin a command, whose errors and output go into pipes."""
        process = subprocess.Popen(
            [PROGRAM, "--root", str(self.root), *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        self.makers.append(process.pid)
        return process

    def detach(self, *words: str) -> None:
        """Run a command that leaves a process behind, which would keep a pipe open."""
        command = [PROGRAM, "--root", str(self.root), *words]
        null = subprocess.DEVNULL
        subprocess.run(command, stdin=null, stdout=null, check=True, timeout=PATIENCE)

    def refusal(self, *words: str) -> str:
        """What a command says that fails."""
        finished = self.call(*words, check=False)
        assert finished.returncode != 0, finished.stdout
        return finished.stderr

    def new_id(self) -> str:
        """An id that nothing else on this machine has."""
        self.identifiers.append(f"box-{os.getpid()}-{next(_numbers)}")
        return self.identifiers[-1]

    def bundle(self, configuration: Mapping[str, Any]) -> Path:
        """A bundle with a copy of the image's files."""
        directory = self.directory / f"bundle-{next(_numbers)}"
        directory.mkdir()
        shutil.copytree(self.rootfs, directory / "rootfs", symlinks=True)
        (directory / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
        return directory

    def run(
        self, configuration: Mapping[str, Any], *flags: str, input_: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        bundle = self.bundle(configuration)
        return self.call("run", *flags, "--bundle", str(bundle), self.new_id(), input_=input_, check=check)

    def say(self, configuration: Mapping[str, Any], *flags: str) -> str:
        """What a container prints that ends well."""
        return self.run(configuration, *flags).stdout

    def state(self, identifier: str) -> dict[str, Any]:
        """What is known of a container."""
        state: dict[str, Any] = json.loads(self.call("state", identifier).stdout)
        return state

    def status(self, identifier: str) -> str:
        """What it is doing."""
        return str(self.state(identifier)["status"])

    def wait_for_end(self, identifier: str) -> None:
        """Wait until its first process is gone, or waits to be reaped by whoever it was left to."""
        pid = self.state(identifier)["pid"]
        wait_until(lambda: has_ended(pid))
        assert self.status(identifier) == "stopped"

    @contextlib.contextmanager
    def created(self, configuration: Mapping[str, Any], *flags: str) -> Iterator[str]:
        """A container that waits to be started; gone afterwards."""
        identifier = self.new_id()
        bundle = self.bundle(configuration)
        words = ("create", "--bundle", str(bundle), *flags, identifier)
        # Files, because the container's process would keep a pipe open for as long as it lives.
        with (bundle / "output").open("wb") as output, (bundle / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [PROGRAM, "--root", str(self.root), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        self.makers.append(process.pid)
        assert process.wait(PATIENCE) == 0, (bundle / "errors").read_text(encoding="utf-8")
        try:
            yield identifier
        finally:
            self.call("delete", "--force", identifier)

    @contextlib.contextmanager
    def started(self, configuration: Mapping[str, Any], *flags: str) -> Iterator[str]:
        """A container that runs; gone afterwards."""
        with self.created(configuration, *flags) as identifier:
            self.call("start", identifier)
            yield identifier

    def output(self, identifier: str) -> str:
        """What a container has said until now that was not begun by `run`."""
        return (Path(self.state(identifier)["bundle"]) / "output").read_text(encoding="utf-8")

    def group(self, identifier: str, controller: str) -> Path:
        """Its control group of a hierarchy, by the group of its first process."""
        pid = self.state(identifier)["pid"]
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return Path("/sys/fs/cgroup", controller, path.lstrip("/"))
        raise AssertionError(controller)

    def assert_nothing_is_left(self) -> None:
        """No state, no groups, no processes and no journals of what was made with this runtime."""
        assert not self.root.exists(), list(self.root.iterdir())
        groups = [
            Path(folder, name)
            for folder, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name in self.identifiers
        ]
        assert groups == []
        state = Path("/run/pybench")
        journals = [path.name for path in state.glob("*.journal")] if state.is_dir() else []
        assert [name for name in journals if int(name.split("-")[0]) in self.makers] == []
        # A process that was killed keeps its mounts for as long as it takes the kernel to end it.
        wait_until(lambda: not _processes_below(self.directory))


def _processes_below(directory: Path) -> list[str]:
    """Processes whose root is a bundle of ours; mount namespaces hide the rest of its path."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            mounts = (entry / "mountinfo").read_text(encoding="utf-8", errors="replace")
            root = mounts.split("\n", 1)[0].split(" ")[3:5]
            if root[1:] == ["/"] and root[0].endswith("/rootfs") and directory.name in root[0]:
                found.append(entry.name)
    return found
