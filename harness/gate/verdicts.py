"""Verdicts of the audit in the record, and what the gate makes of them; pure.

They are not measured with an error, so a change of one needs no support.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pybench.harness.model import Sample
    from pybench.harness.stats import CellKey

PREFIX: Final = "isolation."
UNIT: Final = "verdict"
INDEX: Final = "isolation.leak-index"
"""Sums the verdicts up."""
VERDICT: Final = "verdict"
"""The qualifier that tells a verdict in words."""
LEAK: Final = "leak"
ERROR: Final = "error"


@dataclass(frozen=True, slots=True)
class Worsened:
    """A probe whose verdict became worse on one target."""

    cell: CellKey
    is_leak: bool
    """Otherwise nothing is known of it any more."""
    reason: str
    """The verdict's own, in one line."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A leak that may be there for a while."""

    metric: str
    target: str
    said: str
    """Until when and why."""


def is_verdict(cell: CellKey) -> bool:
    """Whether a cell holds verdicts of the audit rather than measurements."""
    return cell[2].startswith(PREFIX) and cell[3] == UNIT


def has_verdicts(samples: Iterable[Sample]) -> bool:
    """Whether any of them is a verdict of the audit."""
    return any(sample.metric.startswith(PREFIX) and sample.unit == UNIT for sample in samples)


@dataclass(frozen=True, slots=True)
class Held:
    """What one probe said on one target, before and now."""

    cell: CellKey
    before: Sample
    after: Sample


def held(before: Iterable[Sample], after: Iterable[Sample], gates: Callable[[str], bool]) -> list[Held]:
    """The verdicts that can be held against earlier ones.

    A probe that only one of the two audits has is left out: that it leaks is no news of this change.
    """
    earlier, later = _latest(before), _latest(after)
    return [
        Held(cell, earlier[cell], sample)
        for cell, sample in later.items()
        if cell in earlier and gates(cell[2])
    ]


def worsened(verdicts: Iterable[Held]) -> Iterator[Worsened]:
    """What leaks now and did not before, and what was answered before and is not now."""
    for each in verdicts:
        was, now = _outcome(each.before), _outcome(each.after)
        if was != now and now in {LEAK, ERROR}:
            yield Worsened(each.cell, now == LEAK, each.after.reason.split("\n", 1)[0])


def _latest(samples: Iterable[Sample]) -> dict[CellKey, Sample]:
    from pybench.harness.stats import cell_key  # noqa: PLC0415 - numpy is slow to import

    return {cell_key(sample): sample for sample in samples if is_verdict(cell_key(sample))}


def _outcome(sample: Sample) -> str:
    return sample.qualifiers.get(VERDICT, ERROR)
