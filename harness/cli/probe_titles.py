"""The titles of the audit's probes, for reports, which know no more than what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pybench.harness.verdicts import UNIT

if TYPE_CHECKING:
    from pybench.harness.model import Sample


def probe_titles() -> Mapping[str, str]:
    """The titles by id."""
    from pybench.harness.audit.catalogue import catalogue  # noqa: PLC0415 - imports every probe

    return {probe.id: probe.title for probe in catalogue()}


def titles_for(samples: Sequence[Sample]) -> Mapping[str, str]:
    """The same, or nothing where no sample is a verdict."""
    return probe_titles() if any(sample.unit == UNIT for sample in samples) else {}
