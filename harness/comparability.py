"""Whether two runs may be compared: where they were obtained must be alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybench.harness.environment import mismatches
from pybench.harness.stats import cells, shared_qualifiers

if TYPE_CHECKING:
    from pybench.harness.model import Environment, Sample

_IMAGE: Final = "image"
"""The qualifier that is usually the very thing compared."""


@dataclass(frozen=True, slots=True)
class FieldMismatch:
    """One field in which two runs differ though it must be equal; None where a run lacks it."""

    field: str
    baseline: str | None
    candidate: str | None

    def __str__(self) -> str:
        return f"{self.field}: {self.baseline or 'unknown'} ≠ {self.candidate or 'unknown'}"


def mismatched_fields(left: Environment, right: Environment) -> tuple[FieldMismatch, ...]:
    """The fields of two fingerprints that forbid a comparison."""
    return tuple(FieldMismatch(name, *values) for name, values in mismatches(left, right).items())


def mismatched_qualifiers(left: Sequence[Sample], right: Sequence[Sample]) -> tuple[FieldMismatch, ...]:
    """The qualifiers of targets that forbid it: emulation against KVM, limits against none.

    A field is `<target>.<qualifier>`; one that is missing on a side is a difference too.
    """
    found: dict[str, FieldMismatch] = {}
    ours, theirs = cells(left), cells(right)
    for cell in ours.keys() & theirs.keys():
        one, other = shared_qualifiers(ours[cell]), shared_qualifiers(theirs[cell])
        for name in sorted((one.keys() | other.keys()) - {_IMAGE}):
            if one.get(name) != other.get(name):
                field = f"{cell[1]}.{name}"
                found[field] = FieldMismatch(field, one.get(name), other.get(name))
    return tuple(found[field] for field in sorted(found))
