"""The bare-metal guest that a check of KVM boots first, if its image can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybench.harness.errors import PybenchError

if TYPE_CHECKING:
    from pybench.harness.targets.base import ImageFiles

NAME = "nano"


def nano_image() -> ImageFiles | None:
    """Its image, built if need be, which takes a moment; None where the tools for that are missing."""
    from pybench import vm_images  # noqa: PLC0415 - only virtual machines need it

    try:
        return vm_images.build(NAME, progress=lambda _text: None)
    except PybenchError:
        return None
