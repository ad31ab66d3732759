"""What a guest's init says on the way, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.runtime.vm.progress import MachineSpec, Progress


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("mount /.pybench/lower: No such device", "(its kernel does not know the file system"),
        (
            "mount /.pybench/lower: No such file or directory",
            "(its kernel has no driver for the image's disk",
        ),
        ("mount /.pybench/merged: No such device", "(its kernel has no overlayfs"),
        ("mount /proc: No such device", ""),
    ],
)
def test_a_kernel_that_lacks_what_a_disk_needs_is_told(said: str, meaning: str) -> None:
    """Init's words come first; where they mean that the kernel lacks something, that follows."""
    progress = Progress(MachineSpec(Path("vmlinux"), Path("initramfs"), "", 1 << 28))
    progress.hear(f"error {said}", 0)
    assert progress.ended.startswith(f"the guest's init failed: {said}")
    assert meaning in progress.ended
    assert ("(" in progress.ended) == bool(meaning)
