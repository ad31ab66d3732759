"""The registry of targets: what each is called, which options it takes, and where its class lives.

Nothing heavy is imported here: a scenario is validated without libvirt or the C extension, and
the class of a target is imported when a run opens it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from pybench.harness.fields import Duration, MemorySize, Repetitions, Warmups

if TYPE_CHECKING:
    from pybench.harness.model import TargetChoice
    from pybench.harness.targets.base import Target
    from pybench.runtime.journal import Journal

__all__ = [
    "KINDS",
    "MockSettings",
    "TargetContext",
    "TargetKind",
    "TargetSettings",
    "VmSettings",
    "open_target",
]


class TargetSettings(BaseModel):
    """What every target of a scenario file may say; a kind adds its own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str | None = None
    """The implementation; by default the target's label names it."""
    repetitions: Repetitions = 20
    warmups: Warmups | None = None
    """Overrides the schedule's."""


class ContainerSettings(TargetSettings):
    """Options of our container."""

    profile: Literal["default", "strict", "privileged"] = "default"
    """How far it is confined; `privileged` is root of the host in namespaces of its own."""
    network: Literal["none", "bridge"] = "none"
    """`bridge`: an interface and address of its own, from a pool made ahead; `none`: loopback alone."""
    writable: MemorySize | None = None
    """Bytes that it may write into its root, in memory; without it the root is read-only."""


class VmSettings(TargetSettings):
    """Options of the virtual machine."""

    accel: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto` takes KVM when a test boot of the image succeeds under it."""
    memory: MemorySize = 256 * 2**20
    """The guest's memory in bytes, when the workload declares no larger limit."""
    network: Literal["none", "user", "bridge"] = "none"
    """`bridge`: an address of its own on a bridge, siblings isolated; `user`: QEMU's own, outwards only."""
    libvirt_uri: str = Field(default="", max_length=4096)
    """A libvirt connection URI; empty means libvirt's embedded driver, which needs no daemon."""


class MockSettings(TargetSettings):
    """Options of the pretended target that scheduler tests use."""

    latency: Duration = 0.001
    """Seconds from request to ready, as the pretended marks tell it; no time passes."""
    delay: Duration = 0.0
    """Seconds that a launch really takes."""
    failures: str = Field(default="", pattern=r"^[.xdl]{0,1000}$")
    """One character per launch, repeated: `.` succeeds, `x` fails to start, `d` dies after it was ready, `l`
    leaves something behind."""


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target is given when it is opened."""

    journal: Journal
    directory: Path
    """Where it may keep logs and console output of this run; it exists."""


@dataclass(frozen=True, slots=True)
class TargetKind:
    """One implementation of the target protocol."""

    title: str
    description: str
    settings: type[TargetSettings]
    class_path: str
    """`module:Class`; called as `Class(settings, context)`."""
    needs_image: bool = True
    """False where nothing is really run, so that no image has to be built."""

    @property
    def option_names(self) -> frozenset[str]:
        """The options this kind adds to those of every target."""
        return frozenset(self.settings.model_fields) - frozenset(TargetSettings.model_fields)


KINDS: Final[dict[str, TargetKind]] = {
    "process": TargetKind(
        title="Bare process",
        description="fork and exec on the host, in the image's directory; the baseline",
        settings=TargetSettings,
        class_path="pybench.harness.targets.process:ProcessTarget",
    ),
    "floor": TargetKind(
        title="Raw clone3",
        description="clone3 with the container's namespaces, then exec, nothing else; the physical limit",
        settings=TargetSettings,
        class_path="pybench.harness.targets.floor:FloorTarget",
    ),
    "container": TargetKind(
        title="Container",
        description="our namespace-based container with cgroup limits and no capabilities",
        settings=ContainerSettings,
        class_path="pybench.harness.targets.container:ContainerTarget",
    ),
    "vm": TargetKind(
        title="Virtual machine",
        description="a libvirt domain: KVM when a test boot succeeds, else TCG emulation, and labelled so",
        settings=VmSettings,
        class_path="pybench.harness.targets.vm:VmTarget",
    ),
    "vm-restore": TargetKind(
        title="Restored VM",
        description="the same virtual machine, restored from the state of one that was booted and ready",
        settings=VmSettings,
        class_path="pybench.harness.targets.vm_restore:VmRestoreTarget",
    ),
    "mock": TargetKind(
        title="Pretended",
        description="launches nothing and reports invented marks; for tests of the scheduler",
        settings=MockSettings,
        class_path="pybench.harness.targets.mock:MockTarget",
        needs_image=False,
    ),
}


def open_target(choice: TargetChoice, context: TargetContext) -> Target:
    """Import and construct the target that a validated choice names.

    Raises:
        HostError: the host lacks what the target needs to be opened at all.
    """
    kind = KINDS[choice.kind]
    module_name, class_name = kind.class_path.split(":")
    target_class: Any = getattr(importlib.import_module(module_name), class_name)
    settings = kind.settings.model_validate(
        {"repetitions": choice.repetitions, "warmups": choice.warmups, **choice.options}
    )
    return cast("Target", target_class(settings, context))
