"""Waiting, within bounds, until the host is quiet enough for a launch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pybench.harness.conditions import HostObserver
    from pybench.harness.model import Settle

LOOK_INTERVAL: Final = 0.02
"""Seconds between two looks at the host; no clock of a measurement runs meanwhile."""


class Settling:
    """Waits before launches, each time and in all for no longer than the scenario allows."""

    def __init__(self, settle: Settle, observer: HostObserver) -> None:
        self._settle = settle
        self._observer = observer
        self._left = settle.in_all

    def wait(self, since: float | None = None) -> bool:
        """Return when the host is quiet, or the wait is over; whether it is quiet.

        The kernel takes down what an instance's namespaces held after its last process has been reaped:
        network namespaces in a worker of the kernel (net/core/net_namespace.c, `cleanup_net`), and what RCU
        frees later. A launch that follows at once competes with that, some more than others, and scatters by
        half as much again. So the pause is kept on a quiet host, too.

        Args:
            since: when the last instance was gone, by the monotonic clock; None without one.
        """
        if since is not None:
            time.sleep(max(0.0, since + self._settle.pause - time.monotonic()))
        began = time.monotonic()
        deadline = began + min(self._settle.timeout, self._left)
        while not (quiet := self._is_quiet()) and time.monotonic() < deadline:
            time.sleep(LOOK_INTERVAL)
        self._left = max(0.0, self._left - (time.monotonic() - began))
        return quiet

    def _is_quiet(self) -> bool:
        limits = (
            (self._settle.running, self._observer.running),
            (self._settle.pressure, self._observer.pressure),
            (self._settle.temperature, self._observer.temperature),
        )
        for limit, read in limits:
            if limit is not None and (value := read()) is not None and value > limit:
                return False
        return True
