"""docker and podman drive our runtime: what their users see, and what is left afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker_daemon import docker_daemon
from oci_bundles import PROGRAM

from pybench.vm_images import Image

PATIENCE = 180
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the engines")


@dataclass(frozen=True)
class Engine:
    """An engine by the beginning of its command line; each call runs one command."""

    command: Sequence[str]

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The failure of a command is the test's unless it says otherwise."""
        finished = subprocess.run(
            [*self.command, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert not check or finished.returncode == 0, finished.stderr
        return finished


@pytest.fixture(scope="module", autouse=True)
def host_unchanged() -> None:
    """In the place of the check after each test: the daemon keeps mounts and processes while it runs."""


@pytest.fixture(scope="module")
def archive(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files as both engines import them."""
    place = tmp_path_factory.mktemp("archive") / "minimal.tar"
    subprocess.run(["tar", "-C", image.rootfs, "-cf", place, "."], check=True)
    return place


@pytest.fixture(scope="module")
def docker(archive: Path) -> Iterator[Engine]:
    """A daemon that knows our runtime and the image."""
    for program in ("/usr/sbin/dockerd", "/usr/bin/docker"):
        if not Path(program).exists():
            pytest.skip("docker is not installed: apt-get install docker.io")
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--add-runtime", f"pybench={PROGRAM}", "--default-runtime", "pybench")
        with docker_daemon(Path(folder), *flags) as client:
            call = Engine(client)
            call("import", str(archive), "minimal")
            yield call
            assert call("ps", "-aq").stdout == ""
        assert groups_of("docker") == []
        assert not list(Path(folder).rglob("record.json"))


@pytest.fixture(scope="module")
def podman(archive: Path) -> Iterator[Engine]:
    """Our runtime under podman, with a storage of its own, and the image."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed: apt-get install podman crun")
    with tempfile.TemporaryDirectory() as folder:
        places = ("--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp")
        flags = ("--runtime", PROGRAM, "--cgroup-manager", "cgroupfs", "--events-backend", "none")
        call = Engine(("podman", *flags, *places))
        call("import", str(archive), "minimal")
        yield call
        assert call("ps", "-aq").stdout == ""
        call("rmi", "--all", "--force")
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()[::-1]:
            if (mounted := line.split()[4]).startswith(folder):
                subprocess.run(["umount", mounted], check=True)


def groups_of(parent: str) -> list[Path]:
    """Groups of containers below the parent that an engine puts them in."""
    return [path for path in Path("/sys/fs/cgroup").glob(f"*/{parent}/*") if path.is_dir()]


ALONE = ("run", "--rm", "--network", "none")


class TestDocker:
    """What Docker's users do all day."""

    def test_its_default_confinement(self, docker: Engine) -> None:
        """Docker's own configuration is honoured: capabilities, filter, masks, host name, environment."""
        script = (
            "cat /proc/self/status /proc/sys/kernel/hostname; cat /proc/timer_list | wc -c; echo $A; ls /dev"
        )
        said = docker(*ALONE, "-h", "box", "-e", "A=b", "minimal", "/bin/sh", "-c", script).stdout
        assert "CapEff:\t00000000a80425fb" in said
        assert "Seccomp:\t2" in said
        assert {"box", "0", "b", "null", "shm", "mqueue"} <= set(said.split())

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            (("/bin/sh", "-c", "exit 7"), 7),
            (("nothing",), 127),
            (("/etc",), 126),
            (("/etc/passwd",), 126),
            (("/bin/sh", "-c", "kill -9 $$; sh -c 'kill -9 $$'; exit $?"), 137),
        ],
    )
    def test_statuses(self, docker: Engine, words: tuple[str, ...], status: int) -> None:
        """Docker gives the status of the program, or tells what kept it from running."""
        assert docker(*ALONE, "minimal", *words, check=False).returncode == status

    def test_a_life(self, docker: Engine) -> None:
        """Run, exec, pause, stats, update, stop and start again."""
        script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"
        box = docker("run", "-d", "--network", "none", "minimal", "/bin/sh", "-c", script).stdout.strip()
        try:
            said = docker(
                "exec", "-w", "/tmp", "-u", "5:6", "-e", "B=c", box, "/bin/sh", "-c", "pwd; id -u; echo $B"
            )
            assert said.stdout.split() == ["/tmp", "5", "c"]
            assert docker("exec", box, "nothing", check=False).returncode in {126, 127}
            assert docker("exec", box, "/bin/sh", "-c", "exit 9", check=False).returncode == 9
            docker("pause", box)
            assert state_of(docker, box)["Paused"]
            docker("unpause", box)
            stats = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", box).stdout)
            assert int(stats["PIDs"]) >= 1
            assert not stats["MemUsage"].startswith("0B")
            docker("update", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "33", box)
            group = next(iter(Path("/sys/fs/cgroup/pids/docker").glob(f"{box}*")))
            assert (group / "pids.max").read_text(encoding="ascii").strip() == "33"
            assert box[:12] in docker("ps").stdout
            assert "trap 'exit 3' TERM" in docker("top", box).stdout
            docker("stop", "--time", "120", box)
            assert state_of(docker, box)["ExitCode"] == 3
            docker("start", box)
            assert state_of(docker, box)["Running"]
            docker("kill", "--signal", "KILL", box)
            assert docker("wait", box).stdout.strip() == "137"
            assert docker("logs", box).stdout.split() == ["up", "up"]
        finally:
            docker("rm", "--force", box)

    def test_a_terminal(self, docker: Engine) -> None:
        """`run -it` has a terminal of the container's own, `exec -it` another one."""
        # Docker's client tells the size once the container runs.
        script = "tty; until stty size 2>&1 | grep '^[1-9]'; do sleep 0.05; done; exit 4"
        command = [*docker.command, *ALONE, "-it", "minimal", "/bin/sh", "-c", script]
        said, status = in_terminal(command)
        assert status == 4
        assert said.split()[:3] == ["/dev/pts/0", "24", "80"]

    def test_files_and_limits(self, docker: Engine, tmp_path: Path) -> None:
        """Volumes, a tmpfs, a read-only root, a user, dropped capabilities, limits."""
        (tmp_path / "file").write_text("shared", encoding="ascii")
        script = (
            "cat /v/file; touch /v/new; touch /w/x || touch /x || echo refused; touch /t/x;"
            "grep -E 'Cap(Prm|Bnd)' /proc/self/status; id -u; ulimit -n; cat /proc/sys/net/ipv4/ip_forward"
        )
        finished = docker(
            *ALONE, "-v", f"{tmp_path}:/v", "-v", f"{tmp_path}:/w:ro", "--tmpfs", "/t:size=64k,mode=1777",
            "--read-only", "--user", "0:5", "--cap-drop", "ALL", "--ulimit", "nofile=99:100", "--init=false",
            "--sysctl", "net.ipv4.ip_forward=1", "--memory", "32m", "--cpus", "0.5", "--pids-limit", "20",
            "--shm-size", "1m", "--security-opt", "no-new-privileges", "--device", "/dev/null:/dev/hole",
            "minimal", "/bin/sh", "-c", script,
        )  # fmt: skip
        assert finished.stdout.split() == [
            "sharedrefused", "CapPrm:", "0" * 16, "CapBnd:", "0" * 16, "0", "99", "1",
        ]  # fmt: skip
        assert (tmp_path / "new").stat().st_gid == 5

    def test_privileged(self, docker: Engine) -> None:
        """Everything this host has to give, and no filter."""
        script = "grep -E 'CapEff|Seccomp:' /proc/self/status; mkdir /m; mount -t tmpfs t /m && echo mounted"
        said = docker(*ALONE, "--privileged", "minimal", "/bin/sh", "-c", script).stdout
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own = int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)
        # Docker knows the first 38 of them, and newer ones of later kernels as it grows older.
        assert int(said.split()[1], 16) & (1 << 38) - 1 == own & (1 << 38) - 1
        assert "Seccomp:\t0" in said
        assert "mounted" in said

    def test_out_of_memory(self, docker: Engine) -> None:
        """Status 137, and Docker knows why."""
        hog = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
        box = docker(
            "run", "-d", "--network", "none", "--memory", "16m", "minimal", "/bin/sh", "-c", hog
        ).stdout.strip()
        try:
            assert docker("wait", box).stdout.strip() == "137"
            assert state_of(docker, box)["OOMKilled"]
        finally:
            docker("rm", "--force", box)

    def test_namespaces_of_another_container(self, docker: Engine) -> None:
        """Network, pid and IPC of another container are joined."""
        first = docker("run", "-d", "--network", "none", "--ipc", "shareable", "minimal", "/bin/sleep", "600")
        box = first.stdout.strip()
        try:
            shared = (f"--{kind}=container:{box}" for kind in ("network", "pid", "ipc"))
            script = "tr '\\0' ' ' </proc/1/cmdline; ls /sys/class/net"
            said = docker("run", "--rm", *shared, "minimal", "/bin/sh", "-c", script).stdout
            assert said.startswith("/bin/sleep 600 ")
            assert "lo" in said.split()
        finally:
            docker("rm", "--force", box)


