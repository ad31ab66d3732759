"""Target `vm-restore`: guests restored from the saved state of one that was booted and ready."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InputError
from pybench.harness.targets.vm import VmInstance, VmTarget
from pybench.runtime.vm.domain import Interface
from pybench.runtime.vm.drivers import has_init
from pybench.runtime.vm.identity import Identity
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.network import random_link_address

if TYPE_CHECKING:
    from pybench.harness.model import Workload
    from pybench.harness.targets import TargetContext, VmSettings
    from pybench.harness.targets.base import ImageFiles
    from pybench.runtime.vm.network import GuestNetwork
    from pybench.runtime.vm.saved_state import SavedState

BOOT_SECONDS: Final = 180.0
"""What the guest to be saved gets for its boot: as much as a large image needs under emulation."""
SAVE_SECONDS: Final = 60.0


class VmRestoreTarget(VmTarget):
    """One workload's guest, booted and saved once, ahead of the clock, and restored for every launch."""

    start = "restore"

    def __init__(self, settings: VmSettings, context: TargetContext) -> None:
        super().__init__(settings, context)
        self._state: SavedState | None = None
        self._host_name = ""

    def prepare(self, workload: Workload, image: ImageFiles) -> None:
        """Boot a guest with the workload and save it once it is ready.

        Raises:
            InputError: the command is not in the image, or limits or network do not suit a saved machine.
            HostError: libvirt or QEMU is missing, KVM is demanded and does not boot the image, or libvirt
                saves in a form that is not known.
            InstanceError: the guest did not become ready, or could not be saved.
        """
        if not has_init(image.initramfs):
            raise InputError(
                f"the guest of image {image.name} has no init to give it an identity", "target: vm"
            )
        self._discard_state()
        super().prepare(workload, image)
        connection = self._connected()
        with contextlib.ExitStack() as resources:
            network = self._network(resources)
            address = network.host_view if network else ""
            spec = dataclasses.replace(self._specify(network), savable=True)
            machine = VirtualMachine(connection, spec)
            machine.start(BOOT_SECONDS)
            if self._asked is not None:
                saved = VmInstance(machine, self.qualifiers, contextlib.ExitStack(), address)
                saved.await_answer(self._asked, BOOT_SECONDS)
            self._state = machine.save(connection.directory / f"{machine.name}.state", SAVE_SECONDS)
        self._spec = machine.spec
        self._host_name = workload.name

    def launch(self, timeout: float) -> VmInstance:
        """Restore one guest, with an identity and, where it has a network, an address of its own.

        Raises:
            InstanceError: it failed or was not ready in time; nothing is left of it.
        """
        if self._spec is None:
            raise RuntimeError("launch before prepare")
        with contextlib.ExitStack() as resources:
            network = self._network(resources)
            address = network.host_view if network else ""
            spec, identity = self._spec, Identity.fresh(self._host_name)
            if network is not None:
                card = network.interface
                spec = dataclasses.replace(spec, interface=card)
                identity = Identity.fresh(self._host_name, card.hardware_address, str(network.address))
            machine = VirtualMachine(self._connected(), spec, self._state, identity)
            machine.start(timeout)
            instance = VmInstance(machine, self.qualifiers, resources.pop_all(), address)
        if self._asked is not None:
            instance.await_answer(self._asked, timeout)
        return instance

    def _network(self, resources: contextlib.ExitStack) -> GuestNetwork | None:
        """What one guest gets, until `resources` are closed: a card that no sibling has."""
        network = super()._network(resources)
        if network is None or network.reachable:
            return network
        return dataclasses.replace(network, interface=Interface("user", random_link_address()))

    def cleanup(self) -> None:
        """Remove the saved state as well; idempotent.

        Raises:
            LeftoverError: libvirt still knows a domain.
        """
        self._discard_state()
        super().cleanup()

    def _discard_state(self) -> None:
        if self._state is not None:
            self._state.path.unlink(missing_ok=True)
            self._state = None
