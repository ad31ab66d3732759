"""Target `container`: our own namespace-based container."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pybench.harness.errors import InstanceError
from pybench.harness.model import Mark, Readiness, Workload
from pybench.harness.targets import ContainerSettings, TargetContext
from pybench.harness.targets.answer import ASKED_LEVELS, await_answer
from pybench.harness.targets.base import (
    COMMAND_ENVIRONMENT,
    DISK_PLACE,
    OUTPUT_LIMIT,
    Completed,
    ImageFiles,
)
from pybench.harness.targets.commands import check_command, copy_by_shell
from pybench.harness.targets.contents import find_places, find_user
from pybench.harness.targets.readiness import spawn_readiness
from pybench.runtime.container.cgroup.base import Controller, Limits
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.cgroup.readings import KernelMemory
from pybench.runtime.container.container import Container, Request
from pybench.runtime.container.instance import describe_status
from pybench.runtime.container.network.bridge import Bridge
from pybench.runtime.container.network.pool import NetworkPool
from pybench.runtime.container.rootfs import Volume
from pybench.runtime.container.sandbox import DEFAULT_LIMITS, ROOT_USER, Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.container.specification.model import User
from pybench.runtime.scratch import scratch_directory

POOL_SIZE = 2
"""Networks kept ready: one to take, and one for a start that comes before the pool is full again."""


class ContainerInstance:
    """A running container, in the words of the target protocol."""

    def __init__(
        self, container: Container, qualifiers: Mapping[str, str], disk: str, on_end: Callable[[], None]
    ) -> None:
        self._container = container
        self.disk = disk
        self._on_end = on_end
        self._is_over = False
        self._answer: Mark | None = None
        self.qualifiers = qualifiers

    @property
    def marks(self) -> tuple[Mark, ...]:
        """From `preparing` and `request` to `ready`, and to `stopped` once it is."""
        answer = self._answer
        return tuple(
            answer if mark.name == "ready" and answer is not None else mark for mark in self._container.marks
        )

    @property
    def processes(self) -> tuple[int, ...]:
        """Everything inside, by its host pid."""
        return self._container.processes

    @property
    def cgroup_memory(self) -> int | None:
        """Bytes charged to its control group."""
        return self._container.memory_charged

    @property
    def kernel_memory(self) -> KernelMemory | None:
        """What the kernel keeps for it, where that is counted."""
        return self._container.kernel_memory

    @property
    def processor_time(self) -> float | None:
        """Seconds, as its control group counts; None where it has none."""
        group = self._container.group
        return group.usage().cpu_seconds if group else None

    @property
    def memory_kills(self) -> int:
        """As its control group counts."""
        return self._container.out_of_memory_kills

    @property
    def output(self) -> str:
        """The last of what it printed, escaped."""
        return self._container.output

    @property
    def ended(self) -> str:
        """How its first process ended, or nothing while it runs."""
        if not self._container.wait(0):
            return ""
        kills = self._container.out_of_memory_kills
        killed = f", {kills} of its processes killed by its memory limit" if kills else ""
        return f"it ended by itself: {describe_status(self._container.status)}{killed}"

    def execute(
        self,
        command: Sequence[str],
        timeout: float,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] = COMMAND_ENVIRONMENT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command in it, confined as its first process is.

        Raises:
            InstanceError: it could not be started, did not end in time, or printed too much.
        """
        request = Request(given=stdin, environment=environment, timeout=timeout, maximum=output_limit)
        done = self._container.execute(command, request)
        if done.truncated:
            raise InstanceError(f"{command[0]} in the container printed more than {output_limit} bytes")
        return Completed(done.status, done.output, done.errors, printing=done.printing)

    def copy_in(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Make a new file in it; the image must have /bin/sh.

        Raises:
            InstanceError: there is one of this name, or it cannot be written there.
        """
        copy_by_shell(self.execute, path, content, mode)

    @property
    def address(self) -> str:
        """Its own on the bridge; empty where it has none."""
        lease = self._container.network
        return str(lease.address.ip) if lease else ""

    def await_answer(self, readiness: Readiness, timeout: float) -> None:
        """Ask it over its network until it answers; the answer becomes its mark `ready`.

        Raises:
            InstanceError: it did not answer in time, and nothing is left of it.
        """
        marks = list(self._container.marks)
        try:
            await_answer(readiness, self.address, marks, timeout, lambda: self._container.wait(0))
        except InstanceError as error:
            self.stop(0)
            raise InstanceError(error.message, error.hint, log=self.output) from error
        self._answer = marks[-1]

    def stop(self, timeout: float) -> None:
        """End it and verify that nothing is left; idempotent.

        Raises:
            LeftoverError: something survived.
        """
        self._container.stop(timeout)
        if not self._is_over:
            # Whoever has its ids next finds nobody there.
            self._is_over = True
            self._on_end()


class ContainerTarget:
    """Sandboxes prepared for one workload, as many as there are containers alive at once.

    Containers of one sandbox would have the same ids, so each container has a sandbox of its own, which the
    next one takes over when it has ended.
    """

    def __init__(self, settings: ContainerSettings, context: TargetContext) -> None:
        self._settings = settings
        self._journal = context.journal
        self._directory = context.directory
        self._has_disk = False
        self._resources = contextlib.ExitStack()
        self._spawner: Spawner | None = None
        self._sandbox_resources = contextlib.ExitStack()
        self._spec: SandboxSpec | None = None
        self._controller: Controller | None = None
        self._free: list[Sandbox] = []
        self._opening = threading.Lock()
        self._pool: NetworkPool | None = None
        self._asked: Readiness | None = None

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Reserve ids, stage the image, compile the steps.

        Raises:
            InputError: the command or the user is not in the image, or a file has no place there.
            HostError: this host cannot run containers.
        """
        check_command(image.rootfs, workload.command)
        self._sandbox_resources.close()
        if self._spawner is None:
            self._spawner = self._resources.enter_context(Spawner(self._journal))
        self._asked = workload.readiness if workload.readiness.level in ASKED_LEVELS else None
        asked = workload.resources
        user = find_user(workload, image)
        self._spec = SandboxSpec(
            rootfs=image.rootfs,
            command=workload.command,
            environment=workload.environment,
            readiness=spawn_readiness(workload, image),
            limits=Limits(asked.memory, asked.cpus, asked.pids or DEFAULT_LIMITS.pids),
            host_name=workload.name,
            profile=self._settings.profile,
            network=self._network_pool(),
            writable=self._settings.writable,
            files=find_places(workload, image),
            volumes=self._volumes(workload),
            user=User(uid=user.uid, gid=user.gid, additional_gids=user.groups) if user else ROOT_USER,
        )
        self._controller = detect()
        self._free = [self._open_sandbox()]

    def _open_sandbox(self) -> Sandbox:
        """Another one, prepared.

        Raises:
            HostError: this host cannot run containers, or has no ids left.
        """
        if self._spawner is None or self._spec is None or self._controller is None:
            raise RuntimeError("launch before prepare")
        with self._opening:
            return self._sandbox_resources.enter_context(Sandbox(self._spawner, self._controller, self._spec))

    def _volumes(self, workload: Workload) -> tuple[Volume, ...]:
        """Its room on the host's disk, which all of its containers share."""
        self._has_disk = workload.disk is not None
        if not self._has_disk:
            return ()
        place = self._sandbox_resources.enter_context(scratch_directory(self._journal, self._directory))
        return (Volume(place, DISK_PLACE, writable=True),)

    def _network_pool(self) -> NetworkPool | None:
        if self._settings.network == "none":
            return None
        if self._pool is None:
            bridge = self._resources.enter_context(Bridge(self._journal, siblings=self._settings.siblings))
            self._pool = self._resources.enter_context(NetworkPool(bridge, POOL_SIZE))
        return self._pool

    def launch(self, timeout: float) -> ContainerInstance:
        """Start one.

        Raises:
            InstanceError: it failed or was not ready in time.
        """
        since = time.monotonic_ns()
        try:
            sandbox = self._free.pop()
        except IndexError:
            sandbox = self._open_sandbox()
        try:
            container = sandbox.start(timeout, since)
        except InstanceError:
            self._free.append(sandbox)
            raise
        disk = DISK_PLACE if self._has_disk else ""
        instance = ContainerInstance(container, sandbox.qualifiers, disk, lambda: self._free.append(sandbox))
        if self._asked is not None:
            instance.await_answer(self._asked, timeout)
        return instance

    def cleanup(self) -> None:
        """Release the sandbox and end the spawning thread."""
        self._spec = self._spawner = self._pool = None
        self._free = []
        try:
            self._sandbox_resources.close()
        finally:
            self._resources.close()
