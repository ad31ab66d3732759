"""Commands and files beside a bare process: children of the host, files of the host, all gone in the end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.targets.base import COMMAND_ENVIRONMENT, OUTPUT_LIMIT, Completed
from pybench.harness.targets.commands import copy_by_shell
from pybench.harness.targets.surroundings import Surroundings
from pybench.runtime.container import leftovers
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.interactive import Exchange
from pybench.runtime.container.spawn.spawner import Program, Spawned, Spawner
from pybench.runtime.container.spawn.steps import DeathSignal, Step, WorkingDirectory
from pybench.runtime.files import TemporaryFile
from pybench.runtime.journal import Journal

START_SECONDS: Final = 30.0
"""Until a command must have been executed."""


class BareCommands:
    """What further commands of one instance have made; `end` removes it."""

    def __init__(
        self, spawner: Spawner, journal: Journal, surroundings: Surroundings, group: Group | None
    ) -> None:
        self._spawner = spawner
        self._group = group
        self._journal = journal
        self._surroundings = surroundings
        self._sessions: dict[int, int] = {}
        """Session → its journal entry, of what may still run."""
        self._files: list[TemporaryFile] = []

    def execute(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = COMMAND_ENVIRONMENT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command of the image on the host.

        Raises:
            InstanceError: it could not be started, did not end in time, or printed too much.
        """
        with Exchange(stdin) as exchange, contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(self._surroundings.program(command))
            except InputError as error:
                raise InstanceError(error.message, error.hint) from error
            slots = Slots()
            steps: tuple[Step, ...] = (
                WorkingDirectory("/"),
                *self._surroundings.steps,
                DeathSignal(signal.SIGKILL),
                *exchange.steps([slots.give(each) for each in exchange.descriptors]),
            )
            program = Program.compile(steps, command, environment, 0, path=path)
            child = self._spawner.call(lambda: self._spawn(program, slots))
            stack.callback(os.close, child.pidfd)
            exchange.close_writers()
            try:
                done = exchange.finish(child, timeout, output_limit)
            finally:
                self._end_session(child.pid)
        if done.truncated:
            raise InstanceError(f"{command[0]} printed more than {output_limit} bytes")
        return Completed(done.status, done.output, done.errors, printing=done.printing)

    def copy_in(self, path: str, content: bytes, mode: int) -> None:
        """Write a new file of the host, which is removed in the end; or of the root directory.

        Raises:
            InstanceError: it is there already, or cannot be written.
        """
        if self._surroundings.root is not None:
            copy_by_shell(self.execute, path, content, mode)
            return
        try:
            self._files.append(TemporaryFile.make(self._journal, Path(path), content, mode))
        except OSError as error:
            raise InstanceError(f"cannot write {path} on the host: {error.strerror}") from error

    def end(self) -> None:
        """Kill what still runs, remove the files; idempotent.

        Raises:
            LeftoverError: something survived.
        """
        for session in tuple(self._sessions):
            self._end_session(session)
        while self._files:
            self._files.pop().remove()

    def _spawn(self, program: Program, slots: Slots) -> Spawned:
        # In the spawning thread, where no signal can come between the start and the bookkeeping.
        with self._group.spawning() if self._group else contextlib.nullcontext():
            child = self._spawner.spawn(
                program,
                descriptors=slots.descriptors,
                watched=(),
                awaited=0,
                timeout=START_SECONDS,
                namespace=self._surroundings.namespace(self._spawner),
                cgroup=self._group.descriptor if self._group else -1,
            )
        self._sessions[child.pid] = self._journal.record(
            "session", session=child.pid, started=leftovers.start_ticks(child.pid) or 0
        )
        return child

    def _end_session(self, session: int) -> None:
        leftovers.kill_session(session)
        self._journal.forget(self._sessions.pop(session))
