"""The bare-metal guest that a check of KVM boots first, if there is an image of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.harness.errors import PybenchError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nano"


def nano_kernel() -> Path | None:
    """Its kernel, built if need be, which takes a moment; None where it cannot be had."""
    from pybench import vm_images  # noqa: PLC0415 - only virtual machines need it

    if NAME not in vm_images.recipes():
        return None
    try:
        return vm_images.build(NAME, progress=lambda _text: None).kernel
    except PybenchError:
        return None
