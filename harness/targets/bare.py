"""What `process`, `floor` and `chroot` share: a program started without limits, in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from pybench.harness.errors import HostError, InstanceError, PortTakenError
from pybench.harness.model import Mark, Workload
from pybench.harness.model import Readiness as AskedReadiness
from pybench.harness.targets.answer import ASKED_LEVELS, await_answer, check_free, is_taken
from pybench.harness.targets.bare_commands import BareCommands
from pybench.harness.targets.base import COMMAND_ENVIRONMENT, DISK_PLACE, OUTPUT_LIMIT, Completed, ImageFiles
from pybench.harness.targets.contents import find_user
from pybench.harness.targets.readiness import spawn_readiness
from pybench.harness.targets.surroundings import LOOPBACK, Surroundings
from pybench.runtime.container import leftovers
from pybench.runtime.container.cgroup.base import Group, Limits
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.cgroup.journalled import make_group
from pybench.runtime.container.instance import (
    CLOCK_RESOLUTION,
    Instance,
    Readiness,
    describe_status,
    launch,
)
from pybench.runtime.container.sandbox import DEFAULT_LIMITS, mark_environment, stdio_steps
from pybench.runtime.container.spawn.spawner import Program, Spawner, pipe_resolution
from pybench.runtime.container.spawn.steps import DeathSignal, NewSession, Step
from pybench.runtime.container.system_calls import CLONE_NEWNET
from pybench.runtime.container.workload_clock import clock_resolution
from pybench.runtime.journal import Journal
from pybench.runtime.scratch import scratch_directory

CONFLICT_PATIENCE: Final = 10.0
"""Seconds for a server to give up on a port that another one has: some try several times."""


class BareInstance:
    """A program on the host, in a session of its own by which it is found again."""

    def __init__(
        self,
        started: Instance,
        journal: Journal,
        qualifiers: Mapping[str, str],
        running: list[BareInstance],
        surroundings: Surroundings,
        *,
        group: Group | None,
        resources: contextlib.ExitStack,
    ) -> None:
        self._instance = started
        self._journal = journal
        self._running = running
        running.append(self)
        self._journalled = journal.record(
            "session", session=started.pid, started=leftovers.start_ticks(started.pid) or 0
        )
        self._group = group
        self._resources = resources
        """What is released when it is gone: its control group."""
        self.qualifiers = qualifiers
        self.address = surroundings.address
        self.disk = surroundings.disk
        self._commands = BareCommands(started.spawner, journal, surroundings, group)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """From `request` to `ready`, and to `stopped` once it is."""
        return tuple(self._instance.marks)

    @property
    def processes(self) -> tuple[int, ...]:
        """The program and its children."""
        return leftovers.descendants(self._instance.pid) if self._instance.status is None else ()

    @property
    def cgroup_memory(self) -> int | None:
        """What its control group is charged; None where it has none."""
        return self._group.memory_charged() if self._group else None

    @property
    def processor_time(self) -> float | None:
        """Seconds, as its control group counts; None where it has none."""
        return self._group.usage().cpu_seconds if self._group else None

    @property
    def memory_kills(self) -> int:
        """As its control group counts."""
        return self._group.out_of_memory_kills() if self._group else 0

    @property
    def output(self) -> str:
        """The last of what it printed, escaped."""
        return self._instance.tail.text

    @property
    def ended(self) -> str:
        """How the program ended, or nothing while it runs."""
        if self._instance.pidfd >= 0 and not self._instance.wait(0):
            return ""
        return f"it ended by itself: {describe_status(self._instance.status)}"

    def execute(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = COMMAND_ENVIRONMENT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command of the image on the host, as the program itself is run.

        Raises:
            InstanceError: it could not be started, did not end in time, or printed too much.
        """
        return self._commands.execute(
            command, timeout, stdin=stdin, environment=environment, output_limit=output_limit
        )

    def copy_in(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Make a new file of the host, which is removed with the program, or of its own root directory.

        Raises:
            InstanceError: there is one of this name, or it cannot be written.
        """
        self._commands.copy_in(path, content, mode)

    def await_answer(self, readiness: AskedReadiness, timeout: float) -> None:
        """Ask it over the network until it answers; the answer becomes its mark `ready`.

        Raises:
            InstanceError: it did not answer in time, and nothing is left of it.
        """
        try:
            await_answer(
                readiness, self.address, self._instance.marks, timeout, lambda: self._instance.wait(0)
            )
        except InstanceError as error:
            self.stop(0)
            raise InstanceError(error.message, error.hint, log=self.output) from error

    def await_refusal(self, readiness: AskedReadiness, timeout: float) -> NoReturn:
        """Let it find out that an earlier instance has its port, which nobody but itself can be asked about.

        Raises:
            PortTakenError: always; with what it said. Nothing is left of it.
        """
        ended = self._instance.wait(min(timeout, CONFLICT_PATIENCE))
        outcome = f"it ended ({describe_status(self._instance.status)})" if ended else "it stays, unheard"
        self.stop(0)
        message = f"port {readiness.port} of {self.address} is an earlier instance's, and {outcome}"
        raise PortTakenError(message, "a container or a machine has ports of its own", log=self.output)

    def stop(self, timeout: float) -> None:
        """End it, then whatever else is in its session; idempotent.

        Raises:
            LeftoverError: something survived.
        """
        if self._instance.pidfd < 0:
            return
        self._instance.take_output()
        marks = self._instance.marks
        marks.append(Mark("stopping", time.monotonic_ns(), "call", CLOCK_RESOLUTION))
        try:
            self._instance.end(timeout)
            # Its group may still hold children; the session is swept after the mark, because
            # that reads all of /proc and is not what a user waits for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._instance.pid, signal.SIGKILL)
        finally:
            self._instance.release()
        marks.append(Mark("stopped", time.monotonic_ns(), "call", CLOCK_RESOLUTION))
        # Also where something survives of its session: the group's own kill may still succeed.
        with self._resources:
            leftovers.kill_session(self._instance.pid)
            self._commands.end()
        self._running.remove(self)
        self._journal.forget(self._journalled)


class BareTarget:
    """Starts the command from the image's directory in the given new namespaces."""

    def __init__(
        self,
        journal: Journal,
        namespaces: int,
        qualifiers: Mapping[str, str],
        *,
        limited: bool = False,
        disk: Path | None = None,
    ) -> None:
        """`disk` is where instances may have room on the host's disk, if they may."""
        self._journal = journal
        self._disk = disk
        self._namespaces = namespaces
        self._controller = detect() if limited else None
        held = {"cgroup": self._controller.label} if self._controller else {"limits": "none"}
        self._qualifiers = {**qualifiers, **held}
        self._limits = DEFAULT_LIMITS
        self._resources = contextlib.ExitStack()
        self._spawner: Spawner | None = None
        self._program: Program | None = None
        self._surroundings: Surroundings | None = None
        self._readiness = Readiness(marking=False, line=None)
        self._place = contextlib.ExitStack()
        self._scratch: Path | None = None
        """Its room on the host's disk, which all of its instances share."""
        self._running: list[BareInstance] = []
        self._asked: AskedReadiness | None = None

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Compile the program.

        Raises:
            InputError: the command or the user is not in the image, or a file has no place there.
            HostError: this user may not do it.
        """
        pipe_resolution()
        clock_resolution()
        asked = workload.resources
        self._limits = Limits(asked.memory, asked.cpus, asked.pids or DEFAULT_LIMITS.pids)
        if self._controller is not None and self._controller.label == "none":
            raise HostError(
                "this host has no control groups to hold a bare process to limits", "limited: false"
            )
        user = find_user(workload, image)
        if user and os.geteuid() != 0:
            raise HostError(f"only root can run workload {workload.name} as another user", "run as root")
        if self._spawner is None:
            self._spawner = self._resources.enter_context(Spawner(self._journal))
        self._place.close()
        self._scratch = None
        if workload.disk is not None and self._disk is not None:
            self._scratch = self._place.enter_context(scratch_directory(self._journal, self._disk))
        root = self._make_root(self._spawner, workload, image)
        # In a network namespace of its own it is out of reach.
        address = "" if self._namespaces & CLONE_NEWNET else LOOPBACK
        disk = "" if self._scratch is None else str(self._scratch) if root is None else DISK_PLACE
        surroundings = self._surroundings = Surroundings(image.rootfs, address, root, user, disk)
        self._readiness = spawn_readiness(workload, image)
        self._asked = workload.readiness if workload.readiness.level in ASKED_LEVELS else None
        # Not only for safety: a program that loses its harness would disturb the next run.
        steps: tuple[Step, ...] = (
            NewSession(),
            *surroundings.steps,
            DeathSignal(signal.SIGKILL),
            *stdio_steps(self._readiness.marking),
        )
        self._program = Program.compile(
            steps,
            workload.command,
            mark_environment(workload.environment, self._readiness),
            self._namespaces,
            path=self._place.enter_context(surroundings.program(workload.command)),
        )

    def _make_root(self, spawner: Spawner, workload: Workload, image: ImageFiles) -> Path | None:  # noqa: ARG002
        """A root directory of its own, released with `_place`; None: the host's.

        Raises:
            InputError: a file of the workload has no place in it.
            HostError: it cannot be made here.
        """
        return None

    def launch(self, timeout: float) -> BareInstance:
        """Start one.

        Raises:
            InstanceError: it failed or was not ready in time.
        """
        spawner, program, surroundings = self._spawner, self._program, self._surroundings
        if spawner is None or program is None or surroundings is None:
            raise RuntimeError("launch before prepare")

        def start() -> BareInstance:
            # In the spawning thread, where no signal can come between the start and the bookkeeping.
            namespace = surroundings.namespace(spawner)
            with contextlib.ExitStack() as stack:
                group = None
                if self._controller is not None:
                    group = make_group(self._controller, self._limits, self._journal, stack)
                with group.spawning() if group else contextlib.nullcontext():
                    started = launch(
                        spawner, program, self._readiness, timeout, namespace=namespace, group=group
                    )
                held = stack.pop_all()
            return BareInstance(
                started,
                self._journal,
                self._qualifiers,
                self._running,
                surroundings,
                group=group,
                resources=held,
            )

        asked = self._asked
        if asked is None:
            return spawner.call(start)
        if self._running and is_taken(asked, LOOPBACK):
            spawner.call(start).await_refusal(asked, timeout)
        check_free(asked, LOOPBACK)
        instance = spawner.call(start)
        instance.await_answer(asked, timeout)
        return instance

    def cleanup(self) -> None:
        """End what an interruption left running, then the spawning thread."""
        for instance in tuple(self._running):
            instance.stop(0)
        try:
            self._place.close()
        finally:
            self._resources.close()
        self._spawner = self._program = None
