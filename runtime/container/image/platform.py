"""The platform that images have to be made for, in the words of Go, which OCI uses."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from pybench.runtime.errors import HostError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


def host_platform() -> Platform:
    """This machine.

    Raises:
        HostError: a machine that pybench does not know.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise HostError(f"no images are known for this machine: {machine}")
    return Platform("linux", _ARCHITECTURES[machine])
