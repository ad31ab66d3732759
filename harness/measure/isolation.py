"""Isolation: the audit of one target, as a measurement of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, field_validator

from pybench.harness.gate.verdicts import INDEX
from pybench.harness.measure.base import Metric, ProcedureSettings, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybench.harness.audit.model import Audit, Probe
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench

METRICS: Final = (
    Metric(INDEX, "%", "leaks by weight over all probes that came out as leak or isolated"),
    Metric("isolation.<probe>", "verdict", "0 isolated, 1 shared by design, 2 leak, -1 not applicable"),
)
_AUDIT_SECONDS: Final = 12.0
"""What the probes take on the reference host, on the target and on the bare process."""
_INSTANCES: Final = 2
"""One that is looked from, and its sibling."""


class IsolationSettings(ProcedureSettings):
    """Options of the audit."""

    probes: Annotated[tuple[str, ...], Field(max_length=200)] = ()
    """Ids, such as N4; with `categories`, those of both; all if neither is named."""
    categories: Annotated[tuple[str, ...], Field(max_length=20)] = ()

    @field_validator("probes", "categories", mode="before")
    @classmethod
    def _is_a_list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("probes")
    @classmethod
    def _are_probes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        _choose(names, ())
        return names

    @field_validator("categories")
    @classmethod
    def _are_categories(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        _choose((), names)
        return names

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """The bare process's audit, and two instances with theirs."""
        return _AUDIT_SECONDS + _INSTANCES * launch


def _choose(probes: tuple[str, ...], categories: tuple[str, ...]) -> tuple[Probe, ...]:
    from pybench.harness.audit.catalogue import choose  # noqa: PLC0415 - only where it is measured
    from pybench.harness.errors import InputError  # noqa: PLC0415

    try:
        return choose(probes, categories)
    except InputError as error:
        raise ValueError(error.message) from error


def measure_isolation(bench: Bench) -> None:
    """A reading for each probe, and the leak index; see `pybench.harness.audit.record` for the values.

    Raises:
        InstanceError: the target cannot be audited.
        LeftoverError: a canary survived its removal.
    """
    from pybench import vm_images  # noqa: PLC0415 - only where it is measured
    from pybench.harness.audit.carry_out import maker_of  # noqa: PLC0415
    from pybench.harness.audit.session import Session  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    options = bench.options(IsolationSettings)
    maker = maker_of(bench.target)
    image = vm_images.find(bench.workload.image)
    probes = _choose(options.probes, options.categories)
    with (
        bench.interruption.deferred(),
        open_journal() as journal,
        Session(journal, image, probes, interruption=bench.interruption) as session,
    ):
        audit = session.audit([maker])
    bench.qualifiers.update(audit.targets[0].qualifiers)
    bench.record(*_readings(audit))


def _readings(audit: Audit) -> Iterator[Reading]:
    from pybench.harness.audit.record import samples  # noqa: PLC0415
    from pybench.harness.audit.results import tally  # noqa: PLC0415

    index = tally(audit.targets[0].label, audit.judged).leak_index
    if index is not None:
        yield Reading(INDEX, "%", index, "audit", 0.0)
    for sample in samples(audit):
        yield Reading(
            sample.metric,
            sample.unit,
            sample.value,
            sample.channel,
            sample.resolution,
            sample.reason,
            qualifiers=sample.qualifiers,
        )
