"""The flags of `pybench-oci`, which are runc's, and the function that each command stands for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pybench.harness.cli.oci import commands
from pybench.harness.cli.oci.log import PROGRAM
from pybench.runtime.errors import InputError

Command = Callable[[argparse.Namespace], int]
"""Takes the parsed line, returns the exit status."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that a mistake reaches the log that docker reads."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"{self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole line; what is parsed has the command's function as `run`, or None without a command."""
    whole = _Parser(prog=PROGRAM, description="Runs OCI bundles in pybench's containers.")
    whole.set_defaults(run=None)
    whole.add_argument("--root", type=Path, help="where the state of containers is kept")
    whole.add_argument("--log", default="", help="append errors and warnings to this file")
    whole.add_argument("--log-format", choices=("text", "json"), default="text")
    whole.add_argument("--debug", action="store_true", help="log also what is of no concern")
    whole.add_argument(
        "--systemd-cgroup", action="store_true", help="refused: cgroupsPath is taken as a path"
    )
    whole.add_argument("--rootless", help="accepted; found out by itself")
    whole.add_argument("--version", "-v", action=_Version, nargs=0, help="print the version")
    added = whole.add_subparsers(parser_class=_Parser)
    _add_creating(added)
    _add_controlling(added)
    _add_exec(added)
    _add_telling(added)
    return whole


def _add_creating(added: Any) -> None:  # noqa: ANN401
    for name, function in (("create", commands.create_container), ("run", commands.run_container)):
        command = _add(added, name, function, f"{name} a container from a bundle")
        command.add_argument("--bundle", "-b", type=Path, default=Path())
        _add_handover(command)
        command.add_argument(
            "--no-pivot", action="store_true", help="refused: nothing else keeps the host's tree out"
        )
        command.add_argument(
            "--no-new-keyring", action="store_true", help="accepted; a keyring is made all the same"
        )
        if name == "run":
            command.add_argument("--detach", "-d", action="store_true")
            command.add_argument("--keep", action="store_true", help="do not delete it when it has ended")
        command.add_argument("id")


def _add_controlling(added: Any) -> None:  # noqa: ANN401
    _add_of_one(added, "start", commands.start_container, "run the program of a created container")
    command = _add_of_one(added, "kill", commands.kill_container, "send a signal to a container")
    command.add_argument("signal", nargs="?", default="SIGTERM")
    command.add_argument("--all", "-a", action="store_true", help="to every process in it")
    command = _add_of_one(added, "delete", commands.delete_container, "remove what is left of a container")
    command.add_argument("--force", "-f", action="store_true", help="kill it if it still runs")
    _add_of_one(added, "pause", commands.pause_container, "stop every process of a container")
    _add_of_one(added, "resume", commands.resume_container, "let a paused container go on")
    command = _add_of_one(added, "update", commands.update_limits, "change the limits of a running container")
    command.add_argument(
        "--resources", "-r", required=True, help="file of linux.resources; - for standard input"
    )


def _add_exec(added: Any) -> None:  # noqa: ANN401
    command = _add(added, "exec", commands.start_process, "start a process in a running container")
    command.add_argument("--process", "-p", type=Path, help="file with the process, as in config.json")
    _add_handover(command)
    command.add_argument("--detach", "-d", action="store_true")
    command.add_argument("--tty", "-t", action="store_true")
    command.add_argument("--cwd")
    command.add_argument("--env", "-e", action="append", default=[])
    command.add_argument("--user", "-u", help="UID[:GID]")
    command.add_argument("id")
    command.add_argument("command", nargs=argparse.REMAINDER)


def _add_telling(added: Any) -> None:  # noqa: ANN401
    _add_of_one(added, "state", commands.print_state, "print the state of a container")
    command = _add(added, "list", commands.list_containers, "list containers")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("--quiet", "-q", action="store_true", help="ids alone")
    command = _add_of_one(added, "ps", commands.list_processes, "list the processes of a container")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command = _add_of_one(added, "events", commands.print_statistics, "print what a container uses")
    command.add_argument("--stats", action="store_true", required=True)
    _add(added, "features", commands.print_features, "print what of the specification is supported")
    command = _add(added, "spec", commands.write_example, "write an example config.json")
    command.add_argument("--bundle", "-b", type=Path, default=Path())


def _add_handover(command: argparse.ArgumentParser) -> None:
    """What a new process gets of whoever asks for it."""
    command.add_argument("--console-socket", type=Path)
    command.add_argument("--pid-file", type=Path)
    command.add_argument("--preserve-fds", type=int, default=0)


def _add_of_one(added: Any, name: str, run: Command, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    """A command about one container, whose id follows."""
    command = _add(added, name, run, text)
    command.add_argument("id")
    return command


def _add(added: Any, name: str, run: Command, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    command: argparse.ArgumentParser = added.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


class _Version(argparse.Action):
    """Says which version this is; podman reads it."""

    def __call__(self, *_details: object) -> NoReturn:
        from importlib.metadata import version  # noqa: PLC0415

        from pybench.runtime.container.defaults import VERSION  # noqa: PLC0415

        print(f"{PROGRAM} version {version('pybench-harness')}\nspec: {VERSION}")
        raise SystemExit(0)
