"""`pybench-oci`: the command line of an OCI runtime, with runc's flags, for docker and podman to drive.

https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md

argparse, because its flags are runc's and each call of docker's waits for it: what is not needed at
once is imported where it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pybench.runtime.errors import InputError, LeftoverError, PybenchError

if TYPE_CHECKING:
    from pybench.runtime.container.lifecycle.record import ContainerDirectory

PROGRAM: Final = "pybench-oci"
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
_WORDS_OF_GO: Final = {
    "No such file or directory": "no such file or directory",
    "Permission denied": "permission denied",
    # Which is what execve says of one.
    "Is a directory": "is a directory: permission denied",
}


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that a mistake reaches the log that docker reads."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"{self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = argparse.Namespace(log="", log_format="text", debug=False)
    try:
        _parser().parse_args(arguments, parsed)
        if parsed.run is None:
            raise InputError("a command is required", f"{PROGRAM} --help")
        status: int = parsed.run(parsed)
    except PybenchError as error:
        _log(
            parsed, "error", _as_engines_read_it(f"{error.message}{f' ({error.hint})' if error.hint else ''}")
        )
        return EXIT_USAGE if isinstance(error, InputError) else 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def _as_engines_read_it(message: str) -> str:
    """Reasons in the words of Go, by which docker and podman tell 126 and 127 from other failures."""
    for ours, theirs in _WORDS_OF_GO.items():
        message = message.replace(ours, theirs)
    return message


def _log(parsed: argparse.Namespace, level: str, message: str) -> None:
    """To the log that whoever drives us reads, and errors to the terminal as well."""
    if level == "debug" and not parsed.debug:
        return
    if parsed.log and parsed.log != "/dev/stderr":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = f'time="{now}" level={level} msg={json.dumps(message)}'
        if parsed.log_format == "json":
            line = json.dumps({"level": level, "msg": message, "time": now})
        with contextlib.suppress(OSError), Path(parsed.log).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    if level == "error" or not parsed.log:
        print(f"{PROGRAM}: {message}", file=sys.stderr)


def _parser() -> _Parser:
    parser = _Parser(prog=PROGRAM, description="Runs OCI bundles in pybench's containers.")
    parser.set_defaults(run=None)
    parser.add_argument("--root", type=Path, help="where the state of containers is kept")
    parser.add_argument("--log", default="", help="append errors and warnings to this file")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--debug", action="store_true", help="log also what is of no concern")
    parser.add_argument(
        "--systemd-cgroup", action="store_true", help="refused: cgroupsPath is taken as a path"
    )
    parser.add_argument("--rootless", help="accepted; found out by itself")
    parser.add_argument("--version", "-v", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(parser_class=_Parser)
    for name, function in (("create", _create), ("run", _run)):
        command = _add(commands, name, function, f"{name} a container from a bundle")
        command.add_argument("--bundle", "-b", type=Path, default=Path())
        command.add_argument("--console-socket", type=Path)
        command.add_argument("--pid-file", type=Path)
        command.add_argument("--preserve-fds", type=int, default=0)
        command.add_argument(
            "--no-pivot", action="store_true", help="refused: nothing else keeps the host's tree out"
        )
        command.add_argument(
            "--no-new-keyring", action="store_true", help="accepted; a keyring is made all the same"
        )
        if name == "run":
            command.add_argument("--detach", "-d", action="store_true")
            command.add_argument("--keep", action="store_true", help="do not delete it when it has ended")
        _identifier(command)
    _identifier(_add(commands, "start", _start, "run the program of a created container"))
    _identifier(_add(commands, "state", _state, "print the state of a container"))
    command = _identifier(_add(commands, "kill", _kill, "send a signal to a container"))
    command.add_argument("signal", nargs="?", default="SIGTERM")
    command.add_argument("--all", "-a", action="store_true", help="to every process in it")
    command = _identifier(_add(commands, "delete", _delete, "remove what is left of a container"))
    command.add_argument("--force", "-f", action="store_true", help="kill it if it still runs")
    _add_exec(commands)
    command = _add(commands, "list", _list, "list containers")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("--quiet", "-q", action="store_true", help="ids alone")
    command = _identifier(_add(commands, "ps", _ps, "list the processes of a container"))
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    _identifier(_add(commands, "pause", _pause, "stop every process of a container"))
    _identifier(_add(commands, "resume", _resume, "let a paused container go on"))
    command = _identifier(_add(commands, "update", _update, "change the limits of a running container"))
    command.add_argument(
        "--resources", "-r", required=True, help="file of linux.resources; - for standard input"
    )
    command = _identifier(_add(commands, "events", _events, "print what a container uses"))
    command.add_argument("--stats", action="store_true", required=True)
    _add(commands, "features", _features, "print what of the specification is supported")
    command = _add(commands, "spec", _spec, "write an example config.json")
    command.add_argument("--bundle", "-b", type=Path, default=Path())
    return parser


def _add(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _identifier(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("id")
    return command


def _add_exec(commands: Any) -> None:  # noqa: ANN401
    command = _add(commands, "exec", _exec, "start a process in a running container")
    command.add_argument("--process", "-p", type=Path, help="file with the process, as in config.json")
    command.add_argument("--console-socket", type=Path)
    command.add_argument("--pid-file", type=Path)
    command.add_argument("--preserve-fds", type=int, default=0)
    command.add_argument("--detach", "-d", action="store_true")
    command.add_argument("--tty", "-t", action="store_true")
    command.add_argument("--cwd")
    command.add_argument("--env", "-e", action="append", default=[])
    command.add_argument("--user", "-u", help="UID[:GID]")
    _identifier(command)
    command.add_argument("command", nargs=argparse.REMAINDER)


class _Version(argparse.Action):
    """Says which version this is; podman reads it."""

    def __call__(self, *_details: object) -> NoReturn:
        from importlib.metadata import version  # noqa: PLC0415

        from pybench.runtime.container.defaults import VERSION  # noqa: PLC0415

        print(f"{PROGRAM} version {version('pybench-harness')}\nspec: {VERSION}")
        raise SystemExit(0)


def _directory(parsed: argparse.Namespace) -> ContainerDirectory:
    from pybench.runtime.container.lifecycle.record import ContainerDirectory, default_root  # noqa: PLC0415

    if parsed.systemd_cgroup:
        raise InputError("--systemd-cgroup is not supported", "let the engine use cgroupfs")
    return ContainerDirectory(parsed.root or default_root(), parsed.id)


def _create(parsed: argparse.Namespace) -> int:
    os.close(_created(parsed).pidfd)
    return 0


def _created(parsed: argparse.Namespace) -> Any:  # noqa: ANN401
    from pybench.runtime.container.lifecycle.create import Handover, create  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    if parsed.no_pivot:
        raise InputError("--no-pivot is not supported: the host's tree would stay within reach")
    handover = Handover(
        console_socket=parsed.console_socket, preserve_fds=parsed.preserve_fds, pid_file=parsed.pid_file
    )
    with open_journal() as journal:
        created = create(journal, _directory(parsed), parsed.bundle, handover)
    for warning in created.warnings:
        _log(parsed, "warning", warning)
    return created


def _start(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import start  # noqa: PLC0415

    for warning in start(_directory(parsed)):
        _log(parsed, "warning", warning)
    return 0


def _run(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import delete, start  # noqa: PLC0415

    directory = _directory(parsed)
    created = _created(parsed)
    signals = None if parsed.detach else _PassedOn()
    try:
        for warning in start(directory):
            _log(parsed, "warning", warning)
    except PybenchError:
        delete(directory, force=True)
        raise
    if signals is None:
        os.close(created.pidfd)
        return 0
    status = signals.wait(created.pidfd)
    if not parsed.keep:
        delete(directory, force=True)
    return status


class _PassedOn:
    """Signals that this process gets from now on are for the one that it is about to start."""

    _NUMBERS = (
        signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    )  # fmt: skip

    def __init__(self) -> None:
        self._pidfd = -1
        self._early: list[int] = []
        for number in self._NUMBERS:
            signal.signal(number, lambda received, _frame: self._receive(received))

    def _receive(self, number: int) -> None:
        if self._pidfd < 0:
            self._early.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, pidfd: int) -> int:
        """The exit status of the process as a shell gives it."""
        self._pidfd = pidfd
        for number in self._early:
            self._receive(number)
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        # Not closed: a signal that comes now must not be sent to what has the number next.
        if result is None:
            return 1
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def _state(parsed: argparse.Namespace) -> int:
    directory = _directory(parsed)
    print(json.dumps(directory.state(directory.read()), indent=2))
    return 0


def _kill(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import send_signal  # noqa: PLC0415

    send_signal(_directory(parsed), _signal_number(parsed.signal), everybody=parsed.all)
    return 0


def _signal_number(text: str) -> int:
    if text.isdecimal() and 0 < int(text) <= signal.SIGRTMAX:
        return int(text)
    name = text.upper().removeprefix("SIG")
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InputError(f"{text[:40]!r} is not a signal", "kill -l lists them") from None


def _delete(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import delete  # noqa: PLC0415

    directory = _directory(parsed)
    try:
        warnings = delete(directory, force=parsed.force)
    except InputError:
        if not parsed.force or directory.path.exists():
            raise
        # Its creator may have been killed before it had a directory, but not before it had anything.
        directory.leave()
        warnings = ()
    for warning in warnings:
        _log(parsed, "warning", warning)
    if parsed.force:
        _remove_leftovers(parsed)
    return 0


def _remove_leftovers(parsed: argparse.Namespace) -> None:
    """What a `create` that was killed had made for itself."""
    from pybench.runtime.journal import journals  # noqa: PLC0415

    if not journals():
        return
    from pybench.runtime.leftovers import remove_leftovers  # noqa: PLC0415

    try:
        for done in remove_leftovers():
            _log(parsed, "debug", done)
    except LeftoverError as error:
        # The container itself is gone.
        _log(parsed, "warning", error.message)


def _exec(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.create import Handover  # noqa: PLC0415
    from pybench.runtime.container.lifecycle.join import execute  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    directory = _directory(parsed)
    handover = Handover(
        console_socket=parsed.console_socket, preserve_fds=parsed.preserve_fds, pid_file=parsed.pid_file
    )
    process = _process(parsed, directory)
    signals = None if parsed.detach else _PassedOn()
    with open_journal() as journal:
        joined = execute(journal, directory, process, handover)
    if signals is None:
        os.close(joined.pidfd)
        return 0
    return signals.wait(joined.pidfd)


def _process(parsed: argparse.Namespace, directory: ContainerDirectory) -> Any:  # noqa: ANN401
    """The process that is to join: from a file, or the container's own with another command."""
    from dataclasses import replace  # noqa: PLC0415

    from pybench.runtime.container.specification.bundle import parse_process  # noqa: PLC0415

    if parsed.process:
        try:
            return parse_process(parsed.process.read_bytes(), str(parsed.process))[0]
        except OSError as error:
            raise InputError(f"--process {parsed.process}: {error.strerror}") from error
    process = directory.specification().process
    words = tuple(parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command)
    if process is None or not words:
        raise InputError("exec needs a command", f"{PROGRAM} exec ID COMMAND")
    user = process.user
    if parsed.user:
        numbers = parsed.user.split(":")
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):  # noqa: PLR2004
            raise InputError(f"--user {parsed.user}: is not UID[:GID]")
        user = replace(user, uid=int(numbers[0]), gid=int(numbers[-1]) if len(numbers) > 1 else user.gid)
    return replace(
        process,
        args=words,
        terminal=parsed.tty,
        env=(*process.env, *parsed.env),
        cwd=parsed.cwd or process.cwd,
        user=user,
    )


