"""A process of the host with tokens in command line, environment and memory, and one that forks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError
from pybench.harness.errors import LeftoverError
from pybench.runtime.container.leftovers import start_ticks

VARIABLE: Final = "PYBENCH_CANARY"
_LIFE: Final = "3600"
"""Seconds: it ends by itself where nobody is left to end it."""
_ENVIRONMENT_START, _ENVIRONMENT_END = 47, 48
"""Fields 50 and 51 of proc_pid_stat(5), counted from the state, which is the third."""
FORK_INTERVAL: Final = 0.01


class ProcessCanary(Canary):
    """`sleep`, called by a token, with another one in its environment."""

    name = "process"

    def plant(self, removal: ExitStack) -> None:
        """Start it in a session of its own."""
        sleep = shutil.which("sleep")
        if sleep is None:
            raise CannotPlantError(
                "there is no program `sleep` to run as a canary", "apt-get install coreutils"
            )
        self.command_token, self.environment_token = self.token(), self.token()
        process = subprocess.Popen(
            [self.command_token, _LIFE],
            executable=sleep,
            env={VARIABLE: self.environment_token},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        removal.callback(_end, process)
        journal = self.planting.journal
        number = journal.record("session", session=process.pid, started=start_ticks(process.pid) or 0)
        removal.callback(journal.forget, number)
        self.pid = process.pid

    @property
    def environment_block(self) -> tuple[int, int]:
        """Address and length of its environment in its memory; zeros where the host does not tell."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        start, end = int(fields[_ENVIRONMENT_START]), int(fields[_ENVIRONMENT_END])
        return start, min(end - start, 4096)


class ForkingCanary(Canary):
    """A thread of the harness that starts a program again and again, so that the host's pids move on."""

    name = "forking"

    def plant(self, removal: ExitStack) -> None:
        """Start it."""
        program = shutil.which("true")
        if program is None:
            raise CannotPlantError(
                "there is no program `true` to run as a canary", "apt-get install coreutils"
            )
        ended = threading.Event()
        thread = threading.Thread(target=_fork, args=(program, ended), name="pybench-fork", daemon=True)
        thread.start()
        removal.callback(thread.join)
        removal.callback(ended.set)


def _fork(program: str, ended: threading.Event) -> None:
    while not ended.wait(FORK_INTERVAL):
        with contextlib.suppress(OSError):
            os.waitpid(os.posix_spawn(program, [program], {}), 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired as error:
        raise LeftoverError(f"the canary process {process.pid} survived SIGKILL") from error
