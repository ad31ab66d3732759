"""What a scenario asks of a host that it cannot have, told before anything is launched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from pybench.harness.errors import HostError
from pybench.harness.targets import MACHINES
from pybench.harness.units import format_bytes

if TYPE_CHECKING:
    from pybench.harness.model import Combination, Scenario


def check_host(scenario: Scenario) -> None:
    """A guest's memory must fit into the host's; a limit on anything else may be as large as one likes.

    Raises:
        HostError: it does not.
    """
    total = psutil.virtual_memory().total
    for combination in scenario.combinations:
        if combination.target.kind in MACHINES and (asked := _guest_memory(combination)) > total:
            label = f" ({combination.label})" if combination.label else ""
            who = f"one guest of {combination.target.name} for {combination.workload.name}{label}"
            raise HostError(
                f"{scenario.source}: {who} is to have {format_bytes(asked)}, "
                f"and this host has {format_bytes(total)}",
                "lower the target's memory or the workload's limit, or leave it out with --targets",
            )


def _guest_memory(combination: Combination) -> int:
    return max(int(combination.target.options.get("memory", 0)), combination.workload.resources.memory or 0)
