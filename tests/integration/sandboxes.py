"""Containers for the tests of the runtime, made with few words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oci_archives import archive_of
from patience import PATIENCE

from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.container import Container
from pybench.runtime.container.image import ImageStore
from pybench.runtime.container.instance import Readiness
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.journal import Journal
from pybench.vm_images import Image

MEBIBYTE = 2**20
HOST_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
APPLETS = ("sh", "cat", "ls", "sleep", "sort", "stat", "touch", "id", "readlink", "head", "yes", "dd")
LIMITS = Limits(memory=64 * MEBIBYTE, pids=64)


def spec_of(layers: Sequence[Path], script: str, **more: Any) -> SandboxSpec:
    """A shell script as the command, ready when it says that it has finished; it then stays."""
    values: dict[str, Any] = {
        "command": ("/bin/sh", "-c", f"{script}\necho finished; exec sleep 600"),
        "environment": {"PATH": "/bin"},
        "readiness": Readiness(marking=False, line="finished"),
        "limits": LIMITS,
        "host_name": "box",
        "layers": tuple(layers),
        **more,
    }
    return SandboxSpec(layers[0], **values)


@contextmanager
def started(journal: Journal, layers: Sequence[Path], script: str = "", **more: Any) -> Iterator[Container]:
    """A container in which a script has run and which stays until the end."""
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), spec_of(layers, script, **more)) as sandbox:
        container = sandbox.start(PATIENCE)
        try:
            yield container
        finally:
            container.stop(0)


def printed(journal: Journal, layers: Sequence[Path], script: str, **more: Any) -> str:
    """What a script prints inside a container."""
    with started(journal, layers, script, **more) as container:
        return container.output.removesuffix("finished\n")


def small_root(place: Path, image: Image) -> Path:
    """A root filesystem to spoil: a shell, and every mount point."""
    for name in ("bin", "etc", "proc", "dev", "tmp", "run", "srv"):
        (place / name).mkdir(parents=True)
    for name in HOST_FILES:
        (place / name[1:]).touch()
    shutil.copy(image.rootfs / "bin/busybox", place / "bin/busybox")
    for name in APPLETS:
        (place / "bin" / name).symlink_to("busybox")
    return place


@contextmanager
def imported(folder: Path, *layers: bytes) -> Iterator[tuple[Path, ...]]:
    """The directories of an imported image, the topmost layer first."""
    store = ImageStore(folder / "cache")
    store.add(archive_of(folder / "image.tar", *layers), "image")
    with store.hold(store.image("image")) as directories:
        yield tuple(directories)
