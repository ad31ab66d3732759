"""Another process in a container that runs: into all of its namespaces, then confined as the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pybench.runtime.container.assembly.assemble import PlainRoot, Surroundings, process_steps
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.defaults import own_capabilities
from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.spawn.process_steps import Join
from pybench.runtime.container.spawn.spawner import Program
from pybench.runtime.container.spawn.steps import Identity, Step, WaitForMaps
from pybench.runtime.container.specification.linux import IdMapping
from pybench.runtime.container.specification.model import Process, Specification
from pybench.runtime.container.specification.namespaces import FLAGS
from pybench.runtime.errors import InputError


def join_program(
    specification: Specification,
    process: Process,
    slots: Slots,
    first: int,
    *,
    stdio: Sequence[Step],
    keep_groups: bool = False,
    policy: Policy | None = None,
    keyring: bool = True,
) -> Program:
    """The program to spawn detached, in the container's control group.

    Args:
        specification: the container's.
        process: the one that joins.
        slots: gets the descriptor `first`.
        first: a pidfd of the container's first process.
        stdio: what makes its input, output and errors.
        keep_groups: setgroups is denied in the container's user namespace.
        policy: its filter on system calls, in the place of the specification's.
        keyring: whether it gets a session keyring of its own.
    """
    kinds = {namespace.type for namespace in specification.linux.namespaces}
    surroundings = Surroundings(
        root=PlainRoot(Path("/")),
        bundle=Path("/"),
        slots=slots,
        map_ids=_no_mounts,
        policy=policy,
        keyring=keyring,
        keep_groups=keep_groups,
        grantable=None if "user" in kinds else own_capabilities("CapPrm"),
    )
    steps = (
        WaitForMaps(),
        Join(slots.give(first), sum(FLAGS[kind] for kind in kinds)),
        *((Identity(keep_groups=keep_groups),) if "user" in kinds else ()),
        *stdio,
        *process_steps(process, specification, surroundings),
    )
    environment = dict(variable.split("=", 1) for variable in process.env)
    return Program.compile(steps, process.args, environment, 0, path=process.args[0])


def _no_mounts(source: Path, _uids: Sequence[IdMapping], _gids: Sequence[IdMapping]) -> Path:
    raise InputError(f"{source}: a process that joins a container mounts nothing")
