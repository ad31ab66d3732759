"""From a recipe to an image in the cache: everything is built aside and appears at once, or not at all."""

from __future__ import annotations

import datetime
import shutil
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InputError
from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.vm_images import cache, compiler, forms, guest_kernel, kernel_options, rootfs, tree
from pybench.vm_images.image import Image, read_image, verify, write_manifest
from pybench.vm_images.recipe import imported_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pybench.vm_images.inputs import Inputs

_CLOSED: Final = 0o700
_OPEN: Final = 0o755


def build_image(source: Inputs, *, rebuild: bool, progress: Callable[[str], None]) -> Image:
    """Build an image from its inputs, unless an intact one of the same inputs is in the cache.

    A variant has the very root filesystem of its original, which is built first if it is not there: with
    packages of another day it would be another workload.

    Raises:
        InputError: the recipe makes no sense, or a source does not compile.
        HostError: a tool, a package, the network or disk space is missing.
    """
    original = None
    if source.original is not None:
        original = build_image(source.original, rebuild=False, progress=progress)
    final = cache.image_folder(source.name, source.hash)
    images = cache.images_directory()
    lock = cache.safe_name(source.name)
    with cache.storage_errors(), cache.locked(images, lock, progress):
        cache.remove_leftovers(images, lock)
        if not rebuild and final.exists():
            try:
                image = read_image(final)
                verify(image)
            except InputError as error:
                progress(f"{error.message}; building it again")
            else:
                if original is None or image.content_hash == original.content_hash:
                    return image
        with cache.building(images, lock) as scratch:
            folder = scratch / "image"
            folder.mkdir()
            _Build(source, original, folder, scratch, progress).run()
            cache.publish(folder, final, lock)
        return read_image(final)


class _Build:
    """One build: every form of the image in `folder`, and last its manifest."""

    def __init__(
        self,
        source: Inputs,
        original: Image | None,
        folder: Path,
        scratch: Path,
        progress: Callable[[str], None],
    ) -> None:
        self._source = source
        self._original = original
        self._folder = folder
        self._scratch = scratch
        self._progress = progress
        self._recipe = source.recipe.recipe if source.recipe else imported_recipe()
        self._written: dict[str, Path] = {}
        """Form → file, of those that are one file."""

    def run(self) -> None:
        root = self._folder / "rootfs"
        versions = self._fill(root)
        content_hash = tree.content_hash(root)
        form, kernel = self._add_guest(root, content_hash)
        for path in self._written.values():
            path.chmod(0o644)
        # Programs of an imported image keep their set-user-id bits: nobody else may come near them.
        self._folder.chmod(_CLOSED if self._source.imported else _OPEN)
        tools = dict(kernel.tools)
        if self._recipe.workloads or (form and self._recipe.init == "pybench"):
            tools[compiler.COMPILER] = compiler.compiler_version()
        write_manifest(
            Image(
                name=self._source.name,
                content_hash=content_hash,
                input_hash=self._source.hash,
                folder=self._folder,
                marking=frozenset(self._recipe.marking),
                form=form,
                kernel_release=kernel.release,
                modules=tuple(module.name for module in kernel.modules),
                command_line=COMMAND_LINE if form else "",
                packages=versions,
                kernel_packages=kernel.versions,
                tools=tools,
                sizes={
                    "rootfs": tree.size(root),
                    **{name: path.stat().st_size for name, path in self._written.items()},
                },
                digests={name: tree.file_hash(path) for name, path in self._written.items()},
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
        )

    def _fill(self, root: Path) -> Mapping[str, str]:
        """Make the root filesystem; returns package → version."""
        loaded, imported = self._source.recipe, self._source.imported
        if self._original is not None:
            shutil.copytree(self._original.rootfs, root, symlinks=True)
            return self._original.packages
        if loaded is not None:
            root.mkdir()
            return rootfs.assemble(loaded.recipe, loaded.root_folder, root, self._scratch, self._progress)
        if imported is None:
            raise RuntimeError("inputs of nothing")
        self._progress(f"copying the {len(imported.layers)} layers of {imported.name}")
        rootfs.copy_imported(imported, root)
        return {}

    def _add_guest(self, root: Path, content_hash: str) -> tuple[str, guest_kernel.GuestKernel]:
        """Make what only a virtual machine needs; returns the form of its root filesystem as well."""
        entry = self._recipe.kernel
        if entry is None:
            return "", guest_kernel.GuestKernel("")
        form = self._form(root)
        kernel = guest_kernel.obtain(
            entry,
            self._source.recipe.kernel_folder if self._source.recipe else self._scratch,
            self._new("kernel"),
            self._needs(form),
            scratch=self._scratch,
            progress=self._progress,
        )
        initramfs = self._new("initramfs")
        if self._recipe.init == "none":
            forms.write_empty_initramfs(initramfs)
        elif form == "disk":
            self._progress("writing the disk")
            as_found = self._source.imported is not None
            forms.write_disk(self._new("disk"), root, content_hash, as_found=as_found)
            forms.write_boot_initramfs(
                initramfs, self._scratch, kernel.modules, kernel.spare, writable=self._recipe.writable
            )
        else:
            self._progress("writing the initramfs")
            forms.write_initramfs(initramfs, root, self._scratch, kernel.modules)
        return form, kernel

    def _form(self, root: Path) -> str:
        if self._recipe.init == "none":
            return "initramfs"
        if self._recipe.form != "auto":
            return self._recipe.form
        return "initramfs" if tree.size(root) <= forms.LARGEST_INITRAMFS else "disk"

    def _needs(self, form: str) -> guest_kernel.Needs:
        if self._recipe.init == "none":
            return guest_kernel.Needs({}, ())
        overlay = form == "disk" and self._recipe.writable
        options = kernel_options.needed_options(forms.FILE_SYSTEM if form == "disk" else "", overlay=overlay)
        if form != "disk":
            return guest_kernel.Needs(options, ())
        modules = [*forms.DISK_MODULES, *([forms.OVERLAY_MODULE] * overlay)]
        # A read-only disk gets a layer only where a workload has files of its own.
        return guest_kernel.Needs(options, modules, () if overlay else (forms.OVERLAY_MODULE,))

    def _new(self, form: str) -> Path:
        """The file of a form that is about to be written."""
        self._written[form] = self._folder / Image.FILES[form]
        return self._written[form]
