"""Every field of the specification: honoured, or refused with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from pybench.runtime.container.specification.decode import json_key
from pybench.runtime.container.specification.model import Specification
from pybench.runtime.errors import InputError

_HOOKS: Final = "prestart createRuntime createContainer startContainer poststart poststop"
_THROTTLED: Final = "ReadBps WriteBps ReadIOPS WriteIOPS"

_PLAIN: Final = """
    ociVersion hostname domainname annotations root.path root.readonly
    process.terminal process.consoleSize.height process.consoleSize.width
    process.user.uid process.user.gid process.user.umask process.user.additionalGids
    process.args process.env process.cwd process.noNewPrivileges process.oomScoreAdj
    process.capabilities.bounding process.capabilities.effective process.capabilities.inheritable
    process.capabilities.permitted process.capabilities.ambient
    process.rlimits[].type process.rlimits[].hard process.rlimits[].soft
    process.scheduler.policy process.scheduler.nice process.scheduler.priority process.scheduler.flags
    process.scheduler.runtime process.scheduler.deadline process.scheduler.period
    process.ioPriority.class process.ioPriority.priority
    process.execCPUAffinity.initial process.execCPUAffinity.final
    mounts[].destination mounts[].type mounts[].source mounts[].options
    mounts[].uidMappings[].containerID mounts[].uidMappings[].hostID mounts[].uidMappings[].size
    mounts[].gidMappings[].containerID mounts[].gidMappings[].hostID mounts[].gidMappings[].size
    linux.namespaces[].type linux.namespaces[].path
    linux.uidMappings[].containerID linux.uidMappings[].hostID linux.uidMappings[].size
    linux.gidMappings[].containerID linux.gidMappings[].hostID linux.gidMappings[].size
    linux.timeOffsets{}.secs linux.timeOffsets{}.nanosecs
    linux.devices[].path linux.devices[].type linux.devices[].major linux.devices[].minor
    linux.devices[].fileMode linux.devices[].uid linux.devices[].gid
    linux.cgroupsPath linux.rootfsPropagation linux.sysctl linux.maskedPaths linux.readonlyPaths
    linux.personality.domain linux.personality.flags
    linux.seccomp.defaultAction linux.seccomp.defaultErrnoRet linux.seccomp.architectures
    linux.seccomp.flags linux.seccomp.listenerPath linux.seccomp.listenerMetadata
    linux.seccomp.syscalls[].names linux.seccomp.syscalls[].action linux.seccomp.syscalls[].errnoRet
    linux.seccomp.syscalls[].args[].index linux.seccomp.syscalls[].args[].value
    linux.seccomp.syscalls[].args[].valueTwo linux.seccomp.syscalls[].args[].op
    linux.resources.devices[].allow linux.resources.devices[].type linux.resources.devices[].major
    linux.resources.devices[].minor linux.resources.devices[].access
    linux.resources.memory.limit linux.resources.memory.reservation linux.resources.memory.swap
    linux.resources.memory.checkBeforeUpdate
    linux.resources.cpu.shares linux.resources.cpu.quota linux.resources.cpu.burst
    linux.resources.cpu.period linux.resources.cpu.cpus linux.resources.cpu.mems linux.resources.cpu.idle
    linux.resources.pids.limit linux.resources.unified
    linux.resources.blockIO.weight linux.resources.blockIO.weightDevice[].major
    linux.resources.blockIO.weightDevice[].minor linux.resources.blockIO.weightDevice[].weight
    linux.resources.hugepageLimits[].pageSize linux.resources.hugepageLimits[].limit
