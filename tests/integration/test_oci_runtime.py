"""The commands of `pybench-oci`, as whoever drives an OCI runtime calls them, and the states between them."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
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

SLEEP = ("/bin/sleep", "600")


def test_from_create_to_delete(runtime: Runtime) -> None:
    """Every state on the way of a container, and what is known of it in each."""
    configuration = container_configuration(*SLEEP)
    configuration["annotations"] = {"org.example": "yes"}
    with runtime.created(configuration) as box:
        created = runtime.state(box)
        assert created == {
            "ociVersion": "1.2.0",
            "id": box,
            "status": "created",
            "pid": created["pid"],
            "bundle": created["bundle"],
            "annotations": {"org.example": "yes"},
        }
        assert Path(f"/proc/{created['pid']}/comm").read_text(encoding="utf-8") != "sleep\n"
        runtime.call("start", box)
        assert Path(f"/proc/{created['pid']}/comm").read_text(encoding="utf-8") == "sleep\n"
        assert runtime.state(box) == {**created, "status": "running"}
        runtime.call("pause", box)
        assert runtime.status(box) == "paused"
        runtime.call("resume", box)
        assert runtime.status(box) == "running"
        runtime.call("kill", box, "KILL")
        runtime.wait_for_end(box)
        assert runtime.state(box)["pid"] == 0
        runtime.call("delete", box)
        assert "does not exist" in runtime.refusal("state", box)


def test_what_a_state_forbids_is_refused_and_changes_nothing(runtime: Runtime) -> None:
    """Each command in a state in which it makes no sense fails and names the container and its state."""
    with runtime.created(container_configuration(*SLEEP)) as box:
        assert f"{box}: it is created" in runtime.refusal("resume", box)
        runtime.call("pause", box)
        assert f"{box}: it is paused" in runtime.refusal("start", box)
        runtime.call("resume", box)
        runtime.call("start", box)
        for command in ("start", "resume", "delete"):
            assert "running" in (said := runtime.refusal(command, box))
            assert box in said
        runtime.call("pause", box)
        for command in ("start", "pause", "delete", "exec"):
            words = ("/bin/true",) if command == "exec" else ()
            assert "paused" in runtime.refusal(command, box, *words)
        # What is frozen dies all the same.
        runtime.call("kill", box, "KILL")
        runtime.call("resume", box)
        runtime.wait_for_end(box)
        for command in ("start", "pause", "resume", "kill", "exec"):
            words = ("/bin/true",) if command == "exec" else ()
            assert "stopped" in runtime.refusal(command, box, *words)
        assert runtime.status(box) == "stopped"


@pytest.mark.parametrize("command", ["start", "state", "kill", "delete", "pause", "resume", "ps", "events"])
def test_an_unknown_container_is_an_error(runtime: Runtime, command: str) -> None:
    """No command makes up a container; forced deletion alone is content with nothing."""
    flags = ("--stats",) if command == "events" else ()
    assert "container nobody does not exist" in runtime.refusal(command, *flags, "nobody")
    if command == "delete":
        runtime.call("delete", "--force", "nobody")


def test_an_id_is_given_once(runtime: Runtime) -> None:
    """A second container of the same id is refused, and the first one is not touched."""
    configuration = container_configuration(*SLEEP)
    with runtime.started(configuration) as box:
        bundle = str(runtime.bundle(configuration))
        assert f"container {box} exists already" in runtime.refusal("create", "--bundle", bundle, box)
        assert runtime.status(box) == "running"
        assert "cannot be the id" in runtime.refusal("create", "--bundle", bundle, "../box")


def test_a_created_container_is_deleted_without_having_run(runtime: Runtime) -> None:
    """What was never started may be deleted at once."""
    with runtime.created(container_configuration(*SLEEP)) as box:
        pid = runtime.state(box)["pid"]
        runtime.call("delete", box)
        assert has_ended(pid)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$; sleep 9", 143)]
)
def test_run_gives_the_status_of_the_program(runtime: Runtime, script: str, status: int) -> None:
    """The exit status, or 128 and the signal."""
    # Signals without a handler do not reach the first process of a pid namespace.
    configuration = container_configuration("/bin/sh", "-c", f"sh -c '{script}'; exit $?")
    assert runtime.run(configuration, check=False).returncode == status


def test_run_passes_signals_and_streams_on(runtime: Runtime) -> None:
    """Input reaches the program, its output and errors come back, and a signal ends it."""
    finished = runtime.run(shell_configuration("cat; echo wrong >&2; exit 3"), input_="given\n", check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, "given\n", "wrong\n")
    bundle = runtime.bundle(
        shell_configuration("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    )
    with runtime.begin("run", "--bundle", str(bundle), runtime.new_id()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5


def test_signals_by_name_and_number(runtime: Runtime) -> None:
    """A signal is given as TERM, SIGTERM or 15; what is none is refused."""
    script = 'for n in USR1 USR2 TERM; do trap "echo $n" $n; done; echo up; while :; do sleep 0.02; done'
    with runtime.started(shell_configuration(script)) as box:
        wait_until(lambda: "up" in runtime.output(box))
        for given, name in (("USR1", "USR1"), ("SIGUSR2", "USR2"), ("15", "TERM")):
            runtime.call("kill", box, given)
            wait_until(lambda name=name: f"{name}\n" in runtime.output(box))  # type: ignore[misc]
        assert "is not a signal" in runtime.refusal("kill", box, "SIGNONE")


def test_kill_all_reaches_every_process(runtime: Runtime) -> None:
    """With --all a signal goes to every process of the group."""
    child = "trap 'echo child; exit' USR1; echo up; while :; do sleep 0.02; done"
    script = f'sh -c "{child}" & trap : USR1; while :; do wait; done'
    with runtime.started(shell_configuration(script)) as box:
        wait_until(lambda: "up" in runtime.output(box))
        runtime.call("kill", "--all", box, "USR1")
        wait_until(lambda: "child" in runtime.output(box))


def test_processes_and_containers_are_listed(runtime: Runtime) -> None:
    """`ps` shows the processes of one container by the host's pids, `list` the containers."""
    with runtime.started(shell_configuration("sleep 600 & sleep 601; true")) as box:
        wait_until(lambda: len(json.loads(runtime.call("ps", "--format", "json", box).stdout)) == 3)
        pids = json.loads(runtime.call("ps", "-f", "json", box).stdout)
        assert runtime.state(box)["pid"] in pids
        table = runtime.call("ps", box).stdout.splitlines()
        assert table[0].split() == ["UID", "PID", "PPID", "COMMAND"]
        assert {"sleep 600", "sleep 601"} <= {" ".join(line.split()[3:]) for line in table[1:]}
        assert runtime.call("list", "--quiet").stdout.split() == [box]
        listed = json.loads(runtime.call("list", "--format", "json").stdout)
        assert [(each["id"], each["status"]) for each in listed] == [(box, "running")]
        assert runtime.call("list").stdout.splitlines()[1].split()[:3] == [
            box, str(runtime.state(box)["pid"]), "running",
        ]  # fmt: skip
    assert runtime.call("list", "-q").stdout.split() == []
    assert json.loads(runtime.call("list", "-f", "json").stdout) == []


