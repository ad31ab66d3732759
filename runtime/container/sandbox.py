"""Our container: a sandbox prepared once for an image and a command, started any number of times.

Everything that can be the same for all containers of an image is done in `Sandbox`; what one
container needs for itself (its control group) is made by `start` ahead of the clock, and the time
that took is kept as the mark `preparing`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pybench.runtime.container import instance, landlock, notify, system_calls, workload_clock
from pybench.runtime.container.assembly.assemble import Surroundings, assemble
from pybench.runtime.container.assembly.join import join_program
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.cgroup.base import Controller, Group, Limits
from pybench.runtime.container.cgroup.journalled import make_group
from pybench.runtime.container.container import Container, Request
from pybench.runtime.container.defaults import (
    OWN_POINTS,
    host_files,
    offsets_text,
    specification,
    zero_clocks,
)
from pybench.runtime.container.identity import IdentityMap, reserve
from pybench.runtime.container.instance import CLOCK_RESOLUTION, MARK_DESCRIPTOR, Readiness
from pybench.runtime.container.interactive import (
    Completed,
    Exchange,
    Size,
    converse,
    reap,
    receive_master,
    set_size,
)
from pybench.runtime.container.landlock import scope_steps
from pybench.runtime.container.network.pool import Lease, NetworkPool
from pybench.runtime.container.profiles import PROFILES, ProfileName, policy_of
from pybench.runtime.container.rootfs import Root, RootBuilder, Volume
from pybench.runtime.container.spawn.process_steps import Console
from pybench.runtime.container.spawn.spawner import (
    FIRST_FREE_SLOT,
    MARK_SLOT,
    OUTPUT_SLOT,
    STDIN_SLOT,
    Program,
    Spawned,
    Spawner,
    pipe_resolution,
)
from pybench.runtime.container.spawn.steps import CloseFrom, DeathSignal, Duplicate, NewSession, Step
from pybench.runtime.container.specification.linux import IdMapping
from pybench.runtime.container.specification.model import Specification, User
from pybench.runtime.container.specification.namespaces import FLAGS
from pybench.runtime.container.system_information import SystemInformation
from pybench.runtime.container.user_namespace import user_namespace
from pybench.runtime.errors import InputError, InstanceError
from pybench.runtime.journal import Journal
from pybench.runtime.marks import Mark
from pybench.runtime.workload_files import WorkloadFile

NAMESPACES = sum(FLAGS.values())
"""All eight: user, pid, mount, net, uts, ipc, cgroup and time."""

ROOT_USER = User()
FIRST_INHERITED = 3
DEFAULT_LIMITS = Limits(pids=256)
"""Podman's 2048 is generous; a workload that needs more than 256 processes says so."""
_EMPTY = "/dev/shm"  # noqa: S108 - inside
"""A directory of the stage's /dev, which is empty until the container mounts its own there."""
LEAST_MEMORY = 4 << 20
"""Bytes. The kernel charges a container's namespaces and mounts to it, and the thread that starts it for
what it asks of the kernel on the way."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a container is made of."""

    rootfs: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    readiness: Readiness
    limits: Limits = DEFAULT_LIMITS
    host_name: str = "container"
    profile: ProfileName = "default"
    network: NetworkPool | None = None
    """Where each container gets its interface and address from; None: loopback alone."""
    layers: tuple[Path, ...] = ()
    """Of an imported image, the topmost first; `rootfs` where there are none."""
    writable: int | None = None
    """Bytes that it may write into its root, in memory and charged to it; None: the root is read-only."""
    volumes: tuple[Volume, ...] = ()
    files: tuple[WorkloadFile, ...] = ()
    """By paths without symbolic links; read-only inside."""
    user: User = ROOT_USER
    working_directory: str = "/"
    terminal: bool = False
    """The command has a terminal, see `Sandbox.attach`, instead of pipes."""


def stdio_steps(marking: bool) -> tuple[Step, ...]:
    """Null as input, one pipe for output and errors, the mark pipe where asked for, nothing else."""
    steps: list[Step] = [
        Duplicate(STDIN_SLOT, 0),
        Duplicate(OUTPUT_SLOT, 1),
        Duplicate(OUTPUT_SLOT, 2),
    ]
    if marking:
        steps.append(Duplicate(MARK_SLOT, MARK_DESCRIPTOR))
    return (*steps, CloseFrom(MARK_DESCRIPTOR + int(marking)))


