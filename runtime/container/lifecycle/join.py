"""Exec: another process in a running container, in all of its namespaces and its control group."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pybench.runtime.container.assembly.join import join_program
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.cgroup.base import Group
from pybench.runtime.container.cgroup.detect import open_group
from pybench.runtime.container.identity import map_of
from pybench.runtime.container.lifecycle.create import Handover, console_steps, write_pid_file
from pybench.runtime.container.lifecycle.record import ContainerDirectory, Record
from pybench.runtime.container.spawn.spawner import Program, Spawned, Spawner
from pybench.runtime.container.specification.model import Process, Specification
from pybench.runtime.errors import HostError, InputError, InstanceError
from pybench.runtime.journal import Journal

PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Joined:
    """A process that has joined a container."""

    pid: int
    pidfd: int


def execute(journal: Journal, directory: ContainerDirectory, process: Process, handover: Handover) -> Joined:
    """Start a process in a running container.

    Raises:
        InputError: the container does not run, or the process makes no sense there.
        HostError: its pid cannot be written down.
        InstanceError: it could not be started. Whatever is raised, nothing is left of it.
    """
    handover.check(process)
    record = directory.read()
    status = directory.status(record)
    if status not in {"created", "running"}:
        raise InputError(f"container {directory.id} is {status}, not running")
    specification = directory.specification()
    with Spawner(journal) as spawner:
        joined = spawner.call(lambda: _join(spawner, record, specification, process, handover))
    if handover.pid_file is not None:
        try:
            write_pid_file(handover.pid_file, joined.pid)
        except HostError:
            signal.pidfd_send_signal(joined.pidfd, signal.SIGKILL)
            raise
    return joined


def _join(
    spawner: Spawner, record: Record, specification: Specification, process: Process, handover: Handover
) -> Joined:
    with contextlib.ExitStack() as stack:
        try:
            first = os.pidfd_open(record.pid)
        except ProcessLookupError:
            raise InstanceError(f"container {record.id} has just ended") from None
        stack.callback(os.close, first)
        # Now that the descriptor keeps the pid from being another's.
        if not record.alive:
            raise InstanceError(f"container {record.id} has just ended")
        slots = Slots()
        identity = map_of(specification.linux)
        program = join_program(
            specification,
            process,
            slots,
            first,
            stdio=console_steps(process, handover, slots, stack, at_dev_console=False),
            keep_groups=identity is not None and identity.deny_setgroups,
        )
        spawned = _spawn(spawner, program, slots, open_group(map(Path, record.groups)))
    return Joined(spawned.pid, spawned.pidfd)


def _spawn(spawner: Spawner, program: Program, slots: Slots, group: Group) -> Spawned:
    with group.spawning():
        return spawner.spawn(
            program,
            descriptors=slots.descriptors,
            watched=(),
            awaited=0,
            timeout=PATIENCE,
            cgroup=group.descriptor,
            detached=True,
        )