def test_limits_are_changed_and_use_is_told(runtime: Runtime) -> None:
    """`update` writes new limits into the group, `events --stats` reads what it uses."""
    configuration = container_configuration(*SLEEP)
    set_value(configuration, "linux.resources", {"pids": {"limit": 20}, "memory": {"limit": 64 << 20}})
    with runtime.started(configuration) as box:
        group = runtime.group(box, "pids")
        assert (group / "pids.max").read_text(encoding="ascii") == "20\n"
        change = json.dumps({"pids": {"limit": 30}, "cpu": {"shares": 512}})
        runtime.call("update", "--resources", "-", box, input_=change)
        assert (group / "pids.max").read_text(encoding="ascii") == "30\n"
        assert (runtime.group(box, "cpu") / "cpu.shares").read_text(encoding="ascii") == "512\n"
        events = json.loads(runtime.call("events", "--stats", box).stdout)
        assert (events["type"], events["id"]) == ("stats", box)
        assert events["data"]["pids"]["current"] == 1
        assert events["data"]["memory"]["usage"]["limit"] == 64 << 20
        said = runtime.call("update", "-r", "-", box, input_='{"pids": {"limit": "x"}}', check=False)
        assert "resources.pids.limit" in said.stderr


def test_the_pid_file_holds_the_pid(runtime: Runtime, tmp_path: Path) -> None:
    """It is there, whole, when `create` and `exec` have ended."""
    place = tmp_path / "pid"
    with runtime.created(container_configuration(*SLEEP), "--pid-file", str(place)) as box:
        assert int(place.read_text(encoding="ascii")) == runtime.state(box)["pid"]
        runtime.call("start", box)
        runtime.detach("exec", "--detach", "--pid-file", str(place), box, "/bin/sleep", "555")
        pid = int(place.read_text(encoding="ascii"))
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\000555\0"
    bundle = str(runtime.bundle(container_configuration(*SLEEP)))
    nowhere = str(tmp_path / "none" / "pid")
    assert "--pid-file" in runtime.refusal(
        "create", "--bundle", bundle, "--pid-file", nowhere, runtime.new_id()
    )