class TestPodman:
    """The same through podman and its monitor, conmon."""

    # Podman raises these limits by default, and a host may not allow that.
    LIMITS = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")

    def test_a_life(self, podman: Engine) -> None:
        """Run, exec, pause, stop and remove."""
        script = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
        words = ("run", "-d", "--network", "none", *self.LIMITS, "minimal", "/bin/sh", "-c", script)
        box = podman(*words).stdout.strip()
        try:
            said = podman(
                "exec",
                "-w",
                "/tmp",
                "-u",
                "5:6",
                box,
                "/bin/sh",
                "-c",
                "pwd; id -u; grep Seccomp: /proc/1/status",
            )
            assert said.stdout.split() == ["/tmp", "5", "Seccomp:", "2"]
            assert podman("exec", box, "/bin/sh", "-c", "exit 9", check=False).returncode == 9
            assert podman("exec", box, "nothing", check=False).returncode in {126, 127}
            podman("pause", box)
            podman("unpause", box)
            podman("stop", "--time", "120", box)
            assert json.loads(podman("inspect", box).stdout)[0]["State"]["ExitCode"] == 3
        finally:
            podman("rm", "--force", box)

    @pytest.mark.parametrize(
        ("words", "status"), [(("/bin/sh", "-c", "exit 7"), 7), (("nothing",), 127), (("/etc",), 126)]
    )
    def test_statuses(self, podman: Engine, words: tuple[str, ...], status: int) -> None:
        """Podman gives the status of the program, or tells what kept it from running."""
        assert podman(*ALONE, *self.LIMITS, "minimal", *words, check=False).returncode == status

    def test_its_own_configuration(self, podman: Engine, tmp_path: Path) -> None:
        """A read-only root, a volume, a tmpfs, limits, and a user namespace."""
        tmp_path.chmod(0o755)
        (tmp_path / "file").write_text("shared", encoding="ascii")
        script = "cat /v/file; touch /x || echo refused; touch /tmp/x && id -u; cat /proc/self/uid_map"
        # As podman would have it, /tmp starts with the image's files.
        files = ("-v", f"{tmp_path}:/v:ro", "--mount", "type=tmpfs,destination=/tmp,notmpcopyup")
        ids = ("--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536", "--user", "7")
        limits = (*self.LIMITS, "--memory", "32m", "--pids-limit", "30")
        words = ("--read-only", "--read-only-tmpfs=false", *files, *ids, *limits)
        said = podman(*ALONE, *words, "minimal", "/bin/sh", "-c", script).stdout
        assert said.split() == ["sharedrefused", "7", "0", "200000", "65536"]


def state_of(docker: Engine, box: str) -> dict[str, object]:
    """What Docker knows of a container."""
    state: dict[str, object] = json.loads(docker("inspect", "--format", "{{json .State}}", box).stdout)
    return state


def in_terminal(command: list[str]) -> tuple[str, int]:
    """What a command says in a terminal of 24 lines of 80, and its status."""
    master, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, start_new_session=True) as process:
        os.close(end)
        said = b""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                piece = os.read(master, 1000)
            except OSError:
                break
            said += piece
        status = process.wait(PATIENCE)
    os.close(master)
    return said.decode(), status
