"""A line in the kernel's log."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Final

from pybench.harness.audit.canaries.base import Canary, CannotPlantError

_LOG: Final = "/dev/kmsg"


class KernelLogCanary(Canary):
    """One line with a token, of the least urgent level; it stays until others push it out."""

    name = "kernel-log"

    def plant(self, removal: ExitStack) -> None:  # noqa: ARG002 - nobody can take it back
        """Write it (Documentation/ABI/testing/dev-kmsg)."""
        line = f"<7>pybench audit: {self.token()}\n".encode()
        try:
            descriptor = os.open(_LOG, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotPlantError(f"cannot write to {_LOG}: {error.strerror}", "run as root") from error
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
