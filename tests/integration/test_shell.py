"""`pybench shell` through a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pybench.runtime.journal import journals
from pybench.vm_images import Image

PYBENCH = str(Path(sys.executable).with_name("pybench"))
PATIENCE = 90.0
ATTEMPTS = 30


@dataclass
class Terminal:
    """A user at a terminal in which a command runs."""

    master: int
    process: subprocess.Popen[bytes]
    seen: str = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def expect(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until it has printed this; what was printed up to there is taken."""
        deadline = time.monotonic() + patience
        while (found := re.search(pattern, self.seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError as error:
                    raise AssertionError(f"it ended; {pattern!r} is not in {self.seen!r}") from error
        self.seen = self.seen[found.end() :]
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C until the shell answers again: what it is to end may not have begun on a busy host."""
        for attempt in range(1001, 1001 + ATTEMPTS):
            self.type(f"\x03echo over $((1 * {attempt}))\n")
            with contextlib.suppress(AssertionError):
                self.expect(f"over {attempt}", PATIENCE / ATTEMPTS)
                return
        pytest.fail(f"Ctrl-C ended nothing; {self.seen!r}")

    def suspend(self) -> None:
        """Press Ctrl-Z until the shell tells that something has stopped."""
        for _ in range(ATTEMPTS):
            self.type("\x1a")
            with contextlib.suppress(AssertionError):
                self.expect("Stopped", PATIENCE / ATTEMPTS)
                return
        pytest.fail(f"Ctrl-Z stopped nothing; {self.seen!r}")

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, of which the foreground process hears."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextlib.contextmanager
def at_terminal(*arguments: str) -> Iterator[Terminal]:
    """`pybench shell` with a terminal of its own as the controlling one."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    process = subprocess.Popen(
        [PYBENCH, "shell", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other thread is alive
        env={**os.environ, "TERM": "vt100"},
    )
    before = termios.tcgetattr(slave)
    terminal = Terminal(master, process)
    try:
        yield terminal
        process.wait(PATIENCE)
        assert termios.tcgetattr(slave) == before
    finally:
        if process.poll() is None:
            # A shell that is asked to end takes its container along: another test would find that.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()
        os.close(slave)
        os.close(master)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No shell leaves a journal or state behind."""
    before = set(journals())
    yield
    assert {path for path in journals() if path not in before and _abandoned(path)} == set()


def _abandoned(path: Path) -> bool:
    return not Path("/proc", path.name.partition("-")[0]).exists()


def test_a_shell_in_a_container_is_a_terminal(image: Image) -> None:
    """Prompt, a terminal of the window's size, its changes, Ctrl-C, job control, and the exit code."""
    del image
    with at_terminal("container", "minimal") as terminal:
        terminal.expect("# ")
        terminal.type("tty; stty size; echo $TERM; hostname\n")
        terminal.expect(r"/dev/pts/0\s+30 90\s+vt100\s+minimal")
        terminal.expect("# ")
        terminal.resize(50, 120)
        # The size is the new one at once for whoever asks after the signal has passed.
        for _ in range(50):
            terminal.type("stty size\n")
            if terminal.expect(r"\n(\d+ \d+)\r?\n").group(1) == "50 120":
                break
        else:
            pytest.fail("the change of size did not arrive")
        terminal.type("sleep 1000\n")
        terminal.interrupt()
        terminal.type("sleep 1000 &\njobs\n")
        terminal.expect(r"\[1\]\+? .*sleep 1000")
        # A key that sends a signal discards what was typed and not yet read, so `fg` has to have begun.
        terminal.expect("# ")
        terminal.type("fg\n")
        terminal.expect(r"fg\s+sleep 1000")
        terminal.suspend()
        # One Ctrl-Z more may stand at the prompt by now.
        terminal.type("\x03fg\n")
        terminal.interrupt()
        # Nor may the shell keep a job that was stopped once more: it warns of it, and leaves when told again.
        terminal.type("exit 7\nexit 7\n")
    assert terminal.process.returncode == 7


def test_a_command_of_ones_own_and_its_end(image: Image, tmp_path: Path) -> None:
    """A command with a volume and a writable root; the exit code is its own."""
    del image
    (tmp_path / "file").write_text("from the host\n", encoding="utf-8")
    with at_terminal(
        "container", "--writable", "4MiB", "--volume", f"{tmp_path}:/data:rw", "minimal",
        "/bin/sh", "-c", "cat /data/file; echo made > /data/new; touch /x && echo written; exit 3",
    ) as terminal:  # fmt: skip
        terminal.expect(r"from the host\s+written")
    assert terminal.process.returncode == 3
    assert (tmp_path / "new").read_text(encoding="utf-8") == "made\n"


def assert_refused(arguments: tuple[str, ...], message: str, code: int) -> None:
    """One line with the message, one with a hint, the exit code, and nothing else."""
    done = subprocess.run(
        [PYBENCH, "shell", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" …")]
    assert message in lines[0]
    assert lines[0].startswith("pybench: ")
    assert lines[1].startswith("  hint: ")
    assert len(lines) == 2
    assert done.returncode == code


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_goes_away_ends_the_shell(image: Image, number: int) -> None:
    """A signal to the command ends the container, and nothing is left of it."""
    del image
    with at_terminal("container", "minimal") as terminal:
        terminal.expect("# ")
        inside = [int(pid) for pid in _children(terminal.process.pid)]
        assert inside
        terminal.process.send_signal(number)
        terminal.process.wait(PATIENCE)
        assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]
    assert terminal.process.returncode == 130


def _children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


def test_input_that_is_no_terminal_is_passed_on(image: Image) -> None:
    """A script on standard input is what the shell reads, and its end ends it."""
    del image
    done = subprocess.run(
        [PYBENCH, "shell", "container", "minimal"],
        input=b"echo sum $((1 + 2))\nexit 5\n",
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert b"sum 3" in done.stdout
    assert done.returncode == 5


def test_a_shell_as_a_bare_process_is_the_images_program_on_the_host(image: Image) -> None:
    """It is at the same terminal, in the image's directory, and apart from nothing."""
    with at_terminal("process", "minimal") as terminal:
        terminal.expect("# ")
        terminal.type("pwd; cat /proc/self/uid_map; exit 6\n")
        terminal.expect(str(image.rootfs))
        terminal.expect(r"0\s+0\s+4294967295")
    assert terminal.process.returncode == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("container", "nothing-of-that-name"), "there is no image"),
        (("elsewhere", "minimal"), "'elsewhere' has no shell"),
        (("container", "minimal", "/bin/nothing"), "/bin/nothing"),
        (("process", "minimal", "/bin/nothing"), "/bin/nothing"),
        (("process", "--volume", "/etc:/data", "minimal"), "a bare process has no volumes"),
        (("container", "--volume", "/nowhere/at/all:/data", "minimal"), "/nowhere/at/all does not exist"),
        (("container", "--volume", "/etc", "minimal"), "is not SOURCE:DESTINATION"),
        (("container", "--writable", "much", "minimal"), "--writable"),
        (("container", "--profile", "lax", "minimal"), "--profile"),
        (("vm", "--volume", "/etc:/data", "minimal"), "a virtual machine has no volumes"),
        (("vm", "--profile", "strict", "minimal"), "--profile means nothing to vm"),
        (("process", "--network", "bridge", "minimal"), "--network means nothing to process"),
        (("vm", "nothing-of-that-name"), "there is no image"),
        (("vm", "minimal", "/bin/nothing"), "/bin/nothing"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_a_hint(
    image: Image, arguments: tuple[str, ...], message: str
) -> None:
    """Bad input is told in one line with a hint, and the exit code is 2."""
    del image
    assert_refused(arguments, message, 2)


def test_a_machine_larger_than_the_host_is_refused(image: Image) -> None:
    """More memory than there is here: a limit of the host's, told before anything boots."""
    del image
    assert_refused(("vm", "--memory", "400TiB", "minimal"), "is to have 400 TiB, and this host has", 3)


def test_a_shell_in_an_imported_image_is_its_users(image: Image, tmp_path: Path) -> None:
    """User, working directory and environment are those of the image's configuration."""
    from oci_archives import archive_of
    from test_container_root import base_layer

    layer = base_layer(image)
    config = {"User": "1000:1000", "WorkingDir": "/srv", "Env": ["COLOUR=green", "PATH=/bin"]}
    archive = archive_of(tmp_path / "image.tar", layer, config=config)
    environment = {**os.environ, "PYBENCH_CACHE": str(tmp_path / "cache")}
    subprocess.run(
        [PYBENCH, "images", "import", str(archive), "--name", "mine"],
        check=True,
        capture_output=True,
        env=environment,
        timeout=180,
    )
    done = subprocess.run(
        [PYBENCH, "shell", "container", "mine", "sh", "-c", "id -u; readlink /proc/self/cwd; echo $COLOUR"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=180,
        check=False,
    )
    assert done.stdout.split() == ["1000", "/srv", "green"], done.stderr


def test_a_shell_in_a_virtual_machine_is_a_terminal(image: Image) -> None:
    """The same in a guest: prompt, size, Ctrl-C, exit code."""
    del image
    with at_terminal("vm", "minimal") as terminal:
        terminal.expect("# ", patience=120)
        terminal.type("stty size\n")
        terminal.expect("30 90")
        terminal.type("sleep 1000\n")
        terminal.interrupt()
        terminal.type("exit 9\n")
    assert terminal.process.returncode == 9
