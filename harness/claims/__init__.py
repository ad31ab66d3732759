"""What people are told about containers and virtual machines, judged by what a run has measured; pure.

A claim is confirmed, refuted, confirmed with limits that have to be said with it, or undecided where what it
takes was not measured. Nothing of this is stored: it follows from the samples of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.claims.cost import COST
from pybench.harness.claims.declared import declared
from pybench.harness.claims.evidence import Evidence
from pybench.harness.claims.model import Claim, Finding, Judged, Verdict
from pybench.harness.claims.separation import SEPARATION

if TYPE_CHECKING:
    from pybench.harness.model import Sample

__all__ = ["CLAIMS", "Claim", "Finding", "Judged", "Verdict", "declared", "judge"]

CLAIMS: Final[dict[str, Claim]] = {claim.name: claim for claim in (*COST, *SEPARATION)}


def judge(names: Iterable[str], samples: Sequence[Sample]) -> tuple[Judged, ...]:
    """What the samples of one run make of some claims; names that are not in the catalogue are left out."""
    evidence = Evidence(samples)
    claims = [CLAIMS[name] for name in dict.fromkeys(names) if name in CLAIMS]
    return tuple(Judged(claim.name, claim.sentence, claim.judge(evidence)) for claim in claims)
