"""A guest's kernel built from the distribution's source package and a committed list of options.

Minutes of work, so the result is kept in the cache, by options, source version and compiler, and
shared by all images that name it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import cache, commands, elf, kernel_options, packages, tree

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE_PACKAGE: Final = "linux-source"
"""Follows the distribution's kernel; what it depends on holds the source."""
_COMPILER: Final = "gcc"
_TOOLS: Final = {
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
}
"""Program → Debian package; libelf's header is found missing by the build itself."""
_BUILD_TIMEOUT: Final = 7200.0
_UNPACK_TIMEOUT: Final = 900.0
_KERNEL: Final = "vmlinux"
_OPTIONS: Final = "config"
_MANIFEST: Final = "kernel.json"
_REPRODUCIBLE: Final = (
    "KBUILD_BUILD_USER=pybench",
    "KBUILD_BUILD_HOST=pybench",
    f"KBUILD_BUILD_TIMESTAMP=@{tree.SOURCE_DATE}",
    "KBUILD_BUILD_VERSION=1",
)
"""Documentation/kbuild/reproducible-builds.rst"""


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """One kernel in the cache."""

    folder: Path
    release: str
    versions: dict[str, str]
    """Source package → version."""
    digest: str
    """SHA-256 of `vmlinux`."""

    @property
    def vmlinux(self) -> Path:
        """The kernel: an ELF with a PVH entry and no symbols."""
        return self.folder / _KERNEL

    @property
    def options(self) -> dict[str, str]:
        """All options it was built with."""
        return kernel_options.parse_options((self.folder / _OPTIONS).read_text(encoding="utf-8"))


def build_kernel(configuration: Path, progress: Callable[[str], None]) -> BuiltKernel:
    """The kernel with the options of `configuration`, built unless an intact one is in the cache.

    Args:
        configuration: options, for `make allnoconfig` to start from; the file's stem is the kernel's name.
        progress: told what is being done.

    Raises:
        InputError: an option has no effect on the distribution's version of the kernel.
        HostError: a tool, the source package, the network or disk space is missing.
    """
    name = configuration.stem
    for program, package in _TOOLS.items():
        if shutil.which(program) is None:
            raise HostError(f"{program} is missing", f"apt-get install {package}")
    source = source_package()
    compiler = commands.run([_COMPILER, "--version"], package=_COMPILER).partition("\n")[0]
    final = cache.kernel_folder(name, _key(configuration, source, compiler))
    with cache.locked(cache.kernels_directory(), name, progress):
        cache.remove_leftovers(cache.kernels_directory(), name)
        if final.exists():
            try:
                return _read(final)
            except InputError as error:
                progress(f"{error.message}; building it again")
        archive = packages.download(source, progress)
        with cache.building(cache.kernels_directory(), name) as scratch:
            folder = scratch / "kernel"
            folder.mkdir()
            _build(_unpack(archive, scratch, progress), configuration, folder, source, progress)
            cache.publish(folder, final, name)
        return _read(final)


def _key(configuration: Path, source: packages.Package, compiler: str) -> str:
    """What the kernel depends on; the options alone count, and not what comments say of them."""
    options = kernel_options.parse_options(configuration.read_text(encoding="utf-8"))
    lines = [f"{name}={value}" for name, value in sorted(options.items())]
    return hashlib.sha256("\0".join([*lines, source.sha256, compiler, *_REPRODUCIBLE]).encode()).hexdigest()


def source_package() -> packages.Package:
    """The package with the source itself, which the one without a version in its name depends on."""
    meta = packages.require_package(SOURCE_PACKAGE)
    for name in meta.depends:
        if name.startswith(f"{SOURCE_PACKAGE}-"):
            return packages.require_package(name)
    raise HostError(f"the package {SOURCE_PACKAGE} {meta.version} leads to no source of a kernel")


def _unpack(archive: Path, scratch: Path, progress: Callable[[str], None]) -> Path:
    """Unpack the source; returns its top directory."""
    progress(f"unpacking {archive.name}")
    package = scratch / "package"
    package.mkdir()
    packages.unpack(archive, package)
    # Debian's package holds one archive; Ubuntu's has it one directory further down.
    tarballs = sorted(package.glob("usr/src/**/linux-source-*.tar.*"))
    if len(tarballs) != 1:
        raise HostError(f"{archive.name} contains {len(tarballs)} archives of source, not one")
    source = scratch / "source"
    source.mkdir()
    command = ["tar", "--extract", f"--file={tarballs[0]}", "--strip-components=1", "--no-same-owner"]
    commands.run(command, package="tar", directory=source, timeout=_UNPACK_TIMEOUT)
    shutil.rmtree(package)
    return source


def _build(
    source: Path,
    configuration: Path,
    folder: Path,
    package: packages.Package,
    progress: Callable[[str], None],
) -> None:
    """Configure, compile and describe the kernel in `folder`."""

    def make(*arguments: str) -> str:
        # Below everything else that the machine has to do: it takes all processors for minutes.
        command = commands.tied(["nice", "make", "--silent", *_REPRODUCIBLE, *arguments])
        return commands.run(command, package="util-linux", directory=source, timeout=_BUILD_TIMEOUT)

    try:
        make(f"KCONFIG_ALLCONFIG={configuration.absolute()}", "allnoconfig")
        options = (source / ".config").read_text(encoding="utf-8")
        wanted = kernel_options.parse_options(configuration.read_text(encoding="utf-8"))
        kernel_options.check_taken(wanted, kernel_options.parse_options(options), configuration.name)
        release = make("kernelrelease").strip()
        progress(f"compiling the kernel {release}, which takes minutes")
        make(f"--jobs={os.cpu_count() or 1}", "vmlinux")
    except commands.CommandError as error:
        raise _build_error(package, error) from error
    kernel = folder / _KERNEL
    commands.run(["strip", "--strip-all", "-o", str(kernel), str(source / _KERNEL)], package="binutils")
    kernel.chmod(0o644)
    elf.check_guest_kernel(kernel)
    (folder / _OPTIONS).write_text(options, encoding="utf-8")
    manifest = {
        "release": commands.printable(release),
        "versions": {package.name: package.version},
        "digest": tree.file_hash(kernel),
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _build_error(package: packages.Package, error: commands.CommandError) -> HostError:
    lines = [line for line in error.output.splitlines() if "error" in line.lower()] or [error.message]
    hint = error.hint
    if "libelf" in error.output or "gelf.h" in error.output:
        hint = "apt-get install libelf-dev"
    return HostError(
        f"the kernel of {package.name} {package.version} does not build: {commands.printable(lines[0])}", hint
    )


def _read(folder: Path) -> BuiltKernel:
    """Read a kernel back, and verify it: what is damaged must not get into an image.

    Raises:
        InputError: it is damaged.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        kernel = BuiltKernel(folder, **manifest)
        intact = tree.file_hash(kernel.vmlinux) == kernel.digest and kernel.options
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"the kernel in {folder} is damaged ({error})") from error
    if not intact:
        raise InputError(f"the kernel in {folder} is damaged: it was changed after the build")
    return kernel
