"""A guest's room on the host's disk: a disk of its own, which is mounted once it runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import InputError, InstanceError
from pybench.harness.targets.base import DISK_PLACE
from pybench.runtime.output import printable
from pybench.runtime.vm.domain import Disk
from pybench.runtime.vm.drivers import has_driver

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.model import Workload
    from pybench.harness.targets.base import ImageFiles
    from pybench.harness.targets.vm import VmInstance
    from pybench.runtime.vm.progress import MachineSpec

MOUNT_SECONDS: Final = 60.0


def check_disk(workload: Workload, image: ImageFiles) -> None:
    """Refuse a disk that the guest could not use.

    Raises:
        InputError: it has no driver for it.
    """
    if workload.disk is not None and not has_driver("virtio_blk", image.kernel, image.initramfs):
        raise InputError(
            f"the guest of image {image.name} has no driver for a disk",
            "take the image minimal-virtio, or add virtio_pci and virtio_blk to kernel.modules of its recipe",
        )


def add_disk(spec: MachineSpec, path: Path) -> MachineSpec:
    """The same machine with one more disk, which it may write to."""
    return dataclasses.replace(spec, disks=(*spec.disks, Disk(path, writable=True)))


def mount_disk(instance: VmInstance, number: int) -> None:
    """Mount a guest's disk of that number, from 0, for everybody in it.

    Raises:
        InstanceError: it could not be mounted; the guest is gone.
    """
    device = f"/dev/vd{chr(ord('a') + number)}"
    try:
        for command in (("/bin/mount", "-t", "ext4", device, DISK_PLACE), ("/bin/chmod", "1777", DISK_PLACE)):
            done = instance.machine.execute(command, privileged=True, timeout=MOUNT_SECONDS)
            if done.status != 0:
                reason = printable(done.errors).strip() or f"status {done.status}"
                raise InstanceError(f"cannot mount the guest's disk at {DISK_PLACE}: {reason}")
    except BaseException:
        instance.stop(0)
        raise
