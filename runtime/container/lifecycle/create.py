"""Create: everything of a container but its program, which then waits to be started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pybench.runtime.container.assembly.assemble import PlainRoot, Surroundings, assemble
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.devices import ALWAYS_ALLOWED
from pybench.runtime.container.cgroup.placement import placement_of, remove_placed
from pybench.runtime.container.cgroup.resources import limits_of
from pybench.runtime.container.defaults import offsets_text, own_capabilities
from pybench.runtime.container.identity import IdentityMap, given_map, map_of
from pybench.runtime.container.leftovers import start_ticks
from pybench.runtime.container.lifecycle.hooks import run_hooks
from pybench.runtime.container.lifecycle.namespaces import enterable, entered
from pybench.runtime.container.lifecycle.record import (
    FAILED_FIFO,
    START_FIFO,
    ContainerDirectory,
    Record,
    with_process,
)
from pybench.runtime.container.spawn.process_steps import Console, RunHook, WaitForStart
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import CloseFrom, NewSession, Step
from pybench.runtime.container.specification.bundle import Bundle, load_bundle
from pybench.runtime.container.specification.capability_names import capability_sets, to_names
from pybench.runtime.container.specification.linux import IdMapping
from pybench.runtime.container.specification.model import Process, Specification
from pybench.runtime.container.specification.mounts import MS_SHARED, parse_propagation
from pybench.runtime.container.user_namespace import user_namespace
from pybench.runtime.errors import HostError, InputError
from pybench.runtime.journal import Journal

PATIENCE: Final = 120.0
"""Seconds for everything up to the wait for the start, hooks included."""
STANDARD_DESCRIPTORS: Final = 3
_MOST_PRESERVED: Final = 56
"""Descriptors from 64 on are where a child keeps its own until execve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What the container's process gets from whoever creates it, besides input, output and errors."""

    console_socket: Path | None = None
    """Where to send the terminal's master, if the process has a terminal."""
    preserve_fds: int = 0
    """How many descriptors from 3 on it inherits."""
    pid_file: Path | None = None

    def check(self, process: Process) -> None:
        """Whether it fits the process.

        Raises:
            InputError: it does not.
        """
        if process.terminal and self.console_socket is None:
            raise InputError("process.terminal is set, so --console-socket is needed")
        if not process.terminal and self.console_socket is not None:
            raise InputError("--console-socket is given, but process.terminal is not set")
        if not 0 <= self.preserve_fds <= _MOST_PRESERVED:
            raise InputError(f"--preserve-fds {self.preserve_fds}: at most {_MOST_PRESERVED} can be kept")


@dataclass(frozen=True, slots=True)
class Created:
    """A container that waits to be started."""

    record: Record
    pidfd: int
    warnings: tuple[str, ...]


def create(
    journal: Journal, directory: ContainerDirectory, bundle_directory: Path, handover: Handover
) -> Created:
    """Create a container from a bundle; its process inherits this one's input, output and errors.

    Raises:
        InputError: the bundle is wrong, or there is a container of that id.
        HostError: this host cannot give what the bundle asks for.
        InstanceError: a step or a hook failed. Whatever is raised, nothing is left.
    """
    bundle = load_bundle(bundle_directory)
    specification = bundle.specification
    process = specification.process
    if process is None:
        raise InputError("config.json: process: is required to run a container")
    handover.check(process)
    _check_propagation(specification)
    _check_listener(specification)
    with contextlib.ExitStack() as undo:
        directory.make()
        undo.callback(directory.remove)
        directory.keep_configuration((bundle.directory / "config.json").read_bytes())
        record = Record(
            directory.id,
            str(bundle.directory),
            specification.oci_version,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            annotations=dict(specification.annotations),
            later_hooks=bool(specification.hooks.poststart or specification.hooks.poststop),
            creator=os.getpid(),
            creator_started=start_ticks(os.getpid()) or 0,
        )
        directory.write(record)
        group = _make_group(specification, directory, record, undo)
        record = replace(record, groups=tuple(map(str, group.directories)))
        with Spawner(journal) as spawner, _outside() as outside:
            creation = _Creation(spawner, outside, directory, bundle, process, handover, group)
            record, pidfd = spawner.call(lambda: creation.carry_out(record))
        undo.callback(os.close, pidfd)
        undo.callback(signal.pidfd_send_signal, pidfd, signal.SIGKILL)
        directory.write(record)
        if handover.pid_file is not None:
            write_pid_file(handover.pid_file, record.pid)
        undo.pop_all()
    return Created(record, pidfd, (*bundle.warnings, *_withheld(process, specification)))


