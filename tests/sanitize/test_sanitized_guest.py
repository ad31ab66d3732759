"""The C programs that run inside: those of the image, and the init of a virtual machine's guest.

The init runs here as pid 1 of its own namespaces, with pseudo-terminals as its serial lines and without
the capabilities by which it would reach this machine's ports and its power. Its modules and control
groups are left out: they are the machine's own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import REPOSITORY, UNDEFINED, UNDEFINED_AND_ADDRESS, Compile

from pybench.runtime.container.instance import Instance, Readiness, launch
from pybench.runtime.container.sandbox import NAMESPACES, stdio_steps
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import Attach, Capabilities, CopyTree, Pivot, Step
from pybench.runtime.container.system_calls import CLONE_NEWUSER
from pybench.runtime.journal import Journal
from pybench.runtime.vm.workload import GuestWorkload
from pybench.runtime.workload_files import WorkloadFile

WORKLOAD = REPOSITORY / "vm-images" / "minimal" / "workload.c"
MEASURE = tuple(sorted((REPOSITORY / "vm-images" / "minimal").glob("measure*.c")))
INIT = tuple(sorted((REPOSITORY / "runtime" / "vm" / "guest").glob("*.c")))

CAP_SYS_RAWIO, CAP_SYS_BOOT = 17, 22
ROOT_SLOT, MARKS_SLOT, OUTPUT_SLOT = 5, 6, 7


@pytest.fixture(scope="module")
def workload(compiled: Compile) -> Path:
    """The workload with both sanitizers."""
    return compiled((WORKLOAD,), UNDEFINED_AND_ADDRESS)


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (("exit", "7"), 7, ""),
        (("exit", "256"), 64, ""),
        (("exit", "99999999999999999999"), 64, ""),
        (("exit", ""), 64, ""),
        (("exit", "-1"), 64, ""),
        ((), 64, ""),
        (("ready", "--text"), 64, ""),
    ],
)
def test_the_workload_reads_its_arguments(
    workload: Path, arguments: tuple[str, ...], code: int, printed: str
) -> None:
    """Codes, overflows and wrong usage end it as documented, with no finding."""
    finished = subprocess.run([workload, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert (finished.returncode, finished.stdout) == (code, printed)
    assert finished.stderr == "" or finished.stderr.startswith("usage: ")


@pytest.fixture(scope="module")
def measure(compiled: Compile) -> Path:
    """The program that measures throughput, with both sanitizers."""
    return compiled(MEASURE, UNDEFINED_AND_ADDRESS)


def test_every_kind_of_measure_runs_without_a_finding(measure: Path, tmp_path: Path) -> None:
    """All that it can measure and every limit that it can try."""
    kinds = subprocess.run([measure, "kinds"], capture_output=True, text=True, check=True, timeout=30)
    limits = ("limit.processor", "limit.memory", "limit.processes")
    options = ("--milliseconds", "20", "--size", str(4 << 20), "--limit", "3", "--directory", str(tmp_path))
    for kind in (*kinds.stdout.split(), *limits):
        finished = subprocess.run(
            [measure, kind, *options], capture_output=True, text=True, check=False, timeout=60
        )
        if "O_DIRECT" in finished.stderr:
            continue  # a temporary folder in memory has no disk beneath it
        assert (finished.returncode, finished.stderr) == (0, ""), kind
        assert finished.stdout.startswith("begin\n{"), kind


@pytest.mark.parametrize("text", ["short", "x" * 511, "x" * 512, "x" * 5000])
def test_the_workload_prints_lines_of_any_length(workload: Path, text: str) -> None:
    """A line that just fits its buffer, one that does not, and the end on SIGTERM."""
    reader, writer = os.pipe()
    command = [str(workload), "ready", "--text", text]
    environment = {"PYBENCH_MARK_FD": str(writer)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, pass_fds=(writer,)) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == text.encode() + b"\n"
        assert os.read(reader, 100) == b"exec\n"
        process.terminate()
        assert process.wait(10) == 0
    os.close(reader)


@pytest.mark.parametrize(("clock", "told"), [("exec", ["exec"]), ("line", ["exec", "line"])])
def test_the_workload_tells_what_its_clock_shows(workload: Path, clock: str, told: list[str]) -> None:
    """Each instant that is asked for lies between the start and its arrival; then it tells no more."""
    reader, writer = os.pipe()
    environment = {"PYBENCH_MARK_FD": str(writer), "PYBENCH_MARK_CLOCK": clock}
    before = time.monotonic_ns()
    with subprocess.Popen(
        [workload, "ready"], stdout=subprocess.PIPE, env=environment, pass_fds=(writer,)
    ) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with os.fdopen(reader, "rb") as marks:
            lines = [line.decode().split() for line in marks]
        process.terminate()
        assert process.wait(10) == 0
    assert [name for name, _ in lines] == told
    instants = [before, *(int(number) for _, number in lines), time.monotonic_ns()]
    assert instants == sorted(instants)


def test_the_workload_floods_until_nobody_reads(workload: Path) -> None:
    """It ends when its reader goes, whatever it is told about the signal."""
    with subprocess.Popen([workload, "flood"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1 << 16)) == 1 << 16
        process.stdout.close()
        assert process.wait(10) in {1, -signal.SIGPIPE}


class Guest:
    """An init that runs, and the host's ends of its serial lines."""

    def __init__(self, instance: Instance, marks: int, output: int) -> None:
        self.instance = instance
        self._marks = marks
        self._output = output

    def tell(self, line: str) -> None:
        """Say something to it."""
        os.write(self._marks, line.encode())

    def marks(self, until: str) -> list[str]:
        """The lines that it has told the host, up to one that begins like this."""
        lines = read_until(self._marks, until).splitlines()
        # What it says next may have come along.
        return lines[: next(number for number, line in enumerate(lines) if line.startswith(until)) + 1]

    def output(self, until: str) -> str:
        """What its workload printed."""
        return read_until(self._output, until)


