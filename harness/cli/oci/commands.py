"""What each command of `pybench-oci` does; every one takes the parsed line and returns the exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pybench.harness.cli.oci.log import PROGRAM, log
from pybench.runtime.errors import InputError, LeftoverError, PybenchError

if TYPE_CHECKING:
    from pybench.runtime.container.lifecycle.create import Created, Handover
    from pybench.runtime.container.lifecycle.record import ContainerDirectory
    from pybench.runtime.container.specification.model import Process


def _directory(parsed: argparse.Namespace) -> ContainerDirectory:
    from pybench.runtime.container.lifecycle.record import ContainerDirectory, default_root  # noqa: PLC0415

    if parsed.systemd_cgroup:
        raise InputError("--systemd-cgroup is not supported", "let the engine use cgroupfs")
    return ContainerDirectory(parsed.root or default_root(), parsed.id)


def create_container(parsed: argparse.Namespace) -> int:
    """Create a container whose program waits for `start`."""
    os.close(_created(parsed).pidfd)
    return 0


def _handover(parsed: argparse.Namespace) -> Handover:
    from pybench.runtime.container.lifecycle.create import Handover  # noqa: PLC0415

    return Handover(
        console_socket=parsed.console_socket, preserve_fds=parsed.preserve_fds, pid_file=parsed.pid_file
    )


def _created(parsed: argparse.Namespace) -> Created:
    from pybench.runtime.container.lifecycle.create import create  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    if parsed.no_pivot:
        raise InputError("--no-pivot is not supported: the host's tree would stay within reach")
    with open_journal() as journal:
        created = create(journal, _directory(parsed), parsed.bundle, _handover(parsed))
    for warning in created.warnings:
        log(parsed, "warning", warning)
    return created


def start_container(parsed: argparse.Namespace) -> int:
    """Run the program of a created container."""
    from pybench.runtime.container.lifecycle.control import start  # noqa: PLC0415

    for warning in start(_directory(parsed)):
        log(parsed, "warning", warning)
    return 0


def run_container(parsed: argparse.Namespace) -> int:
    """Create and start a container; its status is returned unless it is detached."""
    from pybench.runtime.container.lifecycle.control import delete, start  # noqa: PLC0415

    directory = _directory(parsed)
    created = _created(parsed)
    signals = None if parsed.detach else _PassedOn()
    try:
        for warning in start(directory):
            log(parsed, "warning", warning)
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


def print_state(parsed: argparse.Namespace) -> int:
    """Print the state of a container as the specification has it."""
    directory = _directory(parsed)
    print(json.dumps(directory.state(directory.read()), indent=2))
    return 0


def kill_container(parsed: argparse.Namespace) -> int:
    """Send a signal to a container."""
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


def delete_container(parsed: argparse.Namespace) -> int:
    """Remove what is left of a container."""
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
        log(parsed, "warning", warning)
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
            log(parsed, "debug", done)
    except LeftoverError as error:
        # The container itself is gone.
        log(parsed, "warning", error.message)


def start_process(parsed: argparse.Namespace) -> int:
    """Start a process in a running container; its status is returned unless it is detached."""
    from pybench.runtime.container.lifecycle.join import execute  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    directory = _directory(parsed)
    process = _process(parsed, directory)
    signals = None if parsed.detach else _PassedOn()
    with open_journal() as journal:
        joined = execute(journal, directory, process, _handover(parsed))
    if signals is None:
        os.close(joined.pidfd)
        return 0
    return signals.wait(joined.pidfd)


def _process(parsed: argparse.Namespace, directory: ContainerDirectory) -> Process:
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


def list_containers(parsed: argparse.Namespace) -> int:
    """List the containers below the root."""
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


def list_processes(parsed: argparse.Namespace) -> int:
    """List the processes of a container, by the pids of this host."""
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


def pause_container(parsed: argparse.Namespace) -> int:
    """Stop every process of a container."""
    from pybench.runtime.container.lifecycle.control import pause  # noqa: PLC0415

    pause(_directory(parsed))
    return 0


def resume_container(parsed: argparse.Namespace) -> int:
    """Let a paused container go on."""
    from pybench.runtime.container.lifecycle.control import resume  # noqa: PLC0415

    resume(_directory(parsed))
    return 0


def update_limits(parsed: argparse.Namespace) -> int:
    """Change the limits of a running container."""
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


def print_statistics(parsed: argparse.Namespace) -> int:
    """Print what a container uses, as `events --stats` of runc does."""
    from pybench.runtime.container.cgroup.events import statistics_of  # noqa: PLC0415
    from pybench.runtime.container.lifecycle.control import group_of  # noqa: PLC0415

    directory = _directory(parsed)
    statistics = statistics_of(group_of(directory.read()))
    print(json.dumps({"type": "stats", "id": directory.id, "data": statistics}))
    return 0


def print_features(_parsed: argparse.Namespace) -> int:
    """Print what of the specification is supported."""
    from pybench.runtime.container.features import features  # noqa: PLC0415

    print(json.dumps(features(), indent=2))
    return 0


def write_example(parsed: argparse.Namespace) -> int:
    """Write an example config.json."""
    from pybench.runtime.container.features import example  # noqa: PLC0415

    path = parsed.bundle / "config.json"
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(example(), file, indent=4)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return 0
