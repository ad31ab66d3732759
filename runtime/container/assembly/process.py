"""What the container's process is, as steps: who, with which rights and limits, and which program."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from typing import Final

from pybench.runtime.container.seccomp.compile import compile_filter, filter_flags
from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.spawn.process_steps import FindProgram, SystemCall
from pybench.runtime.container.spawn.steps import (
    BoundingSet,
    Capabilities,
    FileModeMask,
    Filter,
    Identity,
    NoNewPrivileges,
    ResourceLimit,
    Step,
)
from pybench.runtime.container.specification.capability_names import CapabilitySets, capability_sets
from pybench.runtime.container.specification.model import Process, Scheduler
from pybench.runtime.container.specification.rlimit_names import RLIMITS
from pybench.runtime.container.specification.seccomp import SeccompProfile

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK: Final = 0o022

# Numbers of system calls on x86-64
_PRCTL: Final = 157
_PERSONALITY: Final = 135
_IOPRIO_SET: Final = 251
_SCHED_SETATTR: Final = 314
_SCHED_SETAFFINITY: Final = 203

_PR_SET_KEEPCAPS: Final = 8
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_CLASS_SHIFT: Final = 13
_IOPRIO_CLASSES: Final = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
# <linux/sched.h>
_POLICIES: Final = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}  # fmt: skip
_SCHEDULER_FLAGS: Final = {
    "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4,
    "SCHED_FLAG_KEEP_POLICY": 8, "SCHED_FLAG_KEEP_PARAMS": 16,
}  # fmt: skip
_PERSONALITIES: Final = {"LINUX": 0, "LINUX32": 8}


def attribute_steps(process: Process, personality: str | None = None) -> Iterator[Step]:
    """Limits, priorities and the mask of file modes, while the child may still set them."""
    for limit in process.rlimits:
        yield ResourceLimit(RLIMITS[limit.type], limit.soft, limit.hard)
    if process.scheduler:
        attributes = _scheduling_attributes(process.scheduler)
        yield SystemCall("sched_setattr", _SCHED_SETATTR, (0, attributes, 0))
    if process.io_priority:
        value = _IOPRIO_CLASSES[process.io_priority.class_] << _IOPRIO_CLASS_SHIFT
        value |= process.io_priority.priority
        yield SystemCall("ioprio_set", _IOPRIO_SET, (_IOPRIO_WHO_PROCESS, 0, value))
    if personality:
        yield SystemCall("personality", _PERSONALITY, (_PERSONALITIES[personality],))
    if process.exec_cpu_affinity and process.exec_cpu_affinity.final:
        mask = _processor_mask(process.exec_cpu_affinity.final)
        yield SystemCall("sched_setaffinity", _SCHED_SETAFFINITY, (0, len(mask), mask))
    yield FileModeMask(DEFAULT_UMASK if process.user.umask is None else process.user.umask)


def right_steps(
    process: Process,
    policy: SeccompProfile | Policy | None,
    *,
    keep_groups: bool = False,
    grantable: int | None = None,
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Who the process is and what it may do.

    Returns:
        Steps for now, and those that come last, just before execve.

    Without no_new_privs a filter takes CAP_SYS_ADMIN, so it comes before the capabilities are given up; with
    it, it comes last, and need not allow what the steps themselves do.
    """
    sets = capability_sets(process.capabilities)[0] if process.capabilities else CapabilitySets()
    if grantable is not None:
        sets = CapabilitySets(*(bits & grantable for bits in dataclasses.astuple(sets)))
    user = process.user
    filter_ = (Filter(compile_filter(policy), filter_flags(policy)),) if policy else ()
    now: list[Step] = [BoundingSet(sets.bounding)]
    if not process.no_new_privileges:
        now += filter_
    if user.uid:
        # Else the change of identity would empty the permitted set (capabilities(7)).
        now.append(SystemCall("prctl(PR_SET_KEEPCAPS)", _PRCTL, (_PR_SET_KEEPCAPS, 1)))
    now += (
        Identity(user.uid, user.gid, user.additional_gids, keep_groups=keep_groups),
        Capabilities(sets.effective, sets.permitted, sets.inheritable, sets.ambient),
    )
    if process.no_new_privileges:
        return (*now, NoNewPrivileges()), filter_
    return tuple(now), ()


def program_step(process: Process) -> FindProgram:
    """The program by its path, or where $PATH finds it inside."""
    name = process.args[0]
    if "/" in name:
        return FindProgram((name,))
    variables = dict(variable.split("=", 1) for variable in process.env)
    folders = variables.get("PATH", DEFAULT_PATH).split(":")
    return FindProgram(tuple(os.path.join(folder or ".", name) for folder in folders))  # noqa: PTH118


def _scheduling_attributes(scheduler: Scheduler) -> bytes:
    """A struct sched_attr, sched_setattr(2)."""
    flags = sum(_SCHEDULER_FLAGS[flag] for flag in set(scheduler.flags))
    times = (scheduler.runtime, scheduler.deadline, scheduler.period)
    form = "=IIQiIQQQ"
    policy = _POLICIES[scheduler.policy]
    size = struct.calcsize(form)
    return struct.pack(form, size, policy, flags, scheduler.nice, scheduler.priority, *times)


def _processor_mask(text: str) -> bytes:
    mask = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            mask |= 1 << number
    return mask.to_bytes(max(8, (mask.bit_length() + 63) // 64 * 8), "little")
