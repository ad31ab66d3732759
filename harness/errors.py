"""The errors of the harness; the base classes come from the runtime, the lowest layer."""

from __future__ import annotations

from pybench.runtime.errors import HostError, InputError, InstanceError, LeftoverError, PybenchError

__all__ = ["HostError", "InputError", "InstanceError", "LeftoverError", "PortTakenError", "PybenchError"]


class PortTakenError(InstanceError):
    """An instance could not have its port, because an earlier one of the same workload has it."""
