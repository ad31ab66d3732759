"""Where a guest's kernel comes from: a package, the user's own file, the kernel's source, or this tree."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pybench.runtime.errors import HostError, InputError
from pybench.vm_images import compiler, elf, inputs, kernel, kernel_build, kernel_options, modules, packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pybench.vm_images.modules import Module
    from pybench.vm_images.recipe import KernelEntry


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """What was found besides the kernel's file itself."""

    release: str
    """`uname -r`; empty for a bare-metal guest, and where a user's kernel does not tell."""
    modules: Sequence[Module] = ()
    """In the order to load them."""
    spare: Sequence[Module] = ()
    """For init to load where a workload asks for it."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Debian package → version."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Program that took part → the version it states."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the form of an image asks of its kernel."""

    options: Mapping[str, str]
    """See `kernel_options.needed_options`."""
    modules: Sequence[str]
    """To load where the options are modules."""
    spare: Sequence[str] = ()
    """To have along, unloaded, if there are such modules."""


def obtain(
    entry: KernelEntry,
    folder: Path,
    output: Path,
    needs: Needs,
    *,
    scratch: Path,
    progress: Callable[[str], None],
) -> GuestKernel:
    """Write the recipe's kernel to `output`.

    Args:
        entry: where it comes from.
        folder: the recipe's.
        output: the file to write, an ELF with a PVH entry.
        needs: what it has to be able to do.
        scratch: where temporary folders may be made.
        progress: told what is being done.

    Raises:
        InputError: it is no kernel for such a guest, or does not compile.
        HostError: a package, a tool, the network or disk space is missing.
    """
    if entry.package is not None:
        return _from_package(entry, output, needs, scratch, progress)
    if entry.path is not None:
        return _from_file(folder / entry.path, output, needs)
    if entry.build is not None:
        return _from_source(entry.build, output, needs, progress)
    sources = [inputs.recipe_file(folder, name) for name in entry.sources or ()]
    progress("assembling the guest")
    compiler.assemble_bare_metal(sources, inputs.recipe_file(folder, str(entry.script)), output, scratch)
    elf.check_guest_kernel(output)
    return GuestKernel("", tools={compiler.ASSEMBLER: compiler.assembler_version()})


def _from_package(
    entry: KernelEntry, output: Path, needs: Needs, scratch: Path, progress: Callable[[str], None]
) -> GuestKernel:
    """The recipe names the package that follows the distribution's current kernel.

    What it depends on holds the files, in one package (Debian) or with the modules in a second one
    (Ubuntu).
    """
    meta = packages.find_alternative(entry.package or [], "kernel.package")
    wanted = [meta, *_parts(meta)]
    wanted += [part for package in wanted[1:] for part in _parts(package) if part not in wanted]
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=scratch) as unpacked:
        for package in wanted:
            archive = packages.download(package, progress)
            progress(f"unpacking {package.name} {package.version}")
            packages.unpack(archive, Path(unpacked))
        images = sorted(Path(unpacked, "boot").glob("vmlinuz-*"))
        if len(images) != 1:
            raise HostError(f"the package {meta.name} {meta.version} leads to {len(images)} kernels, not one")
        release = images[0].name.removeprefix("vmlinuz-")
        names = [*needs.modules, *entry.modules]
        configuration = Path(unpacked, "boot", f"config-{release}")
        if configuration.is_file():
            options = kernel_options.parse_options(configuration.read_text(encoding="utf-8"))
            kernel_options.check_options(options, needs.options, names, f"the kernel {release}")
        kernel.extract_vmlinux(images[0], output)
        library = _module_library(Path(unpacked), release)
        if modules.unavailable(names, library):
            # Ubuntu has the less usual ones in a package that nothing depends on.
            extra = packages.find_package(f"linux-modules-extra-{release}")
            if extra is not None:
                packages.unpack(packages.download(extra, progress), Path(unpacked))
                wanted.append(extra)
        selected = modules.select_modules(names, library, "kernel.modules")
        absent = {*modules.unavailable(list(needs.spare), library), *(module.name for module in selected)}
        named = [name for name in needs.spare if name not in absent]
        spare = modules.select_modules(named, library, "kernel.modules")
    versions = {package.name: package.version for package in wanted}
    return GuestKernel(release, selected, spare, versions)


def _module_library(unpacked: Path, release: str) -> Path:
    library = unpacked / "lib/modules" / release
    return library if library.is_dir() else unpacked / "usr/lib/modules" / release


def _parts(package: packages.Package) -> Iterator[packages.Package]:
    for name in package.depends:
        if name.startswith(("linux-image-", "linux-modules-", "linux-binary-")):
            yield packages.require_package(name)


def _from_file(path: Path, output: Path, needs: Needs) -> GuestKernel:
    """A user's own kernel, with every option built in: whether it has them is checked where it tells."""
    try:
        kernel.read_kernel(path, output)
    except OSError as error:
        raise InputError(f"kernel.path: cannot read {error.filename}: {error.strerror}") from error
    content = output.read_bytes()
    options = kernel_options.embedded_options(content)
    if options is not None:
        kernel_options.check_options(options, needs.options, (), str(path))
    return GuestKernel(kernel.release_of(content))


def _from_source(name: str, output: Path, needs: Needs, progress: Callable[[str], None]) -> GuestKernel:
    built = kernel_build.build_kernel(inputs.kernel_configuration(name), progress)
    kernel_options.check_options(built.options, needs.options, (), f"the kernel {name}")
    output.write_bytes(built.vmlinux.read_bytes())
    return GuestKernel(built.release, versions=built.versions)