def write_pid_file(path: Path, pid: int) -> None:
    """Write a pid so that nobody reads half of it.

    Raises:
        HostError: it cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=".")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(str(pid))
        Path(temporary).rename(path)
    except OSError as error:
        raise HostError(f"--pid-file {path}: {error.strerror}") from error


def console_steps(
    process: Process, handover: Handover, slots: Slots, stack: contextlib.ExitStack, *, at_dev_console: bool
) -> tuple[Step, ...]:
    """Its terminal, or the descriptors it inherits.

    Raises:
        HostError: nobody listens on the socket for the terminal.
    """
    steps: list[Step] = []
    if handover.console_socket is not None:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            connection.connect(str(handover.console_socket))
        except OSError as error:
            raise HostError(f"--console-socket {handover.console_socket}: {error.strerror}") from error
        size = process.console_size
        rows, columns = (size.height, size.width) if size else (0, 0)
        slot = slots.give(connection.fileno())
        steps.append(Console(slot, rows, columns, at_dev_console, process.user.uid))
    else:
        steps.append(NewSession())
    steps.append(CloseFrom(STANDARD_DESCRIPTORS + handover.preserve_fds))
    return tuple(steps)


@dataclass(slots=True)
class _Creation:
    """What happens in the spawning thread."""

    spawner: Spawner
    outside: Executor
    """A thread that is in none of the container's groups and namespaces, for hooks."""
    directory: ContainerDirectory
    bundle: Bundle
    process: Process
    handover: Handover
    group: Group
    _hook_input: int = -1

    def carry_out(self, record: Record) -> tuple[Record, int]:
        """Spawn the container's process and return once it waits to be started."""
        specification = self.bundle.specification
        joined = enterable(specification.linux.namespaces)
        identity = map_of(specification.linux)
        with contextlib.ExitStack() as stack:
            slots = Slots()
            program, created = self._program(slots, stack, frozenset(each.type for each in joined), identity)
            spawned_record = record

            def on_clone(pid: int) -> None:
                nonlocal spawned_record
                spawned_record = replace(
                    with_process(record, pid), steps=tuple(step.describe() for step in program.steps)
                )
                self.directory.write(spawned_record)
                self.outside.submit(self._prepare, pid, spawned_record).result()

            with self.group.spawning(), entered(joined):
                spawned = self.spawner.spawn(
                    program,
                    descriptors=slots.descriptors,
                    watched=(created,),
                    awaited=1,
                    timeout=PATIENCE,
                    identity=identity,
                    cgroup=self.group.descriptor,
                    detached=True,
                    on_clone=on_clone,
                )
        return replace(spawned_record, complete=True), spawned.pidfd

    def _program(
        self, slots: Slots, stack: contextlib.ExitStack, joined: frozenset[str], identity: IdentityMap | None
    ) -> tuple[Program, int]:
        specification = self.bundle.specification
        created, created_end = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, created)
        stack.callback(os.close, created_end)
        start, failed = (self._fifo(name, stack) for name in (START_FIFO, FAILED_FIFO))
        waiting: list[Step] = [WaitForStart(*(slots.give(each) for each in (created_end, start, failed)))]
        waiting += self._start_hooks(slots, stack)
        surroundings = Surroundings(
            root=PlainRoot(self._root()),
            bundle=self.bundle.directory,
            slots=slots,
            map_ids=self._map_ids(),
            group_directories=self._group_directories,
            keep_groups=identity is not None and identity.deny_setgroups,
            own_devices=all(
                mount.destination.rstrip("/") != "/dev" or "bind" not in {mount.type, *mount.options}
                for mount in specification.mounts
            ),
            grantable=own_capabilities("CapPrm") if identity is None else None,
            entered=joined,
            stdio=console_steps(self.process, self.handover, slots, stack, at_dev_console=True),
            waiting=waiting,
            clock_offsets=offsets_text(specification.linux.time_offsets),
        )
        return assemble(specification, surroundings), created

    def _fifo(self, name: str, stack: contextlib.ExitStack) -> int:
        path = self.directory.path / name
        os.mkfifo(path, 0o600)
        # For reading and writing: the child then never sees an end of file, nor is anybody waited for here.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        return descriptor

    def _start_hooks(self, slots: Slots, stack: contextlib.ExitStack) -> Iterator[Step]:
        hooks = self.bundle.specification.hooks.start_container
        if not hooks:
            return
        # In memory: the container has no way to the host's files. It is filled when the pid is known.
        self._hook_input = os.memfd_create("state", os.MFD_CLOEXEC)
        stack.callback(os.close, self._hook_input)
        slot = slots.give(self._hook_input)
        for hook in hooks:
            yield RunHook(slot, hook.path, hook.args, hook.env, hook.timeout or 0)

    def _root(self) -> Path:
        root = self.bundle.root
        if not root.is_dir():
            raise InputError(f"root.path: {root} is not a directory")
        return root.resolve()

    def _map_ids(self) -> Callable[..., Path]:
        def mapped(source: Path, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> Path:
            stage = self.spawner.stage
            if stage is None:
                raise HostError(f"{source}: an ordinary user cannot map the ids of a mount")
            with user_namespace(self.spawner, given_map(uids, gids)) as namespace:
                place, done = stage.add_tree(
                    source, recursive=True, user_namespace=namespace, in_host_tree=True
                )
            if not done:
                raise HostError(f"{source}: its file system cannot map ids")
            return place

        return mapped

    def _group_directories(self) -> Iterator[tuple[str, Path]]:
        """Named as the directories that the hierarchies are mounted at are."""
        directories = self.group.directories
        if self.group.descriptor >= 0:
            yield "", directories[0]
            return
        for directory in directories:
            mount = next(parent for parent in (directory, *directory.parents) if parent.is_mount())
            yield mount.name, directory

    def _prepare(self, pid: int, record: Record) -> None:
        """While the process waits, its namespaces made and nothing in them yet."""
        if self.process.oom_score_adj is not None:
            try:
                Path(f"/proc/{pid}/oom_score_adj").write_text(
                    str(self.process.oom_score_adj), encoding="ascii"
                )
            except OSError as error:
                raise HostError(f"process.oomScoreAdj: {error.strerror}", "only root may lower it") from error
        state = {**self.directory.state(record), "status": "creating"}
        hooks = self.bundle.specification.hooks
        run_hooks(hooks.prestart, state, "prestart")
        run_hooks(hooks.create_runtime, state, "createRuntime")
        run_hooks(hooks.create_container, state, "createContainer", inside=pid)
        if self._hook_input >= 0:
            os.write(self._hook_input, json.dumps({**state, "status": "created"}).encode())


@contextlib.contextmanager
def _outside() -> Iterator[Executor]:
    """The spawning thread is in the container's group while it spawns, and what it starts would be too."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pybench-hooks") as executor:
        # Its thread is started now, by one that is outside.
        executor.submit(os.getpid).result()
        yield executor


def _make_group(
    specification: Specification, directory: ContainerDirectory, record: Record, undo: contextlib.ExitStack
) -> Group:
    resources = specification.linux.resources
    rules = (*resources.devices, *ALWAYS_ALLOWED) if resources.devices else None
    limits = limits_of(resources)
    placement = placement_of(specification.linux.cgroups_path, directory.id)
    # Not before it is sure to be nobody else's: what is written down is emptied by a forced deletion.
    placement.refuse_used()
    directory.write(
        replace(
            record,
            groups=tuple(map(str, placement.directories)),
            groups_above=tuple(map(str, placement.missing_above)),
        )
    )
    group = placement.create(limits, rules)

    def remove() -> None:
        group.kill()
        group.remove()
        remove_placed(group.directories)

    undo.callback(remove)
    return group


def _withheld(process: Process, specification: Specification) -> Iterator[str]:
    """What could not be granted; the specification wants a warning for that (config.md, capabilities)."""
    if process.capabilities and not specification.linux.uid_mappings:
        sets = capability_sets(process.capabilities)[0]
        if lacking := to_names((sets.bounding | sets.permitted) & ~own_capabilities("CapPrm")):
            yield f"process.capabilities: {', '.join(lacking)} cannot be granted here; left out"


def _check_listener(specification: Specification) -> None:
    profile = specification.linux.seccomp
    if profile is not None and any(rule.action == "SCMP_ACT_NOTIFY" for rule in profile.syscalls):
        raise InputError(
            "config.json: linux.seccomp: SCMP_ACT_NOTIFY is not supported in bundles",
            "nobody would be left to hand the listener over: whoever creates the container has ended by then",
        )


def _check_propagation(specification: Specification) -> None:
    propagation = parse_propagation(specification.linux.rootfs_propagation)
    if propagation is not None and propagation.flag == MS_SHARED:
        raise InputError(
            "config.json: linux.rootfsPropagation: shared is not supported: the host's mounts are not shared "
            "with the namespace that containers are made in"
        )
