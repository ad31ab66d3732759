"""What a scenario asks of a host that it cannot have, told before anything is launched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from pybench.harness.errors import HostError
from pybench.harness.runner.tuning import check_processors
from pybench.harness.targets import MACHINES
from pybench.harness.units import format_bytes

if TYPE_CHECKING:
    from pybench.harness.model import Combination, Scenario


def check_host(scenario: Scenario) -> None:
    """What must be there: memory for a guest and for what is left alone, and the processors to be held to.

    A limit on anything else may be as large as one likes.

    Raises:
        HostError: it is not.
    """
    check_processors(scenario.schedule.cpus)
    total = psutil.virtual_memory().total
    for choice in scenario.measurements:
        if (reserve := int(choice.options.get("reserve", 0))) >= total:
            raise HostError(
                f"{scenario.source}: measure.{choice.name}.reserve: {format_bytes(reserve)} are to be left "
                f"alone, and this host has {format_bytes(total)}",
                "lower it: nothing could be started",
            )
    for combination in scenario.combinations:
        if combination.target.kind in MACHINES:
            label = f" ({combination.label})" if combination.label else ""
            who = f"one guest of {combination.target.name} for {combination.workload.name}{label}"
            check_guest_memory(
                _guest_memory(combination),
                f"{scenario.source}: {who}",
                "lower the target's memory or the workload's limit, or leave it out with --targets",
            )


def check_guest_memory(asked: int, who: str, hint: str) -> None:
    """Hold the `asked` bytes of a guest against what this host has.

    Raises:
        HostError: it has less; the message begins with `who`.
    """
    total = psutil.virtual_memory().total
    if asked > total:
        raise HostError(
            f"{who} is to have {format_bytes(asked)}, and this host has {format_bytes(total)}", hint
        )


def _guest_memory(combination: Combination) -> int:
    return max(int(combination.target.options.get("memory", 0)), combination.workload.resources.memory or 0)
