"""What an idle container costs the host in memory: the slope over their number.

Run with `tox run -e benchmarks` on a quiet machine; with `-s` the figures are printed.
"""

from __future__ import annotations

import gc
import statistics
import time
from pathlib import Path

from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.container import Container
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.journal import Journal

COUNTS = (1, 25, 50, 100, 150, 200)
LIMIT = 1 << 20
"""Bytes per container."""
KERNEL_FIELDS = ("Slab", "PageTables", "KernelStack", "Percpu")
"""Of /proc/meminfo: what the kernel keeps for processes, namespaces, mounts and groups."""
SETTLING = 1.0
"""Seconds, for what the kernel frees only after a grace period."""


def meminfo(*fields: str) -> int:
    """Bytes of these lines together."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return sum(values[field] for field in fields)


def own_memory() -> int:
    """Resident bytes of this process that nobody shares: the harness's bookkeeping."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def readings(containers: list[Container]) -> dict[str, int]:
    """Everything that grows with the number of containers, in bytes."""
    gc.collect()
    time.sleep(SETTLING)
    return {
        "control groups": sum(container.memory_charged or 0 for container in containers),
        "kernel": meminfo(*KERNEL_FIELDS),
        "harness": own_memory(),
        "available": -meminfo("MemAvailable"),
    }


def test_memory_per_idle_container(journal: Journal, idle: SandboxSpec) -> None:
    """The groups' charge, the kernel's own memory and our bookkeeping stay below a mebibyte each."""
    taken: list[dict[str, int]] = []
    containers: list[Container] = []
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), idle) as sandbox:
        for count in COUNTS:
            while len(containers) < count:
                containers.append(sandbox.start(60))
            taken.append(readings(containers))
        for container in containers:
            container.stop(0)
    slopes = {
        name: statistics.linear_regression(COUNTS, [reading[name] for reading in taken]).slope
        for name in taken[0]
    }
    print()
    for name, slope in slopes.items():
        print(f"{name:<15} {slope / 1024:8.1f} KiB per container")
    # The charge of the groups has much of the kernel's memory in it, so their sum is an upper bound.
    total = slopes["control groups"] + slopes["kernel"] + slopes["harness"]
    print(f"{'upper bound':<15} {total / 1024:8.1f} KiB per container")
    assert total <= LIMIT
