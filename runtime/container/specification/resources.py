"""The object `linux.resources`: limits of the container's control group.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#control-groups
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pybench.runtime.container.specification.decode import Between, Int64, UInt16, UInt32, UInt64, key


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Limits in bytes; -1 means unlimited. `swap` is memory and swap together."""

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = field(default=None, metadata=key("kernelTCP"))
    swappiness: UInt64 | None = None
    disable_oom_killer: bool | None = field(default=None, metadata=key("disableOOMKiller"))
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Shares, and times in microseconds; `cpus` and `mems` are lists such as `0-3,7`."""

    shares: UInt64 | None = None
    quota: Int64 | None = None
    burst: UInt64 | None = None
    period: UInt64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: UInt64 | None = None
    cpus: str = ""
    mems: str = ""
    idle: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pids:
    """The greatest number of processes; 0 or less means unlimited."""

    limit: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightDevice:
    """The weight of one block device."""

    major: Int64
    minor: Int64
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleDevice:
    """A limit of one block device, in bytes or operations a second."""

    major: Int64
    minor: Int64
    rate: UInt64


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockIO:
    """Limits of block devices."""

    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = field(
        default=(), metadata=key("throttleReadIOPSDevice")
    )
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = field(
        default=(), metadata=key("throttleWriteIOPSDevice")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HugepageLimit:
    """A limit in bytes for one size of huge pages, such as `2MB`."""

    page_size: str
    limit: UInt64


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePriority:
    """The priority of one network interface."""

    name: str
    priority: UInt32


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Marks of network packets."""

    class_id: UInt32 | None = field(default=None, metadata=key("classID"))
    priorities: tuple[InterfacePriority, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rdma:
    """Limits of one RDMA device."""

    hca_handles: UInt32 | None = None
    hca_objects: UInt32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """Which devices may be used; later rules win. Absent numbers mean any."""

    allow: bool
    type: Literal["a", "b", "c"] = "a"
    major: Annotated[int, Between(-1, 2**32 - 1)] | None = None
    minor: Annotated[int, Between(-1, 2**32 - 1)] | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """All limits; `unified` are files of a cgroup v2 directory and what to write to them."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory = field(default_factory=Memory)
    cpu: Cpu = field(default_factory=Cpu)
    pids: Pids | None = None
    block_io: BlockIO = field(default_factory=BlockIO, metadata=key("blockIO"))
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network = field(default_factory=Network)
    rdma: Mapping[str, Rdma] = field(default_factory=dict)
    unified: Mapping[str, str] = field(default_factory=dict)