"""
HONOURED: Final = frozenset(
    _PLAIN.split()
    + [f"hooks.{point}[].{field}" for point in _HOOKS.split() for field in ("path", "args", "env", "timeout")]
    + [
        f"linux.resources.blockIO.throttle{what}Device[].{field}"
        for what in _THROTTLED.split()
        for field in ("major", "minor", "rate")
    ]
)
"""Paths as `decode.field_paths` writes them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field is not honoured, and with which values it asks for nothing, so that they may stay."""

    reason: str
    harmless: tuple[object, ...] = ()


_OTHER_SYSTEM: Final = Refusal("containers here run on Linux")
_NO_PACKET_MARKS: Final = Refusal("the controllers net_cls and net_prio are gone from cgroup v2")
_NO_RDMA: Final = Refusal("no RDMA device is given to a container")
_NO_REALTIME: Final = Refusal("few kernels have CONFIG_RT_GROUP_SCHED, and cgroup v2 has no such limit", (0,))
_NO_CFQ: Final = Refusal("the CFQ scheduler is gone since Linux 5.0", (0,))
_NO_KERNEL_LIMIT: Final = Refusal("Linux counts kernel memory into linux.resources.memory.limit", (0, -1))

REFUSED: Final[Mapping[str, Refusal]] = MappingProxyType(
    {
        "solaris": _OTHER_SYSTEM,
        "windows": _OTHER_SYSTEM,
        "zos": _OTHER_SYSTEM,
        "process.commandLine": _OTHER_SYSTEM,
        "process.user.username": _OTHER_SYSTEM,
        "vm": Refusal("containers here are no virtual machines"),
        # Without AppArmor every process is unconfined already.
        "process.apparmorProfile": Refusal("AppArmor profiles are not applied", ("unconfined",)),
        "process.selinuxLabel": Refusal("SELinux labels are not applied"),
        "linux.mountLabel": Refusal("SELinux labels are not applied"),
        "linux.intelRdt": Refusal("cache and bandwidth allocation (resctrl) is not set up"),
        "linux.resources.network.classID": _NO_PACKET_MARKS,
        "linux.resources.network.priorities[].name": _NO_PACKET_MARKS,
        "linux.resources.network.priorities[].priority": _NO_PACKET_MARKS,
        "linux.resources.rdma{}.hcaHandles": _NO_RDMA,
        "linux.resources.rdma{}.hcaObjects": _NO_RDMA,
        "linux.resources.cpu.realtimeRuntime": _NO_REALTIME,
        "linux.resources.cpu.realtimePeriod": _NO_REALTIME,
        "linux.resources.memory.kernel": _NO_KERNEL_LIMIT,
        "linux.resources.memory.kernelTCP": _NO_KERNEL_LIMIT,
        "linux.resources.memory.swappiness": Refusal("cgroup v2 has no swappiness; set memory.swap instead"),
        "linux.resources.memory.disableOOMKiller": Refusal(
            "a container over its limit would hang; cgroup v2 cannot do that", (False,)
        ),
        "linux.resources.memory.useHierarchy": Refusal("memory is always counted by hierarchy", (True,)),
        "linux.resources.blockIO.leafWeight": _NO_CFQ,
        "linux.resources.blockIO.weightDevice[].leafWeight": _NO_CFQ,
    }
)


def check_support(specification: Specification) -> None:
    """Refuse the first field that is given and not honoured.

    Raises:
        InputError: starts with the path of the field.
    """
    for pattern, path, value in _given(specification, "", ""):
        refusal = REFUSED.get(pattern)
        if refusal and value not in refusal.harmless:
            raise InputError(f"{path}: is not supported: {refusal.reason}", f"remove {path}")


def _given(value: Any, pattern: str, path: str) -> Iterator[tuple[str, str, object]]:  # noqa: ANN401
    """The fields that say something: pattern as in the tables, path and value."""
    if value is None or (isinstance(value, str | tuple | dict | list) and not value):
        return
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            key = f".{json_key(field)}" if pattern else json_key(field)
            yield from _given(getattr(value, field.name), pattern + key, path + key)
    elif isinstance(value, tuple) and dataclasses.is_dataclass(value[0]):
        for number, item in enumerate(value):
            yield from _given(item, f"{pattern}[]", f"{path}[{number}]")
    elif isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
        for key, item in value.items():
            yield from _given(item, f"{pattern}{{}}", f"{path}.{key}")
    else:
        yield pattern, path, value
