"""Where built images and downloaded packages are kept in the cache, and how a finished build gets there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pybench.runtime.cache import CACHE_VARIABLE, cache_directory, locked, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CACHE_VARIABLE",
    "building",
    "cache_directory",
    "discard",
    "downloads_directory",
    "hash_files",
    "image_folder",
    "image_folders",
    "images_directory",
    "kernel_folder",
    "kernels_directory",
    "locked",
    "publish",
    "remove_all_leftovers",
    "remove_leftovers",
    "safe_name",
    "storage_errors",
]

_HASH_DIGITS: Final = 16
_LOCK: Final = ".lock"
_BUILDING: Final = ".building-"
_SUPERSEDED: Final = ".superseded-"


def images_directory() -> Path:
    """One folder per image and input hash."""
    return cache_directory() / "images"


def downloads_directory() -> Path:
    """Package archives, named by package and version, shared by all images."""
    return cache_directory() / "downloads"


def kernels_directory() -> Path:
    """One folder per kernel that was built from source, shared by all images."""
    return cache_directory() / "kernels"


def kernel_folder(name: str, key: str) -> Path:
    """Where the kernel built from the inputs that `key` is a hash of is, or would be."""
    return kernels_directory() / f"{name}-{key[:_HASH_DIGITS]}"


def image_folder(name: str, input_hash: str) -> Path:
    """Where the image built from these inputs is, or would be."""
    return images_directory() / f"{safe_name(name)}-{input_hash[:_HASH_DIGITS]}"


def safe_name(name: str) -> str:
    """An image's name as part of a file's: an imported one may contain slashes."""
    return quote(name, safe="")


def image_folders() -> list[Path]:
    """The folders of all finished images, by name."""
    try:
        return sorted(path for path in images_directory().iterdir() if path.name[0] != "." and path.is_dir())
    except FileNotFoundError:
        return []


def hash_files(files: Iterable[tuple[str, Path]], salt: str) -> str:
    """SHA-256 over `salt`, names and contents, in the order given."""
    digest = hashlib.sha256(salt.encode() + b"\0")
    for name, path in files:
        content = path.read_bytes()
        digest.update(b"%s\0%d\0" % (name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def remove_leftovers(directory: Path, name: str) -> None:
    """Remove what interrupted builds of this name left; only for the holder of its lock."""
    for path in _leftovers(directory, name):
        # A compiler that outlived its killed builder may still write there; the next build gets it.
        shutil.rmtree(path, ignore_errors=True)


def _leftovers(directory: Path, name: str) -> list[Path]:
    return [path for kind in (_BUILDING, _SUPERSEDED) for path in directory.glob(f".{name}{kind}*")]


def remove_all_leftovers() -> list[Path]:
    """Remove what interrupted builds left, except where a build is under way; returns what is gone."""
    removed = []
    for directory in (images_directory(), kernels_directory()):
        for lock in sorted(directory.glob(f".*{_LOCK}")):
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                name = lock.name.removeprefix(".").removesuffix(_LOCK)
                found = _leftovers(directory, name)
                remove_leftovers(directory, name)
                removed += [path for path in found if not path.exists()]
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
    return removed


@contextmanager
def building(directory: Path, name: str) -> Iterator[Path]:
    """An empty folder beside the finished builds; what is in it at the end is removed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}{_BUILDING}", dir=directory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def publish(folder: Path, final: Path, name: str) -> None:
    """Give a finished build its final name; an image already there is replaced."""
    if final.exists():
        superseded = Path(tempfile.mkdtemp(prefix=f".{name}{_SUPERSEDED}", dir=final.parent))
        final.rename(superseded / "image")
        folder.rename(final)
        shutil.rmtree(superseded)
    else:
        folder.rename(final)


def discard(folder: Path, name: str) -> None:
    """Remove a finished build; from the first moment on, nobody finds a part of it."""
    superseded = Path(tempfile.mkdtemp(prefix=f".{name}{_SUPERSEDED}", dir=folder.parent))
    folder.rename(superseded / "image")
    shutil.rmtree(superseded)
