"""Running other programs: argument lists only, bounded output, a time limit, nothing left running."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING, Final

from pybench.runtime.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OUTPUT_LIMIT: Final = 1 << 20
"""Bytes kept of each of a program's two output streams; the rest is read and dropped."""

_CHUNK: Final = 1 << 16
_TIE: Final = ("setpriv", "--pdeathsig", "TERM", "--")
_GRACE: Final = 5.0
"""Seconds between the request to end and the kill, and after the kill."""
_LOOK: Final = 0.005


class CommandError(HostError):
    """A program ended with an error; `output` is the end of what it printed, standard error last."""

    def __init__(self, message: str, hint: str, output: str) -> None:
        super().__init__(message, hint)
        self.output = output


def tied(command: Sequence[str]) -> list[str]:
    """The command as one that is asked to end when this process dies, however it dies.

    For what takes minutes; a short one ends soon enough. The program has to be there.
    """
    return [*_TIE, *command]


def _name(command: Sequence[str]) -> str:
    return command[len(_TIE)] if tuple(command[: len(_TIE)]) == _TIE else command[0]


def run(
    command: Sequence[str],
    *,
    package: str,
    timeout: float = 60.0,
    directory: Path | None = None,
    source: IO[bytes] | None = None,
    sink: IO[bytes] | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it printed on standard output.

    Args:
        command: the program and its arguments.
        package: the Debian package that contains the program.
        timeout: seconds after which it is killed.
        directory: its working directory.
        source: the file to read standard input from; empty otherwise.
        sink: the file to write standard output to; nothing is returned then.
        variables: environment variables to set beside those of this process.

    Raises:
        HostError: the program is missing, cannot be started, or took too long.
        CommandError: it ended with an error.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=source or subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", **(variables or {})},
            # A group of its own, so that its children can be killed with it.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise HostError(f"{command[0]} is missing", f"apt-get install {package}") from error
    except OSError as error:
        raise HostError(f"cannot start {command[0]}: {error.strerror}") from error
    with process:
        try:
            output, errors = _collect(process, time.monotonic() + timeout)
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise HostError(f"{_name(command)} did not finish within {timeout:g} s") from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode:
        raise _failure(command, process.returncode, f"{output}\n{errors}".strip())
    return output


def _collect(process: subprocess.Popen[bytes], deadline: float) -> tuple[str, str]:
    kept = {stream.fileno(): bytearray() for stream in (process.stdout, process.stderr) if stream}
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise subprocess.TimeoutExpired(process.args, deadline)
            for key, _ in selector.select(remaining):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                kept[key.fd] += chunk[: OUTPUT_LIMIT - len(kept[key.fd])]
    texts = [bytes(data).decode(errors="replace") for data in kept.values()]
    return ("", texts[0]) if process.stdout is None else (texts[0], texts[1])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children; first they are asked, so that they can remove temporary files."""
    if process.returncode is not None:
        return
    pidfd = os.pidfd_open(process.pid)
    try:
        os.killpg(process.pid, signal.SIGTERM)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(_GRACE * 1e3)
        # Not reaped yet, so the number still means this group, whoever is left in it.
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(pidfd)
    process.wait()
    # Its children are not ours to wait for; until the last has ended they may write where we clean up next.
    deadline = time.monotonic() + _GRACE
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(_LOOK)


def _failure(command: Sequence[str], code: int, output: str) -> CommandError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = f": {printable(lines[-1])}" if lines else ""
    hint = "free some space" if "No space left on device" in output else ""
    how = f"was killed by signal {-code}" if code < 0 else f"failed with code {code}"
    return CommandError(f"{_name(command)} {how}{said}", hint, output)


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line, without control characters, at most `limit` characters."""
    return "".join(character if character.isprintable() else "�" for character in text[:limit])
