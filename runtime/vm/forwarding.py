"""A way for this host to ask a guest on QEMU's own network, which leads outwards only.

libvirt has no word for it, so QEMU's monitor is told to pass on what comes to a port of the loopback
address (https://www.qemu.org/docs/master/system/monitor.html, `hostfwd_add`). QEMU itself accepts those
connections, before it asks the guest: that says nothing about the guest, only what is answered does.
"""

from __future__ import annotations

import re
from typing import Any, Final

import libvirt
import libvirt_qemu

from pybench.runtime.errors import InstanceError

LOOPBACK: Final = "127.0.0.1"
_FORWARD: Final = re.compile(rf"TCP\[HOST_FORWARD\]\s+\d+\s+{re.escape(LOOPBACK)}\s+(\d+)\s+\S+\s+(\d+)\s")


def forward_port(domain: Any, port: int) -> int:  # noqa: ANN401 - libvirt has no types
    """Have a free port of 127.0.0.1 lead to the guest's `port` until the guest ends; returns its number.

    Raises:
        InstanceError: the machine has ended, or has no network of QEMU's own.
    """
    refusal = _tell(domain, f"hostfwd_add tcp:{LOOPBACK}:0-:{port}")
    for found in _FORWARD.finditer(_tell(domain, "info usernet")):
        if int(found[2]) == port:
            return int(found[1])
    raise InstanceError(f"QEMU does not pass connections on to the guest's port {port}: {refusal.strip()}")


def _tell(domain: Any, command: str) -> str:  # noqa: ANN401
    try:
        human = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        return str(libvirt_qemu.qemuMonitorCommand(domain, command, human))
    except libvirt.libvirtError as error:
        raise InstanceError(f"QEMU's monitor does not answer: {error}") from error
