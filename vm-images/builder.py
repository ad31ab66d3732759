"""From a recipe to an image in the cache: everything is built aside and appears at once, or not at all."""

from __future__ import annotations

import datetime
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import HostError, InputError
from pybench.runtime.vm.initramfs import ArchiveEntry, write_archive
from pybench.vm_images import cache, compiler, inputs, kernel, modules, packages, rootfs, tree
from pybench.vm_images.image import Image, read_image, verify, write_manifest
from pybench.vm_images.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SEGMENT: Final = "/.pybench"
_CONSOLE_MAJOR: Final = 5
_MEMORY_MAJOR: Final = 1
_SERIAL_MAJOR: Final = 4
_FIRST_SERIAL_MINOR: Final = 64
# Documentation/admin-guide/devices.txt
_DEVICES: Final = (
    ("/dev/console", 0o600, (_CONSOLE_MAJOR, 1)),
    ("/dev/null", 0o666, (_MEMORY_MAJOR, 3)),
    *((f"/dev/ttyS{number}", 0o600, (_SERIAL_MAJOR, _FIRST_SERIAL_MINOR + number)) for number in range(3)),
)


def build_image(source: inputs.Inputs, *, rebuild: bool, progress: Callable[[str], None]) -> Image:
    """Build an image from its inputs, unless an intact one of the same inputs is in the cache.

    Raises:
        InputError: the recipe makes no sense, or a source does not compile.
        HostError: a tool, a package, the network or disk space is missing.
    """
    final = cache.image_folder(source.name, source.hash)
    with cache.storage_errors(), cache.locked(cache.images_directory(), source.name, progress):
        cache.remove_leftovers(source.name)
        if not rebuild and final.exists():
            try:
                image = read_image(final)
                verify(image)
            except InputError as error:
                progress(f"{error.message}; building it again")
            else:
                return image
        with cache.building(source.name) as scratch:
            folder = scratch / "image"
            folder.mkdir()
            _fill(folder, scratch, source, progress)
            cache.publish(folder, final, source.name)
        return read_image(final)


def _fill(folder: Path, scratch: Path, source: inputs.Inputs, progress: Callable[[str], None]) -> None:
    """Make every form of the image in `folder`, and last its manifest."""
    recipe = load_recipe(source.folder / inputs.RECIPE_FILE)
    root, initramfs, guest_kernel = folder / "rootfs", folder / "initramfs.cpio", folder / "vmlinux"
    root.mkdir()
    versions = rootfs.assemble(recipe, source.folder, root, scratch, progress)
    release, selected = _extract_kernel(recipe, guest_kernel, scratch, versions, progress)
    progress("writing the initramfs")
    sources, headers = inputs.guest_sources()
    compiler.compile_static(sources, scratch / "init", scratch, includes=headers)
    with initramfs.open("xb") as output:
        write_archive(tree.archive_entries(root), output)
        write_archive(_guest_entries(scratch / "init", selected), output)
    folder.chmod(0o755)
    for form in (initramfs, guest_kernel):
        form.chmod(0o644)
    write_manifest(
        Image(
            name=source.name,
            content_hash=tree.content_hash(root),
            input_hash=source.hash,
            folder=folder,
            marking=frozenset(recipe.marking),
            kernel_release=release,
            packages=versions,
            tools={compiler.COMPILER: compiler.compiler_version()},
            sizes={
                "rootfs": tree.size(root),
                "initramfs": initramfs.stat().st_size,
                "kernel": guest_kernel.stat().st_size,
            },
            digests={"initramfs": tree.file_hash(initramfs), "kernel": tree.file_hash(guest_kernel)},
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
    )


def _extract_kernel(
    recipe: Recipe, output: Path, scratch: Path, versions: dict[str, str], progress: Callable[[str], None]
) -> tuple[str, list[modules.Module]]:
    """Write the recipe's kernel to `output`; returns its release and the modules asked for.

    The recipe names the package that follows the distribution's current kernel; what it depends
    on holds the files, in one package (Debian) or with the modules in a second one (Ubuntu).
    """
    meta = packages.find_alternative(recipe.kernel.package, "kernel.package")
    wanted = [meta, *_parts(meta)]
    wanted += [part for package in wanted[1:] for part in _parts(package) if part not in wanted]
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=scratch) as unpacked:
        for package in wanted:
            archive = packages.download(package, progress)
            progress(f"unpacking {package.name} {package.version}")
            packages.unpack(archive, Path(unpacked))
            versions[package.name] = package.version
        images = sorted(Path(unpacked, "boot").glob("vmlinuz-*"))
        if len(images) != 1:
            raise HostError(f"the package {meta.name} {meta.version} leads to {len(images)} kernels, not one")
        release = images[0].name.removeprefix("vmlinuz-")
        kernel.extract_vmlinux(images[0], output)
        library = Path(unpacked, "lib/modules", release)
        if not library.is_dir():
            library = Path(unpacked, "usr/lib/modules", release)
        return release, modules.select_modules(recipe.kernel.modules, library, "kernel.modules")


def _parts(package: packages.Package) -> Iterator[packages.Package]:
    for name in package.depends:
        if name.startswith(("linux-image-", "linux-modules-", "linux-binary-")):
            yield packages.require_package(name)


def _guest_entries(init: Path, selected: list[modules.Module]) -> Iterator[ArchiveEntry]:
    """What a guest needs beside the root filesystem that all targets share: init, nodes, modules."""
    yield ArchiveEntry(_SEGMENT, stat.S_IFDIR | 0o755)
    yield ArchiveEntry(f"{_SEGMENT}/init", stat.S_IFREG | 0o755, init)
    for path, mode, device in _DEVICES:
        yield ArchiveEntry(path, stat.S_IFCHR | mode, device=device)
    if selected:
        yield ArchiveEntry(f"{_SEGMENT}/modules", stat.S_IFDIR | 0o755)
        for module in selected:
            yield ArchiveEntry(f"{_SEGMENT}/modules/{module.name}.ko", stat.S_IFREG | 0o644, module.content)
        order = "".join(f"{module.name}.ko\n" for module in selected)
        yield ArchiveEntry(f"{_SEGMENT}/modules/order", stat.S_IFREG | 0o644, order.encode())
