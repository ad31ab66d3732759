"""The document itself: `config.json` and what in it is not particular to Linux.

Field names are those of the specification in snake case; its texts say what each means:
https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pybench.runtime.container.specification.decode import Between, UInt16, UInt32, UInt64, key
from pybench.runtime.container.specification.linux import IdMapping, Linux

SchedulerPolicy = Literal[
    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"
]
SchedulerFlag = Literal[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSize:
    """Size of the terminal, in characters; without a terminal it counts for nothing."""

    height: UInt16
    width: UInt16


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who the process is, inside the container."""

    uid: UInt32 = 0
    gid: UInt32 = 0
    umask: Annotated[int, Between(0, 0o777)] | None = None
    additional_gids: tuple[UInt32, ...] = ()
    username: str = ""
    """Of Windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The five sets, by name; see `capability_names.capability_sets`."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimit:
    """A limit of setrlimit(2); the highest number means unlimited."""

    type: str
    hard: UInt64
    soft: UInt64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """Attributes of sched_setattr(2); runtime, deadline and period are in nanoseconds."""

    policy: SchedulerPolicy
    nice: Annotated[int, Between(-20, 19)] = 0
    priority: Annotated[int, Between(0, 99)] = 0
    flags: tuple[SchedulerFlag, ...] = ()
    runtime: UInt64 = 0
    deadline: UInt64 = 0
    period: UInt64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IoPriority:
    """Priority of ioprio_set(2)."""

    class_: Literal["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"] = field(metadata=key("class"))
    priority: Annotated[int, Between(0, 7)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuAffinity:
    """Where a process that joins the container runs: before its move into the cgroup, and after."""

    initial: str = ""
    final: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The container's process."""

    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = field(default_factory=User)
    args: tuple[str, ...] = ()
    command_line: str = ""
    """Of Windows."""
    env: tuple[str, ...] = ()
    cwd: str
    capabilities: Capabilities | None = None
    rlimits: tuple[ResourceLimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: Annotated[int, Between(-1000, 1000)] | None = None
    scheduler: Scheduler | None = None
    selinux_label: str = ""
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = field(default=None, metadata=key("execCPUAffinity"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root filesystem; a relative path is relative to the bundle."""

    path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount; `mounts.parse_options` takes its options apart."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program run at a point of the lifecycle; `timeout` is in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: Annotated[int, Between(1, 2**31 - 1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Programs to run, by point of the lifecycle."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """A whole `config.json`."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks = field(default_factory=Hooks)
    annotations: Mapping[str, str] = field(default_factory=dict)
    linux: Linux = field(default_factory=Linux)
    solaris: object = None
    windows: object = None
    vm: object = None
    zos: object = None
