"""Neighbours that strain one thing each: stress-ng from the image `bench`, within limits of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from pybench.harness.model import Readiness, Resources, TargetChoice, Workload
from pybench.harness.targets import KINDS

IMAGE: Final = "bench"
PROGRAM: Final = "/usr/bin/stress-ng"
WRITABLE: Final = 64 << 20
"""Bytes that a neighbour may write into its root."""
STRESS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cpu": ("--cpu", "2", "--cpu-method", "int64"),
        "memory": ("--stream", "2"),
        "fork": ("--fork", "2"),
        "disk": ("--hdd", "1", "--hdd-bytes", "16m"),
        "network": ("--sock", "2"),
    }
)
"""Name → what it strains, as stress-ng(1) calls it.

Arithmetic; copies of more memory than the caches hold; processes that only end; files written, read and
removed in its own root; connections over its own loopback interface.
"""


def neighbour(name: str, resources: Resources) -> Workload:
    """The workload of one neighbour; ready when it has dispatched its workers."""
    return Workload(
        name=f"beside-{name}",
        image=IMAGE,
        command=(PROGRAM, *STRESS[name], "--no-oom-adjust", "--temp-path", "/tmp"),  # noqa: S108 - inside
        environment={"PATH": "/usr/bin:/bin"},
        readiness=Readiness("line", "dispatching hogs"),
        resources=resources,
    )


def neighbours_target(victim: TargetChoice) -> TargetChoice:
    """Where a neighbour runs: as the victim does, but so that the host survives it.

    A bare process has neither limits nor the libraries of another image; its neighbours are bare processes
    with the image as their root directory, in a control group of the host.
    """
    if victim.kind in {"process", "floor", "chroot"}:
        return TargetChoice("beside", "chroot", 1, {"limited": True})
    options = dict(victim.options)
    if "writable" in KINDS[victim.kind].option_names:
        options["writable"] = WRITABLE
    kind = "vm" if victim.kind == "vm-restore" else victim.kind
    return replace(victim, name="beside", kind=kind, options=options)