def _list(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.record import containers, default_root  # noqa: PLC0415

    found = [
        {**directory.state(record), "created": record.created}
        for directory, record in containers(parsed.root or default_root())
    ]
    if parsed.quiet:
        print(*(each["id"] for each in found), sep="\n")
    elif parsed.format == "json":
        print(json.dumps(found))
    else:
        columns = ("id", "pid", "status", "bundle", "created")
        rows = [tuple(column.upper() for column in columns)]
        rows += [tuple(str(each[column]) for column in columns) for each in found]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _ps(parsed: argparse.Namespace) -> int:
    import psutil  # noqa: PLC0415

    from pybench.runtime.container.lifecycle.control import processes  # noqa: PLC0415

    pids = processes(_directory(parsed).read())
    if parsed.format == "json":
        print(json.dumps(pids))
        return 0
    print(f"{'UID':>10} {'PID':>8} {'PPID':>8} COMMAND")
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            command = ascii(" ".join(process.cmdline()) or process.name())[1:-1]
            print(f"{process.uids().effective:>10} {pid:>8} {process.ppid():>8} {command}")
    return 0


def _pause(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import pause  # noqa: PLC0415

    pause(_directory(parsed))
    return 0


def _resume(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.lifecycle.control import resume  # noqa: PLC0415

    resume(_directory(parsed))
    return 0


def _update(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.cgroup.resources import change_of  # noqa: PLC0415
    from pybench.runtime.container.cgroup.update import update  # noqa: PLC0415
    from pybench.runtime.container.lifecycle.control import group_of  # noqa: PLC0415
    from pybench.runtime.container.specification.bundle import load_json  # noqa: PLC0415
    from pybench.runtime.container.specification.decode import decode  # noqa: PLC0415
    from pybench.runtime.container.specification.resources import Resources  # noqa: PLC0415

    directory = _directory(parsed)
    try:
        text = sys.stdin.buffer.read() if parsed.resources == "-" else Path(parsed.resources).read_bytes()
    except OSError as error:
        raise InputError(f"--resources {parsed.resources}: {error.strerror}") from error
    resources = decode(Resources, load_json(text), "resources", [])
    with directory.locked():
        update(group_of(directory.read()), change_of(resources))
    return 0


def _events(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.cgroup.events import statistics_of  # noqa: PLC0415
    from pybench.runtime.container.lifecycle.control import group_of  # noqa: PLC0415

    directory = _directory(parsed)
    statistics = statistics_of(group_of(directory.read()))
    print(json.dumps({"type": "stats", "id": directory.id, "data": statistics}))
    return 0


def _features(_parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.features import features  # noqa: PLC0415

    print(json.dumps(features(), indent=2))
    return 0


def _spec(parsed: argparse.Namespace) -> int:
    from pybench.runtime.container.features import example  # noqa: PLC0415

    path = parsed.bundle / "config.json"
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(example(), file, indent=4)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return 0
