"""The content of /dev where a specification leaves it to the runtime: nodes and links."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pybench.runtime.container.assembly.mounts import MountSteps
from pybench.runtime.container.assembly.slots import Slots
from pybench.runtime.container.spawn.steps import Attach, CopyTree, MakeNode, MakeSymlink
from pybench.runtime.container.specification.linux import Device
from pybench.runtime.container.stage import DEVICE_LINKS, DEVICE_NODES
from pybench.runtime.errors import InputError

_TYPES: Final = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_MODE: Final = 0o666


def default_devices() -> tuple[Device, ...]:
    """What every container has (runtime-spec, config-linux.md, Default Devices)."""
    return tuple(
        Device(path=f"/dev/{name}", type="c", major=major, minor=minor, file_mode=_MODE)
        for name, (major, minor) in DEVICE_NODES.items()
    )


def add_devices(steps: MountSteps, devices: Sequence[Device], slots: Slots, *, may_make_nodes: bool) -> None:
    """Append the steps that fill /dev.

    Args:
        steps: gets the steps.
        devices: those of the specification; of two for one path the later one is made.
        slots: for copies of the host's nodes.
        may_make_nodes: false in a user namespace, where no node can be made; then the host's own
            are mounted in their places.

    Raises:
        InputError: the host has no such node to mount.
    """
    wanted = {device.path: device for device in (*default_devices(), *devices)}
    for device in wanted.values():
        if may_make_nodes or device.type == "p":
            mode = _TYPES[device.type] | (_MODE if device.file_mode is None else device.file_mode & 0o7777)
            number = os.makedev(device.major, device.minor) if device.type != "p" else 0
            steps.inside.append(MakeNode(device.path, mode, number, device.uid or 0, device.gid or 0))
        else:
            slot = slots.take()
            steps.outside.append(CopyTree(slot, str(_host_node(device))))
            steps.inside.append(Attach(slot, device.path, "file"))
    steps.inside += (MakeSymlink(target, f"/dev/{name}") for name, target in DEVICE_LINKS.items())


def _host_node(device: Device) -> Path:
    """The host's own node of the same device: under the same path, or under the name it is known by."""
    number = os.makedev(device.major, device.minor)
    known = {os.makedev(*numbers): Path("/dev", name) for name, numbers in DEVICE_NODES.items()}
    for path in (Path(device.path), known.get(number, Path(device.path))):
        try:
            state = path.stat()
        except OSError:
            continue
        if state.st_rdev == number and stat.S_IFMT(state.st_mode) == _TYPES[device.type]:
            return path
    raise InputError(
        f"linux.devices: in a user namespace {device.path} can only be the host's own node, and it has none"
    )
