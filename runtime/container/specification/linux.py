"""The object `linux`: namespaces, devices, paths and limits.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pybench.runtime.container.specification.decode import Between, Int64, UInt32, key
from pybench.runtime.container.specification.resources import Resources
from pybench.runtime.container.specification.seccomp import SeccompProfile

NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMapping:
    """A range of ids inside and outside."""

    container_id: UInt32 = field(metadata=key("containerID"))
    host_id: UInt32 = field(metadata=key("hostID"))
    size: UInt32


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace to make, or to join where it has a path."""

    type: NamespaceType
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOffset:
    """What a clock of the time namespace shows above the host's."""

    secs: Int64 = 0
    nanosecs: Annotated[int, Between(0, 999_999_999)] = 0

    @property
    def in_nanoseconds(self) -> int:
        """All of it."""
        return self.secs * 1_000_000_000 + self.nanosecs


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node in the container."""

    path: str
    type: Literal["c", "b", "u", "p"]
    major: Int64 = 0
    minor: Int64 = 0
    file_mode: Annotated[int, Between(0, 0o7777)] | None = None
    uid: UInt32 | None = None
    gid: UInt32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """The execution domain of personality(2)."""

    domain: Literal["LINUX", "LINUX32"]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Linux:
    """What is particular to Linux."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: Mapping[str, TimeOffset] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources = field(default_factory=Resources)
    rootfs_propagation: str = ""
    seccomp: SeccompProfile | None = None
    sysctl: Mapping[str, str] = field(default_factory=dict)
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    intel_rdt: object = None
