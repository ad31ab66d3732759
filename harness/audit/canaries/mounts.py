"""Mounts that the host makes and removes again and again, each with a new token as its source."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError
from pybench.harness.audit.canaries.place import READ_ONLY
from pybench.runtime.container.system_calls import MNT_DETACH, mount, umount

if TYPE_CHECKING:
    from pathlib import Path

MOUNTED: Final = 0.04
"""Seconds that each stays."""


class MountingCanary(Canary):
    """A thread of the harness that mounts something within the read-only volume, and unmounts it."""

    name = "mounting"

    def plant(self, removal: ExitStack) -> None:
        """Start it."""
        if os.geteuid() != 0:
            raise CannotPlantError("only root can mount", "run as root")
        point = self.planting.place.volumes / READ_ONLY / "mounted"
        point.mkdir()
        ended = threading.Event()
        thread = threading.Thread(target=self._mount, args=(point, ended), name="pybench-mount", daemon=True)
        thread.start()
        removal.callback(thread.join)
        removal.callback(ended.set)

    def _mount(self, point: Path, ended: threading.Event) -> None:
        while not ended.wait(MOUNTED / 2):
            mount(self.token(), str(point), "tmpfs", 0, "size=4k")
            ended.wait(MOUNTED)
            umount(str(point), MNT_DETACH)
