"""OCI images: read from layouts and archives, kept as layers that overlayfs takes, written as archives."""

from __future__ import annotations

from pybench.runtime.container.image.configuration import ImageConfiguration, Platform, host_platform
from pybench.runtime.container.image.export import export_image, export_tree
from pybench.runtime.container.image.limits import DEFAULT_LIMITS, Limits
from pybench.runtime.container.image.merged import flatten
from pybench.runtime.container.image.store import ImageStore
from pybench.runtime.container.image.stored import StoredImage, StoredLayer
from pybench.runtime.container.image.users import User, resolve_user

__all__ = [
    "DEFAULT_LIMITS",
    "ImageConfiguration",
    "ImageStore",
    "Limits",
    "Platform",
    "StoredImage",
    "StoredLayer",
    "User",
    "export_image",
    "export_tree",
    "flatten",
    "host_platform",
    "resolve_user",
]
