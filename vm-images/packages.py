"""Debian packages: asked for, downloaded into the cache and unpacked, all without being root."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import cache, commands, tree

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTIAL: Final = ".partial-"
_DOWNLOAD_TIMEOUT: Final = 900.0
_UPDATE_HINT: Final = "check the network and the package lists: apt-get update"
_UNKNOWN_HINT: Final = "check the name in the recipe, and the package lists: apt-get update"


@dataclass(frozen=True, slots=True)
class Package:
    """What apt knows of one version of a package."""

    name: str
    version: str
    architecture: str
    sha256: str
    depends: tuple[str, ...]
    """Names of the packages it depends on, the first of each set of alternatives."""


def find_package(name: str, version: str = "") -> Package | None:
    """Look a package up in apt's lists: the given version, else the one that would be installed.

    Returns None if no archive offers it.
    """
    wanted = f"{name}={version}" if version else name
    try:
        text = commands.run(["apt-cache", "show", "--no-all-versions", wanted], package="apt")
    except commands.CommandError as error:
        if "No packages found" in error.output or "Unable to locate" in error.output:
            return None
        raise
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", text.split("\n\n")[0], re.MULTILINE))
    # A package that is installed but in no archive has no hash: nothing to download.
    if not {"Version", "Architecture", "SHA256"} <= fields.keys():
        return None
    depends = tuple(
        re.split(r"[ (|:]", alternatives.strip(), maxsplit=1)[0]
        for alternatives in fields.get("Depends", "").split(",")
        if alternatives.strip()
    )
    return Package(name, fields["Version"], fields["Architecture"], fields["SHA256"], depends)


def require_package(name: str, version: str = "") -> Package:
    """Like `find_package`.

    Raises:
        HostError: no archive that apt knows offers it.
    """
    package = find_package(name, version)
    if package is None:
        raise HostError(f"apt knows no archive that offers the package {name}", _UNKNOWN_HINT)
    return package


def download(package: Package, progress: Callable[[str], None]) -> Path:
    """The package's archive in the cache, fetched unless it is there with the right content.

    Raises:
        HostError: it cannot be fetched, or what arrives is not what apt's lists announced.
    """
    directory = cache.downloads_directory()
    file_name = f"{package.name}_{quote(package.version, safe='+~')}_{package.architecture}.deb"
    archive = directory / file_name
    with cache.locked(directory, "downloads", progress):
        for leftover in directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover)
        if not archive.is_file() or tree.file_hash(archive) != package.sha256:
            progress(f"downloading {package.name} {package.version}")
            _fetch(package, archive)
    return archive


def _fetch(package: Package, archive: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=archive.parent) as folder:
        try:
            wanted = f"{package.name}={package.version}"
            commands.run(
                ["apt-get", "-qq", "-o", "Acquire::Retries=2", "download", wanted],
                package="apt",
                directory=Path(folder),
                timeout=_DOWNLOAD_TIMEOUT,
            )
        except commands.CommandError as error:
            raise HostError(
                f"cannot download {package.name} {package.version}: {_apt_reason(error.output)}",
                error.hint or _UPDATE_HINT,
            ) from error
        fetched = list(Path(folder).glob("*.deb"))
        if len(fetched) != 1 or tree.file_hash(fetched[0]) != package.sha256:
            raise HostError(f"what apt fetched as {package.name} is not what was announced", _UPDATE_HINT)
        fetched[0].chmod(0o644)
        fetched[0].rename(archive)


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a package's files into an empty directory; its scripts are not run.

    Raises:
        HostError: it cannot be unpacked.
    """
    commands.run(["dpkg-deb", "--extract", str(archive), str(directory)], package="dpkg", timeout=300)


def find_alternative(names: list[str], key: str) -> Package:
    """The first of several packages that an archive offers.

    Raises:
        HostError: none is offered.
        InputError: there are none to choose from.
    """
    if not names:
        raise InputError(f"{key} names no package")
    for name in names:
        if package := find_package(name):
            return package
    raise HostError(f"apt knows no archive that offers {' or '.join(names)} ({key})", _UNKNOWN_HINT)


def _apt_reason(output: str) -> str:
    errors = [line for line in output.splitlines() if line.startswith("E:")] or output.splitlines() or [""]
    return commands.printable(errors[0].removeprefix("E:").strip())