def test_preserved_descriptors_are_inherited_and_no_others(runtime: Runtime, tmp_path: Path) -> None:
    """As many as are asked for, from 3 on; none of the runtime's own."""
    (tmp_path / "note").write_text("kept", encoding="ascii")
    bundle = str(runtime.bundle(shell_configuration("cat <&3; echo; ls /proc/self/fd")))
    with (tmp_path / "note").open("rb") as note, contextlib.ExitStack() as stack:
        # The number 3 is the test runner's to give, so a shell in between puts the file there.
        command = (PROGRAM, "--root", str(runtime.root), "run", "--preserve-fds", "1", "--bundle", bundle)
        identifier = runtime.new_id()
        script = f'exec 3<&{note.fileno()}; exec "$@"'
        process = stack.enter_context(
            subprocess.Popen(
                ["/bin/bash", "-c", script, "sh", *command, identifier],
                stdout=subprocess.PIPE, text=True, pass_fds=[note.fileno()],
            )
        )  # fmt: skip
        runtime.makers.append(process.pid)
        output, _ = process.communicate(timeout=PATIENCE)
    assert output.split() == ["kept", "0", "1", "2", "3", "4"], "4 is the directory that ls reads"


@contextlib.contextmanager
def console_socket(directory: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket that takes a terminal."""
    path = str(directory / "console.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(PATIENCE)
        yield path, listener
    Path(path).unlink()


def take_master(listener: socket.socket) -> int:
    """The master of the terminal that was sent."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE)
        _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    ((level, kind, data),) = ancillary
    assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    return array.array("i", data[:4])[0]


def read_until(master: int, text: bytes) -> bytes:
    """What a terminal says, up to some text."""
    said = b""
    while text not in said:
        piece = os.read(master, 1000)
        assert piece, said
        said += piece
    return said


class TestTerminal:
    """A terminal of the container's own, whose master is handed out."""

    def test_of_a_container(self, runtime: Runtime, tmp_path: Path) -> None:
        """It is the controlling terminal, has the size that was asked for, and is /dev/console too."""
        script = (
            "stty size; tty; ls -l /dev/console; test -t 0 && echo yes; read line </dev/tty; echo got $line"
        )
        configuration = shell_configuration(script)
        configuration["process"] |= {"terminal": True, "consoleSize": {"height": 33, "width": 99}}
        with (
            console_socket(tmp_path) as (path, listener),
            runtime.created(configuration, "--console-socket", path) as box,
        ):
            master = take_master(listener)
            runtime.call("start", box)
            said = read_until(master, b"yes").decode()
            assert said.split("\r\n")[:2] == ["33 99", "/dev/pts/0"]
            assert "crw--w----" in said or "crw-------" in said
            os.write(master, b"something\n")
            read_until(master, b"got something")
            os.close(master)
            runtime.wait_for_end(box)

    def test_of_a_process_that_joins(self, runtime: Runtime, tmp_path: Path) -> None:
        """The window can be resized, and the line's interrupt key reaches the foreground."""
        with (
            runtime.started(container_configuration(*SLEEP)) as box,
            console_socket(tmp_path) as (path, listener),
        ):
            script = "trap 'stty size; echo interrupted' INT; echo up; read line; echo end"
            words = ("exec", "--tty", "--detach", "--console-socket", path, box, "/bin/sh", "-c", script)
            with runtime.begin(*words) as process:
                master = take_master(listener)
                assert process.wait(PATIENCE) == 0
            read_until(master, b"up")
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 50, 120, 0, 0))
            os.write(master, b"\x03")
            said = read_until(master, b"interrupted")
            assert b"50 120" in said
            os.close(master)

    def test_belongs_to_the_process_user(self, runtime: Runtime, tmp_path: Path) -> None:
        """Who is not root can open its terminal again."""
        configuration = shell_configuration("echo hello >$(tty); stat -c owner=%u $(tty)")
        configuration["process"] |= {"terminal": True, "user": {"uid": 1000, "gid": 1000}}
        with (
            console_socket(tmp_path) as (path, listener),
            runtime.created(configuration, "--console-socket", path) as box,
        ):
            master = take_master(listener)
            runtime.call("start", box)
            assert b"hello" in read_until(master, b"owner=1000")
            os.close(master)

    def test_needs_a_socket(self, runtime: Runtime, tmp_path: Path) -> None:
        """Without one, with one and no terminal, and with one that nobody listens on: an error."""
        plain, terminal = container_configuration(*SLEEP), container_configuration(*SLEEP)
        terminal["process"]["terminal"] = True
        nowhere = str(tmp_path / "nowhere.sock")
        for configuration, flags in (
            (terminal, ()),
            (plain, ("--console-socket", nowhere)),
            (terminal, ("--console-socket", nowhere)),
        ):
            finished = runtime.run(configuration, *flags, check=False)
            assert finished.returncode != 0
            assert "console-socket" in finished.stderr