def mark_environment(environment: Mapping[str, str], readiness: Readiness) -> dict[str, str]:
    """The workload's environment, with the place for its marks, and which of them it may take itself."""
    if not readiness.marking:
        return dict(environment)
    told = workload_clock.EXEC if readiness.line is None else workload_clock.LINE
    return {**environment, "PYBENCH_MARK_FD": str(MARK_DESCRIPTOR), workload_clock.VARIABLE: told}


class Sandbox:
    """Prepared for one image and command; a context manager that releases what it prepared."""

    def __init__(self, spawner: Spawner, controller: Controller, spec: SandboxSpec) -> None:
        self._spawner = spawner
        self._controller = controller
        self._spec = spec
        self._resources = contextlib.ExitStack()
        self._identity: IdentityMap | None = None
        self._program: Program | None = None
        self._namespace: int | None = None
        """The mount namespace in which its containers are born."""
        self.specification: Specification | None = None
        """What its containers are, in OCI's vocabulary, once it is prepared."""
        self._supervised = PROFILES[spec.profile].confined and not notify.unavailable()
        self._running: list[Container] = []
        self.qualifiers: dict[str, str] = {}

    def __enter__(self) -> Self:
        memory = self._spec.limits.memory
        if memory is not None and memory < LEAST_MEMORY:
            raise InputError(
                f"a memory limit of {memory} bytes is too low for a container", "4 MiB is the least"
            )
        pipe_resolution()
        workload_clock.clock_resolution()
        with contextlib.ExitStack() as stack:
            profile = PROFILES[self._spec.profile]
            if not profile.namespaces_left_out & system_calls.CLONE_NEWUSER:
                self._identity = stack.enter_context(reserve())
            _check_user(self._spec.user, self._identity)
            root = self._build_root(stack, self._identity)
            self._program = self._compile(root, self._identity)
            self._namespace = root.namespace
            self._resources = stack.pop_all()
        self.qualifiers = self._describe(self._identity, root.mapped)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An interruption may have come between a container's start and its owner's hearing of it.
        for container in tuple(self._running):
            container.stop(0)
        self._resources.close()

    def _build_root(self, stack: contextlib.ExitStack, identity: IdentityMap | None) -> Root:
        stage = self._spawner.stage
        scratch = stage.scratch if stage else stack.enter_context(_scratch_directory(self._spawner.journal))
        spec = self._spec
        builder = RootBuilder(
            stage,
            scratch,
            stack.enter_context(_in_thread(self._spawner)),
            (lambda: user_namespace(self._spawner, identity)) if stage and identity else None,
            identity.root if stage and identity else (0, 0),
        )
        covers: list[tuple[str, Path | bytes]] = [*host_files(spec.host_name).items()]
        if stage:
            covers.insert(0, ("/dev", stage.devices))
        layers = spec.layers or (spec.rootfs,)
        return self._spawner.call(
            lambda: builder.build(
                layers, covers, spec.volumes, files=spec.files, own=OWN_POINTS, writable=spec.writable
            )
        )

    def _compile(self, root: Root, identity: IdentityMap | None) -> Program:
        spec, profile = self._spec, PROFILES[self._spec.profile]
        marking, stage = spec.readiness.marking, self._spawner.stage
        self.specification = specification(
            profile,
            spec.command,
            mark_environment(spec.environment, spec.readiness),
            host_name=spec.host_name,
            user=spec.user,
            working_directory=spec.working_directory,
            own_devices=stage is None,
            read_only_root=root.upper_size == 0,
            mappings=identity.mappings if identity else ((), ()),
        )
        scopes = scope_steps() if profile.confined else ()
        surroundings = Surroundings(
            root=root,
            bundle=Path("/"),
            # The descriptors that every launch passes.
            slots=Slots((-1,) * FIRST_FREE_SLOT),
            map_ids=_no_mapped_mounts,
            policy=policy_of(profile, supervised=self._supervised),
            keep_groups=identity is not None and identity.deny_setgroups,
            null=str(stage.devices / "null") if stage and not root.is_root else "/dev/null",
            empty=_EMPTY if root.is_root else str(stage.empty) if stage else "",
            own_devices=stage is None,
            entered=frozenset({"network"}) if spec.network else frozenset(),
            early=(DeathSignal(signal.SIGKILL), NewSession()),
            keyring=profile.confined,
            stdio=(Console(STDIN_SLOT), CloseFrom(FIRST_INHERITED)) if spec.terminal else (),
            last=scopes if spec.terminal else (*stdio_steps(marking), *scopes),
        )
        return assemble(self.specification, surroundings)

    def _describe(self, identity: IdentityMap | None, mapped: bool) -> dict[str, str]:
        """What must be said beside every number, degradations first of all."""
        missing = self._controller.unavailable(self._spec.limits)
        said = {
            **(self._spec.network.bridge.qualifiers if self._spec.network else {"net": "none"}),
            "ids": identity.label if identity else "host",
            "cgroup": self._controller.label,
            "profile": self._spec.profile,
        }
        if missing:
            said["limits"] = f"without {', '.join(missing)}"
        if not mapped:
            said["image-ids"] = "unmapped"
        if PROFILES[self._spec.profile].confined:
            if not self._supervised:
                said["sysinfo"] = "refused" if self._spec.profile == "strict" else "host"
            if unknown := [name for name in landlock.SCOPES if name not in landlock.available_scopes()]:
                said["scopes"] = f"without {', '.join(unknown)}"
        if os.geteuid() != 0:
            said["rootless"] = "yes"
        return said

    def start(self, timeout: float, since: int | None = None) -> Container:
        """Start one container and return when it is ready.

        Args:
            timeout: seconds.
            since: when work for this container alone began, in ns of CLOCK_MONOTONIC; by default now.

        Raises:
            InstanceError: it failed or was not ready in time; nothing is left of it.
            HostError: its control group could not be made.
        """
        return self._spawner.call(lambda: self._start(timeout, since))

    def _start(self, timeout: float, since: int | None) -> Container:
        preparing = Mark("preparing", since or time.monotonic_ns(), "call", CLOCK_RESOLUTION)
        with contextlib.ExitStack() as stack:
            made = self._make_for_one(stack)
            with made.entered():
                started = instance.launch(
                    self._spawner,
                    self._compiled(),
                    self._spec.readiness,
                    timeout,
                    identity=self._identity,
                    clocks=zero_clocks(),
                    group=made.group,
                    listener=made.listener,
                    namespace=self._namespace,
                )
            started.marks.insert(0, preparing)
            container = Container(started, made.group, made.lease, stack.pop_all(), self._join)
            container.on_stop(lambda: self._running.remove(container))
            # In the spawning thread, where no signal can come in between.
            self._running.append(container)
            return container

    def attach(
        self, source: int, target: int, *, size: Size, resized: int = -1, timeout: float = 60.0
    ) -> int:
        """Run the command on a terminal of its own, between two descriptors, until it ends.

        Args:
            source: what is typed; a terminal is best in raw mode (see `pybench.runtime.terminal.raw`).
            target: where everything is written that the container prints, escape sequences included.
            size: asks for rows and columns.
            resized: an eventfd that becomes readable when they have changed.
            timeout: seconds until the command must have been executed.

        Returns:
            Its exit code, or minus the signal.

        Raises:
            InstanceError: it could not be started.
        """
        with _in_thread(self._spawner) as stack, contextlib.ExitStack() as descriptors:
            ours, theirs = (descriptors.enter_context(end) for end in socket.socketpair())
            pidfd = self._spawner.call(lambda: self._start_terminal(stack, theirs.fileno(), timeout))
            descriptors.callback(os.close, pidfd)
            master = receive_master(ours)
            descriptors.callback(os.close, master)
            set_size(master, size())
            try:
                converse(master, pidfd, source, target, size=size, resized=resized)
            finally:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                status = reap(pidfd)
            return status

    def _start_terminal(self, stack: contextlib.ExitStack, connection: int, timeout: float) -> int:
        made = self._make_for_one(stack)
        with made.entered():
            return self._spawner.spawn(
                self._compiled(),
                descriptors=(connection,),
                watched=(),
                awaited=0,
                timeout=timeout,
                identity=self._identity,
                time_offsets=offsets_text(zero_clocks()),
                cgroup=made.group.descriptor if made.group else -1,
                listener=made.listener,
                namespace=self._namespace,
            ).pidfd

    def _compiled(self) -> Program:
        if self._program is None:
            raise RuntimeError("the sandbox is not prepared; use it as a context manager")
        return self._program

    def _make_for_one(self, stack: contextlib.ExitStack) -> _OneContainer:
        group = make_group(self._controller, self._spec.limits, self._spawner.journal, stack)
        return _OneContainer(group, self._lease_network(stack), self._answer_calls(stack, group))

    def _join(self, pid: int, group: Group | None, command: Sequence[str], request: Request) -> Completed:
        """Run a command in a container of this sandbox, as the spawning thread alone can."""
        assert self.specification is not None, "it is prepared"  # noqa: S101
        process = self.specification.process
        assert process is not None, "the harness's own have one"  # noqa: S101
        profile = PROFILES[self._spec.profile]
        environment = self._spec.environment if request.environment is None else request.environment
        with Exchange(request.given) as exchange, contextlib.ExitStack() as stack:
            first = os.pidfd_open(pid)
            stack.callback(os.close, first)
            # A filter has one listener: that of the container's first process hears nothing of this one.
            listener = self._answer_calls(stack, group)
            slots = Slots()
            program = join_program(
                self.specification,
                replace(
                    process,
                    args=tuple(command),
                    env=tuple(f"{name}={value}" for name, value in environment.items()),
                ),
                slots,
                first,
                stdio=tuple(exchange.steps([slots.give(each) for each in exchange.descriptors])),
                keep_groups=self._identity is not None and self._identity.deny_setgroups,
                policy=policy_of(profile, supervised=self._supervised),
                keyring=profile.confined,
            )
            try:
                child = self._spawner.call(
                    lambda: self._spawn_joining(program, slots, group, listener, request.timeout)
                )
            except InstanceError as error:
                if select.select([first], [], [], 0)[0]:
                    raise InstanceError("the container ended before the command could be run") from error
                raise
            stack.callback(os.close, child.pidfd)
            exchange.close_writers()
            return exchange.finish(child, request.timeout, request.maximum)

    def _spawn_joining(
        self, program: Program, slots: Slots, group: Group | None, listener: int, timeout: float
    ) -> Spawned:
        with group.spawning() if group else contextlib.nullcontext():
            return self._spawner.spawn(
                program,
                descriptors=slots.descriptors,
                watched=(),
                awaited=0,
                timeout=timeout,
                cgroup=group.descriptor if group else -1,
                listener=listener,
                detached=True,
            )

    def _lease_network(self, stack: contextlib.ExitStack) -> Lease | None:
        """A network made ahead; what its pool still does in the background is waited for first."""
        pool = self._spec.network
        if pool is None:
            return None
        pool.settle()
        lease = pool.lease()
        stack.callback(pool.release, lease)
        return lease

    def _answer_calls(self, stack: contextlib.ExitStack, group: Group | None) -> int:
        """Where its filter's listener will be; -1 if it has none."""
        if not self._supervised:
            return -1
        information = SystemInformation(self._spec.limits, group.usage if group else None)
        return stack.enter_context(self._spawner.supervisor.answering(information.handlers()))


