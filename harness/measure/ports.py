"""Ports: many instances of one server at once, all on the same port; who gets it, and who answers."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pybench.harness.errors import InputError, PortTakenError
from pybench.harness.measure.base import ProcedureSettings, Reading
from pybench.harness.targets.answer import ASKED_LEVELS, RefusedError, ask
from pybench.harness.targets.base import HasAddress

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.targets.base import Instance

_TAKEN = os.strerror(errno.EADDRINUSE)


class PortsSettings(ProcedureSettings):
    """Options of the measurement of ports."""

    instances: Annotated[int, Field(strict=True, ge=2, le=1000)] = 4
    """How many are started, one after the other, and alive together."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """A launch for each."""
        return self.instances * launch


def measure_ports(bench: Bench) -> None:
    """`ports.answering` and `ports.conflicts`, out of `ports.asked`.

    Every instance is started like any other, with the one before it still there. What cannot have the port
    because an earlier one has it is a conflict, and its own words are kept. Once all are started, each that
    lives is asked again, at its own address; addresses count, so that nobody answers for another.

    Raises:
        InstanceError: an instance failed for another reason.
        InputError: the workload cannot be asked.
    """
    if bench.workload.readiness.level not in ASKED_LEVELS:
        raise InputError(
            f"workload {bench.workload.name} is not asked over the network, so no port can be in conflict",
            "readiness: {level: http, port: 80}",
        )
    wanted = bench.options(PortsSettings).instances
    instances: list[Instance] = []
    conflicts: list[str] = []
    for _ in range(wanted):
        try:
            instances.append(bench.launch())
        except PortTakenError as error:
            conflicts.append(_TAKEN if _TAKEN in error.log else error.message)
    answering, silent = _ask_all(bench, instances)
    said = {"conflict": conflicts[0]} if conflicts else {}
    if silent:
        said["silent"] = silent
    for metric, count in (
        ("answering", len(answering)),
        ("conflicts", len(conflicts)),
        ("asked", wanted),
    ):
        name = f"ports.{metric}"
        bench.record(Reading(name, "", float(count), "http-answer", 0.0, error=0.0, qualifiers=said))


def _ask_all(bench: Bench, instances: list[Instance]) -> tuple[set[str], str]:
    """The addresses that answer while all instances live, and what the last one that does not said."""
    answering, silent = set(), ""
    for instance in instances:
        address = instance.address if isinstance(instance, HasAddress) else ""
        try:
            ask(bench.workload.readiness, address)
        except RefusedError as error:
            silent = error.problem
        else:
            answering.add(address)
    return answering, silent