class TestExec:
    """A process that joins a running container."""

    def test_shares_all_that_the_first_process_has(self, runtime: Runtime) -> None:
        """Namespaces, control groups, root, environment, no_new_privs and what was asked for beside."""
        with runtime.started(container_configuration(*SLEEP)) as box:
            pid = runtime.state(box)["pid"]
            script = "for kind in /proc/self/ns/*; do readlink $kind; done; cat /proc/self/cgroup;"
            script += "echo $COLOUR $SHAPE $PWD $(id -u) $(id -g)"
            words = ("--env", "SHAPE=round", "--cwd", "/tmp", "--user", "7:8", box, "/bin/sh", "-c", script)
            said = runtime.call("exec", *words).stdout.splitlines()
            kinds = sorted(Path(f"/proc/{pid}/ns").iterdir())
            assert said[: len(kinds)] == [str(kind.readlink()) for kind in kinds]
            groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
            assert sorted(said[len(kinds) : -1]) == sorted(groups)
            assert said[-1] == "green round /tmp 7 8"
            shown = runtime.call(
                "exec", box, "/bin/sh", "-c", "cat /proc/self/status; ls /proc/self/fd"
            ).stdout
            assert "NoNewPrivs:\t1" in shown
            assert "CapBnd:\t0000000000000000" in shown
            assert shown.split()[-4:] == ["0", "1", "2", "3"], "3 is the directory that ls reads"

    def test_takes_a_process_from_a_file(self, runtime: Runtime, tmp_path: Path) -> None:
        """With --process everything is as the file says, nothing as the container's process has it."""
        with runtime.started(container_configuration(*SLEEP)) as box:
            process = {
                "args": ["sh", "-c", "echo [$COLOUR] $PWD $(id -u) $(umask); grep Cap /proc/self/status"],
                "env": ["PATH=/bin"],
                "cwd": "/tmp/new",
                "user": {"uid": 5, "gid": 6, "umask": 0o27},
                "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective")},
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
            }
            (tmp_path / "process.json").write_text(json.dumps(process), encoding="utf-8")
            said = runtime.call("exec", "--process", str(tmp_path / "process.json"), box).stdout.splitlines()
            assert said[0] == "[] /tmp/new 5 0027"
            sets = {line.split()[0]: int(line.split()[1], 16) for line in said[1:]}
            assert (sets["CapBnd:"], sets["CapPrm:"], sets["CapAmb:"]) == (1 << 5, 0, 0), "execve as no root"
            (tmp_path / "process.json").write_text('{"args": [], "cwd": "/"}', encoding="utf-8")
            assert "process.args" in runtime.refusal("exec", "-p", str(tmp_path / "process.json"), box)
            assert "no such file" in runtime.refusal("exec", "-p", str(tmp_path / "none"), box)

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            ("/bin/nothing", "no such file or directory"),
            ("nothing", "no such file or directory"),
            ("/etc", "is a directory"),
            ("/etc/passwd", "permission denied"),
        ],
    )
    def test_of_no_program_is_an_error(self, runtime: Runtime, command: str, reason: str) -> None:
        """What cannot be executed is named with the reason, and the container goes on."""
        with runtime.started(container_configuration(*SLEEP)) as box:
            said = runtime.refusal("exec", box, command)
            assert command in said
            assert reason in said
            assert runtime.status(box) == "running"

    def test_gives_the_status_and_ends_with_the_container(self, runtime: Runtime) -> None:
        """Status and streams are those of the process; the end of the container is its end."""
        with runtime.started(container_configuration(*SLEEP)) as box:
            assert "needs a command" in runtime.refusal("exec", box)
            assert "--preserve-fds 99" in runtime.refusal("exec", "--preserve-fds", "99", box, "/bin/true")
            assert "--console-socket" in runtime.refusal("exec", "--tty", box, "/bin/true")
            finished = runtime.call("exec", box, "sh", "-c", "cat; exit 9", input_="in", check=False)
            assert (finished.returncode, finished.stdout) == (9, "in")
            with runtime.begin("exec", box, "/bin/sh", "-c", "echo up; sleep 600") as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "up\n"
                runtime.call("kill", box, "KILL")
                assert process.wait(PATIENCE) == 137


