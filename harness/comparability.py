"""Whether two cells may be compared: how they were obtained must be alike, as the environments must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.environment import Mismatch
from pybench.harness.gate.verdicts import VERDICT
from pybench.harness.looks import LOOKS
from pybench.harness.stats import cells, counts, shared_qualifiers

if TYPE_CHECKING:
    from pybench.harness.model import Sample

_MAY_DIFFER: Final = frozenset({"image", LOOKS, VERDICT, "severity", "spread"})
"""The image is usually the very thing compared, and a verdict is; the number of looks moves no value; how far
the passes of one measurement lie apart was measured itself."""


def mismatched_qualifiers(left: Sequence[Sample], right: Sequence[Sample]) -> tuple[Mismatch, ...]:
    """The qualifiers of targets that forbid it: emulation against KVM, limits against none.

    A field is `<target>.<qualifier>`; one that is missing on a side is a difference too. Only samples that
    count are looked at: of a launch that failed nothing is known.
    """
    found: dict[str, Mismatch] = {}
    ours, theirs = cells(filter(counts, left)), cells(filter(counts, right))
    for cell in ours.keys() & theirs.keys():
        one, other = shared_qualifiers(ours[cell]), shared_qualifiers(theirs[cell])
        for name in sorted((one.keys() | other.keys()) - _MAY_DIFFER):
            if one.get(name) != other.get(name):
                field = f"{cell[1]}.{name}"
                found[field] = Mismatch(field, one.get(name), other.get(name))
    return tuple(found[field] for field in sorted(found))
