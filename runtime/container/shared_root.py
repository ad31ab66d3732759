"""A root directory on the stage that processes share, for those that have no mount namespace of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pybench.runtime.container import system_calls
from pybench.runtime.container.defaults import TMPFS_SIZE
from pybench.runtime.container.stage import NO_PRIVILEGE, Stage
from pybench.runtime.container.system_calls import AT_FDCWD, MOUNT_ATTR_RDONLY
from pybench.runtime.errors import HostError
from pybench.runtime.workload_files import WorkloadFile

_MEMORY: Final = {"/run": "755", "/tmp": "1777"}  # noqa: S108 - inside
"""File systems in memory, with their modes, as a container has them."""
NO_VOLUMES: Final[Mapping[str, Path]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SharedRoot:
    """Puts one together, in the spawning thread; `resources` gets what takes it down again."""

    stage: Stage
    resources: contextlib.ExitStack

    def build(
        self, rootfs: Path, files: Sequence[WorkloadFile], volumes: Mapping[str, Path] = NO_VOLUMES
    ) -> Path:
        """The image, unchanged and read-only, with the host's /proc, devices, and memory at /run and /tmp.

        Args:
            rootfs: the image's directory.
            files: what is put into it, by paths without symbolic links.
            volumes: path inside → directory of the host that is seen there, and may be written to.

        Raises:
            HostError: something cannot be mounted or written.
            InputError: one of these four is no directory in the image.
        """
        lower, _ = self.stage.add_tree(rootfs, set_=MOUNT_ATTR_RDONLY | NO_PRIVILEGE)
        self.resources.callback(self.stage.remove_place, lower)
        upper = self._directory()
        for name in ("upper", "work"):
            (upper / name).mkdir()
        options = f"lowerdir={lower},upperdir={upper / 'upper'},workdir={upper / 'work'}"
        root = self._mounted("overlay", options)
        places = {"/dev": self.stage.devices, "/proc": Path("/proc")}
        for path, mode in _MEMORY.items():
            places[path] = self._mounted("tmpfs", f"mode={mode},size={TMPFS_SIZE}")
        for path, source in volumes.items():
            places[path], _ = self.stage.add_tree(source, set_=NO_PRIVILEGE)
            self.resources.callback(self.stage.remove_place, places[path])
        for path, place in places.items():
            with self.stage.entered(), contextlib.suppress(FileExistsError):
                (root / path[1:]).mkdir()
            self.stage.cover(root, path, place)
        try:
            with self.stage.entered():
                for file in files:
                    _write(root, file)
                system_calls.mount_setattr(AT_FDCWD, str(root), set_=MOUNT_ATTR_RDONLY)
        except OSError as error:
            raise HostError(f"cannot put the workload's files into its root directory: {error}") from error
        return root

    def _directory(self) -> Path:
        place = self.stage.add_directory()
        self.resources.callback(self.stage.remove_place, place)
        return place

    def _mounted(self, kind: str, options: str) -> Path:
        place = self._directory()
        flags = system_calls.MS_NOSUID | system_calls.MS_NODEV
        try:
            with self.stage.entered():
                system_calls.mount(kind, str(place), kind, flags, options)
        except OSError as error:
            raise HostError(f"cannot mount {kind} for a root directory: {error}") from error
        self.resources.callback(self._unmount, place)
        return place

    def _unmount(self, place: Path) -> None:
        with self.stage.entered():
            system_calls.umount(str(place), system_calls.MNT_DETACH)


def _write(root: Path, file: WorkloadFile) -> None:
    """A new file, so that whatever the image has linked there keeps its content elsewhere."""
    place = root / file.path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content)
        os.fchmod(descriptor, file.mode)
