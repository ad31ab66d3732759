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
    "FEATURES",
    "KINDS",
    "MACHINES",
    "NETWORKED",
    "ChrootSettings",
    "ContainerSettings",
    "MockSettings",
    "ProcessSettings",
    "TargetContext",
    "TargetKind",
    "TargetSettings",
    "VmRestoreSettings",
    "VmSettings",
    "open_target",
]


FEATURES: Final = {
    "files": "put files into its image",
    "user": "run it as another user",
    "ports": "be reached on its ports",
    "disk": "have room on the host's disk",
    "tcp": "be asked over the network",
    "http": "be asked over the network",
}
"""What a workload may ask for and not every target can do; each completes "a target that cannot …"."""
NETWORKED: Final = frozenset({"ports", "tcp", "http"})
"""Features of what has an address of its own."""
FILLED: Final = frozenset({"files", "user"})


class TargetSettings(BaseModel):
    """What every target of a scenario file may say; a kind adds its own options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str | None = None
    """The implementation; by default the target's label names it."""
    repetitions: Repetitions = 20
    """Measured launches of each workload, at most."""
    warmups: Warmups | None = None
    """Exactly so many warm-ups, whatever the schedule says."""

    @property
    def features(self) -> frozenset[str]:
        """What it honours of a workload beyond image, command, environment and limits."""
        return frozenset()


class ProcessSettings(TargetSettings):
    """Options of the bare process."""

    limited: bool = False
    """Hold each instance to the workload's limits, by a control group of the host."""

    @property
    def features(self) -> frozenset[str]:
        """It listens on the host's own ports; its file tree is the host's too."""
        return NETWORKED | {"user", "disk"}


class ChrootSettings(TargetSettings):
    """Options of the process with a root directory of its own."""

    limited: bool = False
    """Hold each instance to the workload's limits, by a control group of the host."""

    @property
    def features(self) -> frozenset[str]:
        """It listens on the host's own ports."""
        return NETWORKED | FILLED | {"disk"}


class ContainerSettings(TargetSettings):
    """Options of our container."""

    profile: Literal["default", "strict", "privileged"] = "default"
    """How far it is confined; `privileged` is root of the host in namespaces of its own."""
    network: Literal["none", "bridge"] = "none"
    """`bridge`: an interface and address of its own, from a pool made ahead; `none`: loopback alone."""
    siblings: bool = False
    """On a bridge: whether instances of this target reach each other."""
    writable: MemorySize | None = None
    """Bytes that it may write into its root, in memory; without it the root is read-only."""

    @property
    def features(self) -> frozenset[str]:
        """With an address of its own it can be asked."""
        return FILLED | {"disk"} | (NETWORKED if self.network == "bridge" else frozenset())


class VmSettings(TargetSettings):
    """Options of the virtual machine."""

    accel: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto` takes KVM when a test boot of the image succeeds under it."""
    memory: MemorySize = 256 * 2**20
    """The guest's memory in bytes, when the workload declares no larger limit."""
    machine: Literal["q35", "microvm"] = "q35"
    """`microvm`: QEMU's machine without PCI; disks and networks take the driver virtio_mmio in the image."""
    network: Literal["none", "user", "bridge"] = "none"
    """`bridge`: an address of its own on a bridge, siblings isolated; `user`: QEMU's own, outwards only."""
    siblings: bool = False
    """On a bridge: whether instances of this target reach each other."""
    libvirt_uri: str = Field(default="", max_length=4096)
    """A libvirt connection URI; empty means libvirt's embedded driver, which needs no daemon."""

    @property
    def features(self) -> frozenset[str]:
        """With an address of its own it can be asked.

        On QEMU's own network it is QEMU that accepts a connection, but the guest that answers.
        """
        asked = {"bridge": NETWORKED, "user": frozenset({"http"}), "none": frozenset[str]()}
        return FILLED | {"disk"} | asked[self.network]


class VmRestoreSettings(VmSettings):
    """Options of the restored virtual machine."""

    @property
    def features(self) -> frozenset[str]:
        """Files and user are those of the machine that was saved; a disk of its own cannot be another's."""
        return super().features - {"disk"}


class MockSettings(TargetSettings):
    """Options of the pretended target that scheduler tests use."""

    latency: Duration = 0.001
    """Seconds from request to ready, as the pretended marks tell it; no time passes."""
    delay: Duration = 0.0
    """Seconds that a launch really takes."""
    failures: str = Field(default="", pattern=r"^[.xdl]{0,1000}$")
    """One character per launch, repeated: `.` succeeds, `x` fails to start, `d` dies after it was ready, `l`
    leaves something behind."""

    @property
    def features(self) -> frozenset[str]:
        """It pretends whatever it is asked for."""
        return frozenset(FEATURES)


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
    typical_seconds: float
    """What a launch with its teardown takes on the reference host, for plans that nothing is known about."""
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
        settings=ProcessSettings,
        class_path="pybench.harness.targets.process:ProcessTarget",
        typical_seconds=0.03,
    ),
    "floor": TargetKind(
        title="Raw clone3",
        description="clone3 with the container's namespaces, then exec, nothing else; the physical limit",
        settings=TargetSettings,
        class_path="pybench.harness.targets.floor:FloorTarget",
        typical_seconds=0.03,
    ),
    "chroot": TargetKind(
        title="Process in a chroot",
        description="fork, chroot into the image, exec: a file tree of its own, everything else the host's",
        settings=ChrootSettings,
        class_path="pybench.harness.targets.chroot:ChrootTarget",
        typical_seconds=0.03,
    ),
    "container": TargetKind(
        title="Container",
        description="our namespace-based container with cgroup limits and no capabilities",
        settings=ContainerSettings,
        class_path="pybench.harness.targets.container:ContainerTarget",
        typical_seconds=0.05,
    ),
    "vm": TargetKind(
        title="Virtual machine",
        description="a libvirt domain: KVM when a test boot succeeds, else TCG emulation, and labelled so",
        settings=VmSettings,
        class_path="pybench.harness.targets.vm:VmTarget",
        typical_seconds=3.2,
    ),
    "vm-restore": TargetKind(
        title="Restored VM",
        description="the same virtual machine, restored from the state of one that was booted and ready",
        settings=VmRestoreSettings,
        class_path="pybench.harness.targets.vm_restore:VmRestoreTarget",
        typical_seconds=1.2,
    ),
    "mock": TargetKind(
        title="Pretended",
        description="launches nothing and reports invented marks; for tests of the scheduler",
        settings=MockSettings,
        class_path="pybench.harness.targets.mock:MockTarget",
        typical_seconds=0.005,
        needs_image=False,
    ),
}

MACHINES: Final = frozenset(name for name, kind in KINDS.items() if issubclass(kind.settings, VmSettings))
"""Kinds that run a virtual machine."""


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