class TestLog:
    """Errors in the log, which docker and podman read."""

    def test_as_json(self, runtime: Runtime, tmp_path: Path) -> None:
        """One object a line, with level, message and time."""
        log = tmp_path / "log.json"
        flags = ("--log", str(log), "--log-format", "json")
        runtime.refusal(*flags, "start", "nobody")
        runtime.refusal(*flags, "state", "nobody")
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        assert [sorted(line) for line in lines] == [["level", "msg", "time"]] * 2
        assert all(line["level"] == "error" and "nobody does not exist" in line["msg"] for line in lines)

    def test_as_text_and_with_warnings(self, runtime: Runtime, tmp_path: Path) -> None:
        """In logfmt; what is no error does not reach the terminal."""
        log = tmp_path / "log.txt"
        configuration = container_configuration("/bin/true")
        configuration["colour"] = "green"
        bundle = str(runtime.bundle(configuration))
        finished = runtime.call("--log", str(log), "run", "--bundle", bundle, runtime.new_id())
        assert finished.stderr == ""
        assert 'level=warning msg="colour: not a property' in log.read_text(encoding="utf-8")

    def test_of_bad_usage(self, runtime: Runtime, tmp_path: Path) -> None:
        """Also what is wrong with the command line itself is written down."""
        log = tmp_path / "log"
        assert runtime.call("--log", str(log), "start", check=False).returncode == 2
        assert "required: id" in log.read_text(encoding="utf-8")
        for words in ((), ("fly",), ("--systemd-cgroup", "state", "x"), ("create", "--no-pivot", "x")):
            runtime.refusal(*words)


def test_features_and_version(runtime: Runtime) -> None:
    """What is supported is told in the specification's own form."""
    features = json.loads(runtime.call("features").stdout)
    assert features["ociVersionMin"] == "1.0.0"
    assert set(features["hooks"]) == {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    }  # fmt: skip
    assert "rbind" in features["mountOptions"]
    assert "CAP_CHOWN" in features["linux"]["capabilities"]
    assert runtime.call("--version").stdout.splitlines()[1] == f"spec: {features['ociVersionMax']}"


def test_the_example_configuration_runs(runtime: Runtime) -> None:
    """What `spec` writes is a bundle's configuration; an existing one is not written over."""
    bundle = runtime.bundle({})
    (bundle / "config.json").unlink()
    runtime.call("spec", "--bundle", str(bundle))
    assert "File exists" in runtime.refusal("spec", "--bundle", str(bundle))
    finished = runtime.call(
        "run", "--bundle", str(bundle), runtime.new_id(), input_="hostname; touch /x\n", check=False
    )
    assert finished.stdout == "pybench\n"
    assert "Read-only file system" in finished.stderr
