"""Target `chroot`: a process whose root directory is the image's; all else it shares with the host.

What administrators did before there were containers. Its network, processes and users are the host's, so
two instances collide wherever two processes do.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pybench.harness.errors import HostError
from pybench.harness.model import Workload
from pybench.harness.targets import ChrootSettings, TargetContext
from pybench.harness.targets.bare import BareTarget
from pybench.harness.targets.base import DISK_PLACE, ImageFiles
from pybench.harness.targets.contents import find_places
from pybench.runtime.container.shared_root import SharedRoot
from pybench.runtime.container.spawn.spawner import Spawner


class ChrootTarget(BareTarget):
    """No namespaces, the image's file tree, which all instances share, and limits only if asked for."""

    def __init__(self, settings: ChrootSettings, context: TargetContext) -> None:
        super().__init__(
            context.journal, 0, {"isolation": "chroot"}, limited=settings.limited, disk=context.directory
        )

    def _make_root(self, spawner: Spawner, workload: Workload, image: ImageFiles) -> Path:
        """The image as a root directory, with the workload's files in it."""
        stage = spawner.stage
        if stage is None:
            problem = "only root can change a process's root directory"
            raise HostError(problem, "run as root, or leave chroot out with --targets")
        files = find_places(workload, image)
        inside = contextlib.ExitStack()
        # Closed by the thread that alone sees the stage.
        self._place.callback(spawner.call, inside.close)
        root = SharedRoot(stage, inside)
        volumes = {DISK_PLACE: self._scratch} if self._scratch is not None else {}
        return spawner.call(lambda: root.build(image.rootfs, files, volumes))
