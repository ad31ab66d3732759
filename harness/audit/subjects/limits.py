"""What audited instances are promised at most, and what bounds the bare process beyond that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.cgroup.base import DeviceLimits, Group, Limits
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.errors import HostError

if TYPE_CHECKING:
    from pybench.harness.audit.canaries.base import Planting
    from pybench.vm_images import Image

LIMITS: Final = Limits(memory=192 << 20, cpus=1.0, pids=128)
"""What an audited container may use, and what a bare process is found to exceed."""
READ_RATE: Final = 32 << 20
"""Bytes per second from the disk that holds the image."""
SAFETY: Final = Limits(memory=384 << 20, pids=512, cpu_weight=10_000)
"""Of the bare process. Its weight lets it show on a busy host that nothing holds it back."""
_HIGHEST_WEIGHT: Final = "cpu weight"


def limits_for(image: Image) -> Limits:
    """What a container of an image is promised, as far as this host can hold it."""
    device = disk_of(image.rootfs)
    limited = replace(LIMITS, io=(DeviceLimits(device, read_bytes=READ_RATE),)) if device else LIMITS
    return limited if not detect().unavailable(limited) else LIMITS


def disk_of(path: Path) -> str:
    """`MAJOR:MINOR` of the whole disk that a path is on; empty where it is on none."""
    number = path.stat().st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    device = Path("/sys/dev/block") / name
    if not device.exists():
        return ""
    whole = device.resolve()
    if (whole / "partition").exists():
        name = (whole.parent / "dev").read_text(encoding="ascii").strip()
    return name


@contextlib.contextmanager
def safety_group(planting: Planting) -> Iterator[Group | None]:
    """A control group around a bare process, so that no probe can use up the host; None where none can be."""
    controller = detect()
    if controller.label == "none" or set(controller.unavailable(SAFETY)) - {_HIGHEST_WEIGHT}:
        yield None
        return
    with contextlib.ExitStack() as removal:
        name = f"pybench-audit-{os.getpid()}-{os.urandom(3).hex()}"
        for directory in controller.directories(name, SAFETY):
            number = planting.journal.record("cgroup", path=str(directory))
            removal.callback(planting.journal.forget, number)
        group = controller.create(name, SAFETY)
        removal.callback(group.remove)
        removal.callback(group.kill)
        yield group


def join(group: Group, pid: int) -> None:
    """Move a process into a group.

    Raises:
        HostError: it has ended, or the group is gone.
    """
    for directory in group.directories:
        try:
            (directory / "cgroup.procs").write_text(str(pid), encoding="ascii")
        except OSError as error:
            raise HostError(f"cannot move process {pid} into {directory}: {error.strerror}") from error
