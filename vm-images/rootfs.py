"""The root filesystem: base, packages, and whatever else the recipe puts into it."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image import ImageStore, flatten
from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import commands, compiler, debian, inputs, packages, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybench.runtime.container.image import StoredImage
    from pybench.vm_images.recipe import Recipe

_BUSYBOX_PACKAGE: Final = "busybox-static"
_BUSYBOX_LOCATIONS: Final = ("bin/busybox", "usr/bin/busybox")
_LONGEST_APPLET: Final = 64
_DOCUMENTATION: Final = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/lintian")


def assemble(
    recipe: Recipe, source: Path, root: Path, scratch: Path, progress: Callable[[str], None]
) -> dict[str, str]:
    """Fill the empty directory `root` as the recipe says; returns package → version.

    Args:
        recipe: what to put in.
        source: the recipe's folder, with the files it names.
        root: the directory to fill.
        scratch: where temporary folders may be made.
        progress: told what is being done.

    Raises:
        InputError: the recipe names something that is not there, or places something beneath a link.
        HostError: a package or tool is missing.
    """
    if recipe.base == "debian":
        versions = debian.install(recipe.debian, recipe.packages, root, scratch, progress)
    else:
        versions = _install_busybox(root, scratch, progress) if recipe.base == "busybox" else {}
        for name in recipe.packages:
            versions[name] = _install_package(name, root, scratch, progress)
    for path in recipe.remove:
        _remove(root, path)
    for directory in recipe.directories:
        _place(root, directory.path).mkdir(exist_ok=True)
    for file in recipe.files:
        place = _place(root, file.path, replace=True)
        if file.text is not None:
            place.write_text(file.text, encoding="utf-8")
        else:
            shutil.copyfile(inputs.recipe_file(source, str(file.source)), place)
    for link in recipe.links:
        _place(root, link.path, replace=True).symlink_to(link.target)
    for workload in recipe.workloads:
        progress(f"compiling {workload.path}")
        sources = [inputs.recipe_file(source, name) for name in workload.sources]
        place = _place(root, workload.path, replace=True)
        compiler.compile_static(sources, place, scratch, includes=sorted(source.glob("*.h")))
    modes = {directory.path: int(directory.mode, 8) for directory in recipe.directories}
    modes |= {file.path: int(file.mode, 8) for file in recipe.files}
    tree.normalise(root, modes, keep=recipe.base == "debian")
    _check_marking(recipe, root)
    return versions


def copy_imported(image: StoredImage, root: Path) -> None:
    """Fill the new directory `root` with what the layers of an imported image show, merged.

    Raises:
        InputError: a layer is gone, or there is something in them that a virtual machine's disk cannot hold.
        HostError: the file system refuses.
    """
    with ImageStore().hold(image) as layers:
        flatten(layers, root)


def _remove(root: Path, path: str) -> None:
    """Remove a path, or everything in a directory where the path ends in `/*`, through no link."""
    place = root
    *parents, name = path.strip("/").split("/")
    for parent in parents:
        place /= parent
        if place.is_symlink() or not place.is_dir():
            return
    for found in list(place.iterdir()) if name == "*" else [place / name]:
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True)


def _install_busybox(root: Path, scratch: Path, progress: Callable[[str], None]) -> dict[str, str]:
    """Put busybox into /bin with a link for each of its applets."""
    package = packages.require_package(_BUSYBOX_PACKAGE)
    archive = packages.download(package, progress)
    binaries = root / "bin"
    binaries.mkdir()
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=scratch) as folder:
        packages.unpack(archive, Path(folder))
        for location in _BUSYBOX_LOCATIONS:
            if (program := Path(folder, location)).is_file():
                shutil.copyfile(program, binaries / "busybox")
                break
        else:
            raise HostError(f"the package {package.name} {package.version} contains no busybox")
    (binaries / "busybox").chmod(0o755)
    for applet in commands.run([str(binaries / "busybox"), "--list"], package=package.name).splitlines():
        if not applet or "/" in applet or len(applet) > _LONGEST_APPLET:
            raise HostError(f"busybox lists a strange applet: {commands.printable(applet, _LONGEST_APPLET)}")
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    return {package.name: package.version}


def _install_package(name: str, root: Path, scratch: Path, progress: Callable[[str], None]) -> str:
    """Lay a package's files, without its documentation, over the tree; returns its version."""
    package = packages.require_package(name)
    archive = packages.download(package, progress)
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=scratch) as folder:
        unpacked = Path(folder)
        packages.unpack(archive, unpacked)
        for documentation in _DOCUMENTATION:
            shutil.rmtree(unpacked / documentation, ignore_errors=True)
        for member in tree.members(unpacked):
            if member.type == "directory":
                _place(root, member.path).mkdir(exist_ok=True)
                continue
            place = _place(root, member.path, replace=True)
            if member.type == "link":
                place.symlink_to(member.location.readlink())
            else:
                shutil.copyfile(member.location, place)
                place.chmod(0o755 if member.status.st_mode & stat.S_IXUSR else 0o644)
    return package.version


def _place(root: Path, path: str, *, replace: bool = False) -> Path:
    """Where `path` goes beneath `root`, its parents made, what is there removed if `replace`.

    No symbolic link is followed: a link in the image means a place in the image, not on this host.
    """
    place = root
    *parents, name = path.strip("/").split("/")
    for parent in parents:
        place /= parent
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(f"{path}: {place.relative_to(root)} in the image is not a directory")
        place.mkdir(exist_ok=True)
    place /= name
    if place.is_symlink() or place.is_file():
        if not replace:
            raise InputError(f"{path}: there is already a file or link of that name in the image")
        place.unlink()
    elif replace and place.is_dir():
        raise InputError(f"{path}: there is already a directory of that name in the image")
    return place


def _check_marking(recipe: Recipe, root: Path) -> None:
    for command in recipe.marking:
        place = root / command.removeprefix("/")
        if place.is_symlink() or not place.is_file() or not place.stat().st_mode & stat.S_IXUSR:
            raise InputError(f"marking: {command} is not a program in the image")
