"""Files of the image that are in the host's page cache, and others that are not, by lot."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.base import Canary

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground

FILES: Final = 60
_FOLDER: Final = "usr/share"
_LEAST, _MOST = 160, 1 << 20
"""Bytes."""
_INTERVAL: Final = 0.05
"""Seconds between two looks after them: others may read the files, or empty the cache."""


class PageCacheCanary(Canary):
    """Nothing is made: what is planted is which files are cached."""

    name = "page-cache"

    def plant(self, removal: ExitStack) -> None:  # noqa: ARG002 - caching is undone by itself
        """Nothing yet: it is done anew for each target."""
        self.files: tuple[str, ...] = ()
        """Beneath the root, without a leading slash; none if the image has too few that nobody needs."""
        self.cached: tuple[bool, ...] = ()

    def draw(self, rootfs: Path) -> None:
        """Choose files, and which of them are to be cached."""
        generator = random.SystemRandom()
        found = sorted(
            str(path.relative_to(rootfs))
            for path in (rootfs / _FOLDER).rglob("*")
            if path.is_file() and not path.is_symlink() and _LEAST <= path.stat().st_size <= _MOST
        )
        self.files = tuple(generator.sample(found, FILES)) if len(found) >= FILES else ()
        self.cached = tuple(generator.random() < 0.5 for _ in self.files)  # noqa: PLR2004

    def see_to_it(self, rootfs: Path) -> None:
        """Read those that are to be cached, and take the others out of the cache."""
        for file, keep in zip(self.files, self.cached, strict=True):
            descriptor = os.open(rootfs / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if keep:
                    os.pread(descriptor, _MOST, 0)
                else:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def kept_by_lot(ground: Ground) -> Iterator[None]:
    """Keep files of the image cached, or not, as a new lot says, until it is left."""
    canary, ended = ground.canary(PageCacheCanary), threading.Event()
    canary.draw(ground.rootfs)
    canary.see_to_it(ground.rootfs)

    def look_after() -> None:
        while not ended.wait(_INTERVAL):
            with contextlib.suppress(OSError):
                canary.see_to_it(ground.rootfs)

    thread = threading.Thread(target=look_after, name="pybench-page-cache", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
