"""What the host plants for guests to find; each removes itself and verifies that it is gone."""

from __future__ import annotations

from typing import Final

from pybench.harness.audit.canaries.base import Canary
from pybench.harness.audit.canaries.files import (
    DescriptorCanary,
    SecretFileCanary,
    SetuidFileCanary,
    TemporaryFileCanary,
)
from pybench.harness.audit.canaries.ipc import KeyCanary, LockCanary, PosixCanary, SystemVCanary
from pybench.harness.audit.canaries.kernel_log import KernelLogCanary
from pybench.harness.audit.canaries.mounts import MountingCanary
from pybench.harness.audit.canaries.network import AbstractSocketCanary, FramesCanary, ListenersCanary
from pybench.harness.audit.canaries.page_cache import PageCacheCanary
from pybench.harness.audit.canaries.process import ForkingCanary, ProcessCanary
from pybench.harness.audit.canaries.terminal import TerminalCanary

CANARIES: Final[dict[str, type[Canary]]] = {
    canary.name: canary
    for canary in (
        ProcessCanary,
        ForkingCanary,
        ListenersCanary,
        AbstractSocketCanary,
        FramesCanary,
        TemporaryFileCanary,
        SecretFileCanary,
        SetuidFileCanary,
        DescriptorCanary,
        MountingCanary,
        TerminalCanary,
        SystemVCanary,
        PosixCanary,
        KeyCanary,
        LockCanary,
        KernelLogCanary,
        PageCacheCanary,
    )
}
"""Every canary by its name."""
