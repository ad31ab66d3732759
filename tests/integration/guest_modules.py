"""An initramfs with modules of the guest's kernel, which the image `minimal` does without."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

from pybench.runtime.vm.initramfs import ArchiveEntry, write_archive
from pybench.vm_images import Image, modules, packages

FOLDER = "/.pybench/modules"
VIRTIO = ("virtio_pci", "virtio_console", "virtio_net")


def write_with_modules(image: Image, output: Path, names: tuple[str, ...] = VIRTIO) -> None:
    """Write the image's initramfs with the modules of those names, and those they need, to `output`."""
    with tempfile.TemporaryDirectory() as unpacked:
        package = next(name for name in image.kernel_packages if image.kernel_release in name)
        packages.unpack(
            packages.download(packages.require_package(package), lambda _text: None), Path(unpacked)
        )
        library = Path(unpacked, "lib/modules", image.kernel_release)
        selected = modules.select_modules(list(names), library, "the test")
    order = "".join(f"{module.name}.ko\n" for module in selected)
    files = [
        ArchiveEntry(f"{FOLDER}/{each.name}.ko", stat.S_IFREG | 0o644, each.content) for each in selected
    ]
    with output.open("xb") as target:
        target.write(image.initramfs.read_bytes())
        write_archive(
            [
                ArchiveEntry(FOLDER, stat.S_IFDIR | 0o755),
                *files,
                ArchiveEntry(f"{FOLDER}/order", stat.S_IFREG | 0o644, order.encode()),
            ],
            target,
        )
