"""The titles of the audit's probes, for reports, which know no more than what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from pybench.harness.gate.verdicts import UNIT

if TYPE_CHECKING:
    from pybench.harness.model import Sample


def titles_for(samples: Sequence[Sample]) -> Mapping[str, str]:
    """The titles by id, or nothing where no sample is a verdict."""
    if UNIT not in set(map(attrgetter("unit"), samples)):
        return {}
    from pybench.harness.audit.catalogue import catalogue  # noqa: PLC0415 - imports every probe

    return {probe.id: probe.title for probe in catalogue()}
