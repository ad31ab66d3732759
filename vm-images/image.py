"""A built image: one folder of the cache, described by the manifest inside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote

from pybench.runtime.errors import InputError
from pybench.vm_images import tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST: Final = "manifest.json"
MANIFEST_SCHEMA: Final = 2


@dataclass(frozen=True, slots=True)
class Image:
    """One root filesystem in every form a target needs.

    `content_hash` covers the root filesystem alone, the part that is identical on every target;
    the guest's kernel, initramfs and disk have digests of their own.
    """

    FILES: ClassVar[Mapping[str, str]] = {
        "kernel": "vmlinux",
        "initramfs": "initramfs.cpio",
        "disk": "disk.erofs",
    }
    """Form → file in the image's folder, of the forms that are one file."""

    name: str
    content_hash: str
    """SHA-256 of the root filesystem's canonical listing, see `tree.content_hash`."""
    input_hash: str
    """SHA-256 of the recipe, its sources and the builder."""
    folder: Path
    marking: frozenset[str]
    """Commands that push a mark to file descriptor $PYBENCH_MARK_FD as their first instruction."""
    form: str
    """Where a guest finds the root filesystem: `initramfs` or `disk`; empty without a kernel."""
    kernel_release: str
    """`uname -r`; empty where there is no Linux in it."""
    modules: tuple[str, ...]
    """Of the kernel, in the order in which the guest's init loads them."""
    command_line: str
    """The kernel's, as of the build."""
    packages: Mapping[str, str]
    """Debian package → version, of the root filesystem."""
    kernel_packages: Mapping[str, str]
    """Debian package → version, of the guest's kernel."""
    tools: Mapping[str, str]
    """Program that took part in the build → the version it states."""
    sizes: Mapping[str, int]
    """Bytes of `rootfs` and of each form."""
    digests: Mapping[str, str]
    """SHA-256 of each form but `rootfs`, whose hash is `content_hash`."""
    created: str
    """ISO 8601, UTC."""

    @property
    def rootfs(self) -> Path:
        """The root filesystem as a directory."""
        return self.folder / "rootfs"

    @property
    def initramfs(self) -> Path:
        """The guest's init, with the root filesystem unless that is a disk, as an uncompressed cpio archive.

        Raises:
            InputError: the image has no kernel.
        """
        return self._file("initramfs")

    @property
    def kernel(self) -> Path:
        """The guest's kernel: an ELF with a PVH entry.

        Raises:
            InputError: the image has none.
        """
        return self._file("kernel")

    @property
    def disk(self) -> Path | None:
        """The root filesystem as a read-only disk; None where the initramfs holds it."""
        return self.folder / self.FILES["disk"] if "disk" in self.digests else None

    def _file(self, form: str) -> Path:
        if form not in self.digests:
            raise InputError(f"the image {self.name} has no kernel, so no virtual machine can boot it")
        return self.folder / self.FILES[form]

    @property
    def size(self) -> int:
        """Bytes of all forms together."""
        return sum(self.sizes.values())


def write_manifest(image: Image) -> None:
    """Write the manifest into the image's folder; the folder itself is not mentioned in it."""
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "name": image.name,
        "content_hash": image.content_hash,
        "input_hash": image.input_hash,
        "marking": sorted(image.marking),
        "form": image.form,
        "kernel_release": image.kernel_release,
        "modules": list(image.modules),
        "command_line": image.command_line,
        "packages": dict(sorted(image.packages.items())),
        "kernel_packages": dict(sorted(image.kernel_packages.items())),
        "tools": dict(sorted(image.tools.items())),
        "sizes": dict(image.sizes),
        "digests": dict(image.digests),
        "created": image.created,
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (image.folder / MANIFEST).write_text(text, encoding="utf-8")


def read_image(folder: Path) -> Image:
    """Read an image back from its folder, without looking at the content.

    Raises:
        InputError: the manifest is missing or damaged, or a form is missing or of another size.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest.pop("schema") != MANIFEST_SCHEMA:
            raise InputError(f"{path} has another schema than {MANIFEST_SCHEMA}")
        marking, modules = frozenset(manifest["marking"]), tuple(manifest["modules"])
        image = Image(**{**manifest, "folder": folder, "marking": marking, "modules": modules})
        missing = not image.rootfs.is_dir()
        for form in image.digests:
            missing = missing or (folder / Image.FILES[form]).stat().st_size != image.sizes[form]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"its manifest or a file cannot be read ({error})") from error
    if missing:
        raise _damaged(folder, "a file is missing or incomplete")
    return image


def verify(image: Image) -> None:
    """Recompute every hash of the image.

    Raises:
        InputError: its content is not what was built.
    """
    try:
        found = {form: tree.file_hash(image.folder / Image.FILES[form]) for form in image.digests}
        found["rootfs"] = tree.content_hash(image.rootfs)
    except OSError as error:
        raise _damaged(image.folder, f"cannot read {error.filename}: {error.strerror}") from error
    expected = {**image.digests, "rootfs": image.content_hash}
    for form, digest in found.items():
        if digest != expected[form]:
            raise _damaged(image.folder, f"its {form} was changed after the build")


def image_name(folder: Path) -> str:
    """The name of the image in a folder of the cache."""
    return unquote(folder.name.rpartition("-")[0])


def _damaged(folder: Path, problem: str) -> InputError:
    name = image_name(folder)
    return InputError(f"the image in {folder} is damaged: {problem}", f"pybench images build {name}")