@dataclass(frozen=True, slots=True)
class _OneContainer:
    """What one container has to itself, made ahead of its start."""

    group: Group | None
    lease: Lease | None
    listener: int

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What the spawning thread has to be in for a child to be born there."""
        with (
            self.group.spawning() if self.group else contextlib.nullcontext(),
            self.lease.entered() if self.lease else contextlib.nullcontext(),
        ):
            yield


@contextlib.contextmanager
def _in_thread(spawner: Spawner) -> Iterator[contextlib.ExitStack]:
    """A stack that is closed by the spawning thread, which alone sees the stage."""
    inside = contextlib.ExitStack()
    try:
        yield inside
    finally:
        spawner.call(inside.close)


@contextlib.contextmanager
def _scratch_directory(journal: Journal) -> Iterator[Path]:
    directory, number = journal.make_directory("directory", "root-")
    scratch = directory / "scratch"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        scratch.rmdir()
        directory.rmdir()
        journal.forget(number)


def _check_user(user: User, identity: IdentityMap | None) -> None:
    """Raise where the container would have no such user, or could not put it into its groups."""
    if identity is None:
        return
    for kind, ids, mappings in zip(
        ("user", "group"), ((user.uid,), (user.gid, *user.additional_gids)), identity.mappings, strict=True
    ):
        for number in ids:
            if not any(number - each.container_id in range(each.size) for each in mappings):
                highest = max(each.container_id + each.size for each in mappings) - 1
                raise InputError(
                    f"{kind} {number} does not exist in a container here, where the highest is {highest}",
                    "run as root, or have a range in /etc/subuid and /etc/subgid" if highest == 0 else "",
                )
    if identity.deny_setgroups and user.additional_gids:
        raise InputError("an ordinary user's container cannot have further groups", "run as root")


def _no_mapped_mounts(source: Path, _uids: Sequence[IdMapping], _gids: Sequence[IdMapping]) -> Path:
    raise InputError(f"{source}: the harness's own containers map ids of volumes themselves")
