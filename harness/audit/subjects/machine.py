"""The virtual machine: the payload runs as the guest's root, with everything that a guest's root may do.

A tenant of a virtual machine usually is its root, and what holds that root is the hypervisor; so nothing that
the guest's own kernel refuses may pass for isolation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.payload import beacon
from pybench.harness.audit.subjects.base import (
    BEACON,
    ENVIRONMENT,
    IDLE,
    PYTHON,
    READY_SECONDS,
    STOP_SECONDS,
    VARIABLE,
    Ports,
    has_python,
    read_ports,
)
from pybench.harness.audit.subjects.limits import LIMITS
from pybench.harness.model import Readiness, Resources, Workload
from pybench.harness.targets import TargetContext, VmSettings
from pybench.harness.targets.vm import VmInstance, VmTarget
from pybench.runtime.container.cgroup.base import Limits

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.harness.audit.model import Kind
    from pybench.vm_images import Image

MEMORY: Final = 256 << 20
_NO_VOLUMES: Final[Mapping[str, str]] = {}


class MachineSubject:
    """A running virtual machine."""

    kind: Kind = "vm"
    own_kernel = True
    shared = False
    group = None
    volumes = _NO_VOLUMES

    def __init__(self, instance: VmInstance, token: str, address: str | None) -> None:
        self.instance = instance
        """With its `machine`, whose domain can be looked into."""
        self.token = token
        self.address = address
        self.qualifiers = instance.qualifiers
        spec = instance.machine.spec
        self.limits = Limits(memory=spec.memory, cpus=spec.vcpus, pids=LIMITS.pids)
        self.ports: Ports | None = read_ports(instance.output)

    @property
    def pid(self) -> int | None:
        """Of its monitor."""
        return None if self.instance.ended else next(iter(self.instance.processes), None)

    @property
    def processes(self) -> tuple[int, ...]:
        """Its monitor."""
        return self.instance.processes

    def run(self, interpreter: Sequence[str], script: bytes, timeout: float, maximum: int) -> bytes:
        """Run a script as the guest's root.

        Raises:
            InstanceError: it did not end in time, printed too much, or the guest died.
        """
        done = self.instance.machine.execute(
            interpreter,
            stdin=script,
            environment=ENVIRONMENT,
            privileged=True,
            timeout=timeout,
            maximum=maximum,
        )
        return done.output


class MachineMaker:
    """Makes virtual machines."""

    label = "vm"
    kind: Kind = "vm"

    def __init__(self, network: str = "none") -> None:
        self._settings = VmSettings.model_validate({"network": network, "memory": MEMORY})

    @contextmanager
    def opened(self, planting: Planting, image: Image) -> Iterator[Iterator[MachineSubject]]:
        """Start instances on demand, each with a workload of its own."""

        def start() -> Iterator[MachineSubject]:
            while True:
                yield _start(target, planting, image, removal)

        with ExitStack() as removal:
            scratch = removal.enter_context(TemporaryDirectory(prefix="pybench-audit-"))
            target = VmTarget(self._settings, TargetContext(planting.journal, Path(scratch)))
            removal.callback(target.cleanup)
            yield start()


def _start(target: VmTarget, planting: Planting, image: Image, removal: ExitStack) -> MachineSubject:
    token = planting.tokens.make()
    command = (PYTHON, "-I", "-c", beacon(), token) if has_python(image) else IDLE
    workload = Workload(
        "audit",
        image.name,
        command,
        environment={**ENVIRONMENT, VARIABLE: token},
        readiness=Readiness("line", BEACON),
        resources=Resources(memory=MEMORY),
    )
    target.prepare(workload, image)
    instance = target.launch(READY_SECONDS)
    removal.callback(instance.stop, STOP_SECONDS)
    address = re.search(r"PYBENCH_ADDRESS=([0-9.]+)", instance.machine.spec.command_line)
    return MachineSubject(instance, token, address[1] if address else None)