def read_until(descriptor: int, wanted: str) -> str:
    """What arrives up to the end of the line that begins with some text."""
    text, deadline = "", time.monotonic() + 10
    while not any(line.startswith(wanted) and line.endswith("\n") for line in text.splitlines(keepends=True)):
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"no line {wanted!r} after {text!r}"
        text += os.read(descriptor, 4096).decode().replace("\r", "")
    return text


@pytest.fixture(scope="module")
def root(compiled: Compile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest's root: init and workload, static and with the sanitizer of undefined behaviour."""
    root = tmp_path_factory.mktemp("guest")
    root.chmod(0o755)  # the workload may be another user
    for name in ("dev", "proc", "sys", "tmp", "run", ".pybench"):
        (root / name).mkdir()
    (root / "dev" / "ttyS1").touch()
    (root / "dev" / "ttyS2").touch()
    compiled(INIT, (*UNDEFINED, "-static")).rename(root / "init")
    compiled((WORKLOAD,), (*UNDEFINED, "-static")).rename(root / "workload")
    return root


@pytest.fixture
def guest(journal: Journal, root: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """The init with the record that the test's parameter is."""
    (root / ".pybench" / "workload").write_bytes(request.param)
    marks, marks_end = os.openpty()
    output, output_end = os.openpty()
    kept = harmless_capabilities()
    steps: tuple[Step, ...] = (
        CopyTree(ROOT_SLOT, str(root)),
        CopyTree(MARKS_SLOT, os.ttyname(marks_end)),
        CopyTree(OUTPUT_SLOT, os.ttyname(output_end)),
        Attach(ROOT_SLOT, "/"),
        Pivot(ROOT_SLOT),
        Attach(MARKS_SLOT, "/dev/ttyS1"),
        Attach(OUTPUT_SLOT, "/dev/ttyS2"),
        Capabilities(kept, kept, kept),
        *stdio_steps(marking=False),
    )
    program = Program.compile(steps, ("/init",), {}, NAMESPACES & ~CLONE_NEWUSER)
    with Spawner(journal) as spawner:
        instance = spawner.call(lambda: launch(spawner, program, Readiness(marking=False, line=None), 10))
        try:
            yield Guest(instance, marks, output)
            assert instance.tail.text == ""  # where the sanitizer says what it has found
        finally:
            instance.kill()
            instance.release()
            for descriptor in (marks, marks_end, output, output_end):
                os.close(descriptor)


def harmless_capabilities() -> int:
    """All that this process has, but those that reach the machine's ports and switch it off."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    permitted = int(status.split("CapPrm:")[1].split()[0], 16)
    return permitted & ~(1 << CAP_SYS_RAWIO | 1 << CAP_SYS_BOOT)


def record(*command: str, marking: bool = False) -> bytes:
    """What the host writes for the init to read."""
    return GuestWorkload(command=command, environment={"A": "b"}, host_name="box", marking=marking).record()


@pytest.mark.parametrize("guest", [record("/workload", "exit", "3")], indirect=True, ids=["guest"])
def test_init_reports_an_exit_code(guest: Guest) -> None:
    """From its own set-up over the execve to the workload's end, the host hears of each."""
    assert guest.marks("exit") == ["kernel tty", "sandbox", "execve", "exit 3"]


@pytest.mark.parametrize("guest", [record("/workload", "ready", marking=True)], indirect=True, ids=["guest"])
def test_init_passes_output_and_signals(guest: Guest) -> None:
    """The workload's mark and line arrive, and the word to stop reaches it."""
    assert guest.marks("exec") == ["kernel tty", "sandbox", "exec"]
    assert guest.output("ready") == "ready\n"
    guest.tell("nonsense\n")
    guest.tell("stop\n")
    assert guest.marks("exit") == ["stopping", "exit 0"]


@pytest.mark.parametrize(
    "guest", [record("/workload", "stubborn", marking=True)], indirect=True, ids=["guest"]
)
def test_init_kills_what_does_not_stop(guest: Guest) -> None:
    """A workload that ignores SIGTERM is ended by the word to kill it."""
    assert guest.output("ready") == "ready\n"
    guest.tell("kill\n")
    assert guest.marks("signal")[-1] == "signal 9"


@pytest.mark.parametrize(
    "guest",
    [
        GuestWorkload(
            command=("/workload", "exit", "5"),
            identity=(65534, 65533, 65532, 65531),
            files=(WorkloadFile("/tmp/new/folder/a", b"first", 0o600), WorkloadFile("/tmp/b", b"", 0o755)),
        ).record()
    ],
    indirect=True,
    ids=["guest"],
)
def test_init_names_a_file_that_did_not_come_along(guest: Guest) -> None:
    """A record with a user and files is read; without the files themselves nothing is run."""
    assert guest.marks("error")[-1] == "error open /.pybench/files: No such file or directory"


@pytest.mark.parametrize(
    "guest",
    [GuestWorkload(command=("/workload", "exit", "5"), identity=(65534, 65533, 65532, 65531)).record()],
    indirect=True,
    ids=["guest"],
)
def test_init_becomes_another_user(guest: Guest) -> None:
    """User, group and further groups are taken on before the workload is executed."""
    assert guest.marks("exit")[-1] == "exit 5"


@pytest.mark.parametrize("guest", [record("/nowhere")], indirect=True, ids=["guest"])
def test_init_reports_a_missing_command(guest: Guest) -> None:
    """An execve that fails is told with its reason."""
    assert guest.marks("error")[-1] == "error execve /nowhere: No such file or directory"


@pytest.mark.parametrize(
    "guest",
    [
        b"",
        b"pybench-workload-2",
        record("/workload")[:-12],
        b"pybench-workload-2\0box\0/\0\0" + b"0\0" + b"1\0" + b"5\0",
        b"pybench-workload-2\0box\0/\0\0" + b"99999999999999999999\0",
        b"pybench-workload-2\0box\0/\0\0" + b"4096\0x\0",
        b"pybench-workload-2\0box\0/\0\0" + b"-1\0x\0",
        b"x" * (256 * 1024),
    ],
    indirect=True,
    ids=["empty", "short", "cut", "group missing", "overflow", "too few", "negative", "too long"],
)
def test_init_refuses_a_broken_record(guest: Guest) -> None:
    """A record that is empty, cut short, too long or counts wrongly is named, and nothing is run."""
    assert guest.marks("error")[-1].startswith("error read /.pybench/workload: ")
