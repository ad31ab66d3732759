"""Removing the domain of a harness that was killed.

libvirt's embedded driver cannot end a domain when its process dies: QEMU lives on, without anybody
who could manage it. Its command line carries the domain's uuid, by which it is found.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
from typing import TYPE_CHECKING, Final

import psutil

from pybench.runtime.errors import LeftoverError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERM_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 10.0


def remove_domain(details: Mapping[str, str | int]) -> str:
    """End a journalled domain (`name`, `uuid`, `uri`, `root`); says what was done, or nothing.

    Raises:
        LeftoverError: QEMU survived, or a daemon that owns it refuses.
    """
    name, uuid = str(details["name"]), str(details["uuid"])
    if not details["root"]:
        return _destroy(str(details["uri"]), name, uuid)
    pid = find_emulator(uuid)
    if pid is None:
        return ""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return ""
    try:
        # The pid may have been given to another process before it was pinned by the pidfd.
        if find_emulator(uuid) == pid:
            _end(pidfd, pid, name)
    finally:
        os.close(pidfd)
    return f"ended domain {name} (QEMU, pid {pid})"


def find_emulator(uuid: str) -> int | None:
    """The pid of the QEMU that runs the domain `uuid`; libvirt passes `-uuid` on its command line."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            arguments = process.cmdline()
            if ("-uuid", uuid) in itertools.pairwise(arguments):
                return process.pid
    return None


def _end(pidfd: int, pid: int, name: str) -> None:
    watcher = select.poll()
    watcher.register(pidfd, select.POLLIN)
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        if watcher.poll(seconds * 1e3):
            return
    raise LeftoverError(f"QEMU of the domain {name} (pid {pid}) survived SIGKILL")


def _destroy(uri: str, name: str, uuid: str) -> str:
    """Have the daemon that owns a domain end it; one that is unknown there is gone already."""
    import libvirt  # noqa: PLC0415 - `pybench clean` rarely needs it

    try:
        with contextlib.closing(libvirt.open(uri)) as handle:
            try:
                domain = handle.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return ""
                raise
            domain.destroyFlags(0)
    except libvirt.libvirtError as error:
        raise LeftoverError(f"cannot end the domain {name} at {uri}: {error}") from error
    return f"ended domain {name} at {uri}"
